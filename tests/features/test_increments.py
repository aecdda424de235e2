"""The features stage alone, on a scorer made by hand: hashed ids, quarantine, Delta sources, duplicate ids."""

import json
import os
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import write_parquet

from betr_spark.config import Config
from betr_spark.errors import DataError
from betr_spark.features.batch_writer import BatchWriter
from betr_spark.features.stage import Features
from betr_spark.pipeline.run import run_all
from betr_spark.pipeline.stage import RunContext
from betr_spark.scoring import artifact
from betr_spark.scoring.ngram_table import NgramTable
from betr_spark.storage import delta
from betr_spark.storage.runs import StageRun


def configured(spark: Any, tmp_path: Path, **source: Any) -> Config:
    config = Config.model_validate(
        {
            "input": {"path": str(tmp_path / "docs"), "source": "source", **source},
            "output": str(tmp_path / "out"),
            "targets": {"t": {"path": "none", "template": "{q}"}},
        }
    )
    table = NgramTable.build(["good"], np.ones(1, np.float32), np.zeros(8, np.float32), word_ngrams=2)
    artifact.save(spark, config.table("scorers/betr"), table, {"name": "betr"})
    return config


def rows(spark: Any, config: Config, table: str = "features") -> list[Any]:
    found: list[Any] = spark.read.format("delta").load(config.table(table)).collect()
    return found


def run(spark: Any, config: Config) -> StageRun:
    return run_all(spark, config, "features")[0]


def document(text: str | None, source: str = "s", doc_id: str | None = None) -> dict[str, Any]:
    return {"text": text, "source": source} if doc_id is None else {"id": doc_id, "text": text, "source": source}


def test_copies_of_a_text_are_one_document_across_increments(spark: Any, tmp_path: Path) -> None:
    config = configured(spark, tmp_path)
    path = write_parquet(tmp_path / "docs", [document("good one", "z"), document("good one", "a"), document("two")])
    first = run(spark, config)
    assert (first.rows_in, first.rows_out, first.dropped) == (3, 2, {"copies": 1})
    write_parquet(tmp_path / "more", [document("two"), document("three"), document(None)])
    (tmp_path / "more/part-0.parquet").rename(path / "part-8.parquet")
    second = run(spark, config)
    assert (second.rows_in, second.rows_out, second.dropped) == (6, 3, {"copies": 2, "null_text": 1})
    found = {row["n_words"]: row for row in rows(spark, config)}
    assert len(rows(spark, config)) == 3
    assert found[2]["source"] == "a"  # of the copies, the least source
    assert run(spark, config).skipped


@pytest.mark.parametrize("lost", ["_checkpoints", "both"])
def test_no_document_is_lost_with_the_checkpoints(spark: Any, tmp_path: Path, lost: str) -> None:
    config = configured(spark, tmp_path)
    path = write_parquet(tmp_path / "docs", [document("one"), document("two")])
    run(spark, config)
    for name in ("_checkpoints", "_inputs") if lost == "both" else (lost,):
        shutil.rmtree(tmp_path / "out" / name)
    write_parquet(tmp_path / "more", [document("three")])
    (tmp_path / "more/part-0.parquet").rename(path / "part-8.parquet")
    done = run(spark, config)
    assert (done.rows_in, done.rows_out) == (3, 3)
    assert len(rows(spark, config)) == 3


@pytest.mark.parametrize(("damaged", "kept"), [("metadata", 0.5), ("offsets/0", 0.0), ("sources/0/0", None)])
def test_a_damaged_checkpoint_is_not_continued_with(
    spark: Any, tmp_path: Path, damaged: str, kept: float | None
) -> None:
    config = configured(spark, tmp_path)
    path = write_parquet(tmp_path / "docs", [document("one"), document("two")])
    run(spark, config)
    (checkpoint,) = (tmp_path / "out/_checkpoints/features").iterdir()
    file = checkpoint / damaged
    file.with_name(f".{file.name}.crc").unlink()
    if kept is None:
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[: int(kept * file.stat().st_size)])
    write_parquet(tmp_path / "more", [document("three")])
    (tmp_path / "more/part-0.parquet").rename(path / "part-8.parquet")
    done = run(spark, config)
    assert (done.rows_in, done.rows_out) == (3, 3)
    assert len({row["doc_id"] for row in rows(spark, config)}) == 3
    assert run(spark, config).skipped


