"""The stage on real tables: against brute force, batch after batch, and its guards."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import write_parquet
from planted import planted, shingle_set, similar_pairs

from betr_spark.config import Config, DedupConfig
from betr_spark.dedup import guards, history
from betr_spark.dedup.evaluation import evaluate
from betr_spark.errors import DataError
from betr_spark.pipeline.run import run_all
from betr_spark.scoring import artifact
from betr_spark.scoring.ngram_table import NgramTable
from betr_spark.storage.runs import StageRun

Row = dict[str, Any]
SIMILARITY = 0.75


def configured(spark: Any, folder: Path, **dedup: Any) -> Config:
    config = Config.model_validate(
        {
            "input": {"path": str(folder / "docs"), "id": "id", "source": "source"},
            "output": str(folder / "out"),
            "targets": {"t": {"path": "none", "template": "{q}"}},
            "minhash": {"bands": 32, "rows": 4},  # finds nearly all pairs of 0.75
            "dedup": {"similarity": SIMILARITY, **dedup},
        }
    )
    weights = np.random.default_rng(0).normal(size=997).astype(np.float32)
    table = NgramTable.build(["none"], np.ones(1, np.float32), weights, word_ngrams=2)
    artifact.save(spark, config.table("scorers/betr"), table, {"name": "betr"})
    return config


def run(spark: Any, config: Config) -> StageRun:
    run_all(spark, config, "features")
    return run_all(spark, config, "dedup")[0]


def duplicates(spark: Any, config: Config) -> dict[str, Row]:
    rows = spark.read.format("delta").load(config.table("duplicates")).collect()
    found = {row["doc_id"]: row.asDict() for row in rows}
    assert len(found) == len(rows)
    return found


def in_ranking_order(spark: Any, config: Config) -> list[str]:
    rows = (
        spark.read.format("delta")
        .load(config.table("features"))
        .selectExpr("doc_id", "-logit_betr l", "xxhash64(doc_id) h")
    )
    return [row["doc_id"] for row in rows.where("l is not null").orderBy("l", "h").collect()]


def by_the_rule(batches: list[list[Row]], order: list[str]) -> dict[str, str]:
    """The documented rule, one document after the other: removed, and what is kept for it."""
    rows = [row for batch in batches for row in batch]
    number = {row["id"]: i for i, row in enumerate(rows)}
    near = similar_pairs([row["text"] for row in rows], SIMILARITY)
    rank_key = {doc: i for i, doc in enumerate(order)}
    kept: list[str] = []
    removed: dict[str, str] = {}
    for batch in batches:
        representative: dict[str, str] = {}
        previously_kept = list(kept)
        known = {row["text"]: removed.get(row["id"], row["id"]) for row in rows if row["id"] in {*kept, *removed}}
        for row in sorted(batch, key=lambda row: rank_key[row["id"]]):
            doc = row["id"]
            if row["text"] in known:
                removed[doc] = known[row["text"]]
            elif row["text"] in representative:
                first = representative[row["text"]]
                removed[doc] = removed.get(first, first)
            else:
                representative[row["text"]] = doc
                keepers = [o for o in kept if tuple(sorted((number[doc], number[o]))) in near]
                stays = [o for o in keepers if o in previously_kept] or keepers
                if stays:
                    removed[doc] = min(stays, key=rank_key.__getitem__)
                else:
                    kept.append(doc)
    return removed


@pytest.fixture(scope="module")
def corpus() -> list[Row]:
    rows = planted(groups=4, identical=200)
    return [row for row in rows if len(row["text"].split()) <= 400 or row["source"] == "exact"]


@pytest.fixture(scope="module")
def whole(spark: Any, tmp_path_factory: pytest.TempPathFactory, corpus: list[Row]) -> Config:
    folder = tmp_path_factory.mktemp("whole")
    write_parquet(folder / "docs", corpus)
    config = configured(spark, folder)
    run(spark, config)
    return config


def test_what_is_removed_is_what_brute_force_and_the_rule_say(spark: Any, whole: Config, corpus: list[Row]) -> None:
    found, order = duplicates(spark, whole), in_ranking_order(spark, whole)
    assert {doc: row["kept_doc_id"] for doc, row in found.items()} == by_the_rule([corpus], order)
    text = {row["id"]: row["text"] for row in corpus}
    for doc, row in found.items():
        one, other = shingle_set(text[doc]), shingle_set(text[row["kept_doc_id"]])
        true = len(one & other) / max(1, len(one | other))
        if row["evidence"] == "shingles":
            assert row["similarity"] == np.float32(true) >= SIMILARITY
        elif row["evidence"] == "signature":
            assert true >= SIMILARITY
            assert row["similarity"] == pytest.approx(true, abs=0.12)
        else:
            assert (row["kind"], text[doc]) == ("exact", text[row["kept_doc_id"]])
    assert {row["evidence"] for row in found.values()} == {"shingles", "signature", "content_hash"}
    kept = [row for row in corpus if row["id"] not in found]
    assert sum(row["source"] == "identical" for row in kept) == 1
    assert sum(row["source"] == "short" for row in kept) == sum(row["source"] == "short" for row in corpus)
    assert sum(row["source"] == "template" for row in kept) == sum(row["source"] == "template" for row in corpus)


def test_guards_stop_before_anything_is_written_and_say_what_to_look_at(spark: Any, whole: Config) -> None:
    before = duplicates(spark, whole)
    changed = {"similarity": SIMILARITY, "max_source_loss": 0.9, "max_component": 100}
    config = whole.model_copy(update={"dedup": DedupConfig.model_validate(changed)})
    with pytest.raises(DataError) as error:
        run_all(spark, config, "dedup")
    lines = str(error.value).splitlines()
    losses = [line for line in lines if "would lose" in line]
    wanted = "dedup: source 'identical' would lose 199 of 200 documents (99.5%); dedup.max_source_loss is 0.9"
    assert losses[0] == wanted
    assert any(line.startswith("dedup: source 'copies' would lose 19 of 20 documents (95.0%)") for line in losses)
    assert len([line for line in lines if "has 200 documents; dedup.max_component is 100" in line]) == 1
    assert any(line.startswith("    kept 'identical-0-") for line in lines)
    assert lines[-1] == "dedup: nothing was written; where this is as it should be, raise the limit by --set"
    assert duplicates(spark, whole) == before


def test_guards_let_pass_what_reaches_the_limit_and_no_more(spark: Any, whole: Config) -> None:
    documents = spark.read.format("delta").load(whole.table("features"))
    rows = (
        spark.read.format("delta").load(whole.table("duplicates")).join(documents.select("doc_id", "source"), "doc_id")
    )
    allowed = {"similarity": SIMILARITY, "max_source_loss": 199 / 200, "max_component": 200}
    config = whole.model_copy(update={"dedup": DedupConfig.model_validate(allowed)})
    found = guards.check(rows, documents, config)
    assert found[0] == documents.count()
    assert found[1:3] == tuple(rows.where(f"kind = '{kind}'").count() for kind in ("exact", "near"))
    assert found[3:] == (200, 199 / 200)


def test_features_without_the_survivor_s_scores_are_named(spark: Any, whole: Config) -> None:
    values = {**whole.model_dump(), "scorers": {"betr": {}, "other": {}}, "dedup": {"survivor": "other"}}
    with pytest.raises(DataError, match=r"features: no column 'logit_other'; `betr-spark features` makes it"):
        run_all(spark, Config.model_validate(values), "dedup")


def test_features_of_another_sketch_are_refused_and_leftovers_cleared(spark: Any, whole: Config) -> None:
    other = whole.model_copy(update={"minhash": whole.minhash.model_copy(update={"ngram": 2})})
    with pytest.raises(
        DataError, match=r"features: made with minhash.ngram 5, the configuration has 2; `betr-spark features`"
    ):
        run_all(spark, other, "dedup")
    left = [Path(whole.table(name)) for name in ("_scratch/dedup/3", "_components/0123")]
    for folder in left:
        folder.mkdir(parents=True)
    assert run_all(spark, whole, "dedup")[0].skipped
    assert not any(folder.exists() for folder in left)


def test_evaluation_counts_what_was_missed_and_what_was_wrong(spark: Any, whole: Config, corpus: list[Row]) -> None:
    found = evaluate(spark, whole, documents=10_000, seed=0)
    texts = list(dict.fromkeys(row["text"] for row in corpus if shingle_set(row["text"])))
    near = similar_pairs(texts, SIMILARITY)
    assert found.n_documents == found.n_sampled == len(texts)
    assert sum(share.of for share in found.recall) == 2 * len(near)  # seen from both ends
    assert all(share.n == share.of for share in [*found.recall, *found.precision])
    removed = [row for row in duplicates(spark, whole).values() if row["kind"] == "near"]
    assert sum(share.of for share in found.precision) == len(removed)
    assert found.n_components == len({row["component_id"] for row in removed})
    assert found.inside.n >= len({row["doc_id"] for row in removed})
    assert found.both_kept.n == 0


def make_unreadable(file: Path) -> None:
    """Overwrite all but the footer; size and time stay, so that the file does not look changed."""
    about, raw = file.stat(), file.read_bytes()
    footer = 8 + int.from_bytes(raw[-8:-4], "little")
    file.write_bytes(raw[:4] + b"x" * (len(raw) - footer - 4) + raw[-footer:])
    os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))


def days(corpus: list[Row]) -> list[list[Row]]:
    """Three batches. The third holds copies of the first two's documents, and what is like none of them."""
    bases = [row for row in corpus if row["source"].startswith(("edit", "exact", "cjk", "chain", "truncated"))]
    third = [{**row, "id": f"again-{row['id']}"} for row in bases[::9]] + [r for r in corpus if r["source"] == "short"]
    return [bases[::2], bases[1::2], third]