@pytest.mark.parametrize("earlier", ["features", "_checkpoints"])
def test_a_table_or_checkpoint_that_is_restored_from_a_copy_loses_no_document(
    spark: Any, tmp_path: Path, earlier: str
) -> None:
    config = configured(spark, tmp_path)
    path, out = write_parquet(tmp_path / "docs", [document("one"), document("two")]), tmp_path / "out"
    run(spark, config)
    shutil.copytree(out / earlier, tmp_path / "copy")
    for name in ("three", "four"):
        write_parquet(tmp_path / "more", [document(name)])
        (tmp_path / "more/part-0.parquet").rename(path / f"{name}.parquet")
        if name == "three":
            run(spark, config)
    config = config.model_copy(update={"output": str(tmp_path / "restored")})  # Delta remembers the commits of a path
    out.rename(tmp_path / "restored")
    shutil.rmtree(tmp_path / "restored" / earlier)
    (tmp_path / "copy").rename(tmp_path / "restored" / earlier)
    done = run(spark, config)
    assert (done.rows_in, done.rows_out) == (4, 4)
    assert len({row["doc_id"] for row in rows(spark, config)}) == 4


def test_a_duplicate_id_stops_the_increment_and_writes_nothing(spark: Any, tmp_path: Path) -> None:
    config = configured(spark, tmp_path, id="id")
    path = write_parquet(tmp_path / "docs", [document("one", doc_id="a"), document("two", doc_id="b")])
    run(spark, config)
    write_parquet(tmp_path / "more", [document("other", doc_id="c"), document("again", doc_id="b")])
    (tmp_path / "more/part-0.parquet").rename(path / "part-8.parquet")
    files = set((tmp_path / "out/features").rglob("*.parquet"))
    for _ in range(2):
        with pytest.raises(DataError, match="duplicate ids, for example 'b'"):
            run(spark, config)
    assert set((tmp_path / "out/features").rglob("*.parquet")) == files
    assert sorted(row["doc_id"] for row in rows(spark, config)) == ["a", "b"]
    (path / "part-8.parquet").unlink()
    write_parquet(tmp_path / "more", [document("other", doc_id="c")])
    (tmp_path / "more/part-0.parquet").rename(path / "part-9.parquet")
    assert run(spark, config).rows_out == 3


def test_a_delta_source_is_followed_and_a_changed_one_read_again(spark: Any, tmp_path: Path) -> None:
    config = configured(spark, tmp_path, id="id", format="delta")

    def write(mode: str, *documents: dict[str, Any]) -> None:
        frame = spark.createDataFrame(
            [(d["id"], d["text"], d["source"]) for d in documents], "id string, text string, source string"
        )
        frame.write.format("delta").mode(mode).save(config.input.path)

    write("append", document("one", doc_id="a"), document("two", doc_id="b"))
    assert run(spark, config).rows_out == 2
    write("append", document("three", doc_id="c"))
    assert run(spark, config).rows_in == 3
    spark.sql(f"UPDATE delta.`{config.input.path}` SET text = 'good two words' WHERE id = 'b'")
    done = run(spark, config)
    assert (done.rows_in, done.rows_out) == (3, 3)
    assert Counter(row["n_words"] for row in rows(spark, config)) == {1: 2, 3: 1}
    assert run(spark, config).skipped


def test_a_new_file_with_an_old_time_is_read_and_a_changed_one_starts_anew(spark: Any, tmp_path: Path) -> None:
    config = configured(spark, tmp_path)
    path = write_parquet(tmp_path / "docs", [document("one"), document("two")])
    run(spark, config)
    write_parquet(tmp_path / "more", [document("three")])
    os.utime(tmp_path / "more/part-0.parquet", (0, 0))  # as cp -p, rsync and tar leave it
    (tmp_path / "more/part-0.parquet").rename(path / "part-8.parquet")
    new, whole = r"about \d+ s for 0.0 MB of new files, at the last run's rate", r"about \d+ s for 0.0 MB to read, at"
    other = config.model_copy(update={"minhash": config.minhash.model_copy(update={"seed": 5})})
    for settings, estimate in ((config, new), (other, whole)):
        assert re.match(estimate, Features().estimate(RunContext(spark, settings)) or "")
    done = run(spark, config)
    assert (done.rows_in, done.metrics["rows_new"]) == (3, 1)
    write_parquet(path, [document("four")])  # the first file again, shorter
    done = run(spark, config)
    assert (done.rows_in, done.rows_out, done.metrics["rows_new"]) == (2, 2, 2)


def test_there_is_no_estimate_with_a_direct_scorer_whose_key_exists_after_rank_alone() -> None:
    config = Config.model_validate({
        "input": {"path": "docs"}, "output": "out", "encoder": {"mode": "direct"},
        "targets": {"t": {"path": "t.jsonl", "template": "{q}"}},
    })  # fmt: skip
    assert config.direct()
    assert Features().estimate(RunContext(None, config)) is None  # type: ignore[arg-type]


def test_a_delta_source_may_be_made_anew_vacuumed_or_get_another_schema(spark: Any, tmp_path: Path) -> None:
    config = configured(spark, tmp_path, format="delta")

    def write(texts: list[str], mode: str = "append", columns: str = "text string, source string") -> None:
        frame = spark.createDataFrame([(text, "s", 1)[: columns.count(",") + 1] for text in texts], columns)
        frame.write.format("delta").mode(mode).option("overwriteSchema", mode == "overwrite").save(config.input.path)

    write(["one", "two"])
    assert run(spark, config).rows_in == 2
    shutil.rmtree(config.input.path)
    write(["three", "four", "five"])  # one commit, as before
    assert run(spark, config).rows_in == 3
    write(["six"])
    write(["seven"])
    spark.conf.set("spark.databricks.delta.retentionDurationCheck.enabled", "false")
    spark.sql(f"OPTIMIZE delta.`{config.input.path}`")
    spark.sql(f"VACUUM delta.`{config.input.path}` RETAIN 0 HOURS")
    spark.conf.unset("spark.databricks.delta.retentionDurationCheck.enabled")
    assert run(spark, config).rows_in == 5
    write(["eight"], "overwrite", "text string, source string, more int")
    done = run(spark, config)
    assert (done.rows_in, done.rows_out) == (1, 1)


def test_housekeeping_by_the_user_is_not_work(spark: Any, tmp_path: Path) -> None:
    config = configured(spark, tmp_path)
    write_parquet(tmp_path / "docs", [document(f"text {i}") for i in range(20)], files=3)
    run(spark, config)
    spark.sql(f"OPTIMIZE delta.`{config.table('features')}`")
    assert run(spark, config).skipped


@pytest.mark.parametrize("gone", ["features", "quarantine"])
def test_a_deleted_table_is_made_anew(spark: Any, tmp_path: Path, gone: str) -> None:
    config = configured(spark, tmp_path)
    write_parquet(tmp_path / "docs", [document("one"), document("two"), document(None)])
    run(spark, config)
    shutil.rmtree(config.table(gone))
    done = run(spark, config)
    assert not done.skipped
    assert len(rows(spark, config)) == 2
    assert len(rows(spark, config, "quarantine")) == 1