@pytest.fixture(scope="module")
def incremental(
    spark: Any, tmp_path_factory: pytest.TempPathFactory, corpus: list[Row]
) -> tuple[Config, list[StageRun]]:
    folder = tmp_path_factory.mktemp("days")
    config, runs = configured(spark, folder), []
    for number, batch in enumerate(days(corpus)):
        if number == 2:
            for file in (folder / "docs").glob("*.parquet"):
                make_unreadable(file)
        write_parquet(folder / "new", batch, files=2)
        (folder / "docs").mkdir(exist_ok=True)
        for file in (folder / "new").iterdir():
            file.rename(folder / "docs" / f"day-{number}-{file.name}")
        runs.append(run(spark, config))
    return config, runs


def test_three_batches_end_as_the_rule_says(spark: Any, incremental: Any, corpus: list[Row]) -> None:
    config, runs = incremental
    wanted = by_the_rule(days(corpus), in_ranking_order(spark, config))
    assert {doc: row["kept_doc_id"] for doc, row in duplicates(spark, config).items()} == wanted
    assert [done.rows_in for done in runs] == [sum(map(len, days(corpus)[: i + 1])) for i in range(3)]
    assert runs[1].metrics["texts_previously_kept"] > 0
    assert (runs[2].metrics["texts_previously_kept"], runs[2].metrics["texts_new"]) == (0, 0)
    assert run_all(spark, config, "dedup")[0].skipped


def test_replace_forgets_what_is_published_and_so_does_another_rule(spark: Any, incremental: Any) -> None:
    config, _ = incremental
    checkpoint, batch = history.newest_batch(spark, config)

    def previously_kept(checkpoint: str, **changed: Any) -> Any:
        settings = DedupConfig.model_validate({"similarity": SIMILARITY, **changed})
        return history.find_history(spark, config.model_copy(update={"dedup": settings}), checkpoint)

    assert previously_kept(checkpoint).batch == batch == 2
    assert previously_kept(checkpoint, max_component=9).batch == 2  # a guard is no part of the rule
    assert previously_kept(checkpoint, history="replace") is None
    assert previously_kept(checkpoint, similarity=0.8) is None
    assert previously_kept("another") is None