def test_scores_come_from_the_folded_table(spark: Any, tmp_path: Path) -> None:
    config = configured(spark, tmp_path, id="id")
    write_parquet(
        tmp_path / "docs", [document("good", doc_id="a"), document("bad", doc_id="b"), document("\u3000 ", doc_id="c")]
    )
    run(spark, config)
    found = {row["doc_id"]: row for row in rows(spark, config)}
    assert found["a"]["logit_betr"] == 0.5  # the word's 1 and a bigram's 0
    assert found["b"]["logit_betr"] == 0.0
    assert found["c"]["logit_betr"] is None
    assert found["c"]["n_words"] == 0
    assert found["a"]["bands"] is None
    assert found["a"]["signature"] is None


def test_a_text_that_is_not_utf8_is_quarantined_by_the_pass(spark: Any, tmp_path: Path) -> None:
    config = configured(spark, tmp_path, id="id")
    (tmp_path / "docs").mkdir()
    texts = pa.array([b"good one", b"bad \xff\xfe", None, "gr\u00fc\u00dfe".encode()], pa.binary()).view(pa.string())
    table = pa.table({"id": ["a", "b", "c", "d"], "source": ["s"] * 4, "text": texts})
    pq.write_table(table, tmp_path / "docs/part-0.parquet")
    found = run(spark, config)
    assert (found.rows_in, found.rows_out, found.dropped) == (4, 2, {"invalid_utf8": 1, "null_text": 1})
    bad = {row["reason"]: row for row in rows(spark, config, "quarantine")}
    assert json.loads(bad["invalid_utf8"]["row"]) == {"doc_id": "b", "source": "s", "text": "bad \ufffd\ufffd"}
    assert bad["invalid_utf8"]["detail"] == "the text is not UTF-8"
    assert all(row["input_file"].endswith("part-0.parquet") for row in bad.values())


_NOT_UTF8 = [
    b"\x80", b"a\xc3", b"\xc0\x80", b"\xc1\xbf", b"\xe0\x80\x80", b"\xe0\x9f\xbf", b"\xed\xa0\x80", b"\xed\xbf\xbf b",
    b"\xf0\x80\x80\x80", b"\xf0\x8f\xbf\xbf", b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"\xff", b"\xe2\x82", b"\xf0\x9f\x98",
]  # fmt: skip
_UTF8 = ["\x00", "\x7f", "\x80", "\u07ff", "\u0800", "\ud7ff", "\ue000", "\uffff", "\U00010000", "\U0010ffff"]


def test_every_row_that_the_pass_keeps_out_of_features_is_in_quarantine(spark: Any, tmp_path: Path) -> None:
    config = configured(spark, tmp_path, id="id")
    (tmp_path / "docs").mkdir()
    texts = [*_NOT_UTF8, *(text.encode() for text in _UTF8)]
    ids = [f"{n:02d}" for n in range(len(texts))]
    column = pa.array(texts, pa.binary()).view(pa.string())
    pq.write_table(pa.table({"id": ids, "source": ["s"] * len(texts), "text": column}), tmp_path / "docs/a.parquet")
    done = run(spark, config)
    assert (done.rows_in, done.rows_out, done.dropped) == (25, 10, {"invalid_utf8": 15})
    assert sorted(row["doc_id"] for row in rows(spark, config, "quarantine")) == ids[:15]


def test_killed_between_the_commits_of_two_tables(spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = configured(spark, tmp_path, id="id")
    path = write_parquet(tmp_path / "docs", [document("one", doc_id="a"), document(None, doc_id="b")])
    for number, bad in enumerate(["b", "bd"]):
        versions = delta.newest_version(spark, config.table("features"))
        with monkeypatch.context() as patch:
            patch.setattr(BatchWriter, "_commit", lambda *_: 1 / 0)
            with pytest.raises(Exception, match="division by zero"):
                run(spark, config)
        assert delta.newest_version(spark, config.table("features")) == versions + 1
        run(spark, config)
        assert sorted(row["doc_id"] for row in rows(spark, config, "quarantine")) == [*bad]
        assert Counter(row["batch"] for row in rows(spark, config)) == Counter(range(number + 1))
        write_parquet(tmp_path / "more", [document("three", doc_id="c"), document(None, doc_id="d")])
        (tmp_path / "more/part-0.parquet").rename(path / "part-8.parquet")
