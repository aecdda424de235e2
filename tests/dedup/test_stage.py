"""The stage on real tables: compared with brute force, batch after batch, and its guards."""

import os
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import write_parquet
from planted import planted, shingle_set, similar_pairs

from betr_spark.config import Config, DedupConfig
from betr_spark.dedup import candidates, components, guards, rank_keys, verification
from betr_spark.dedup.evaluation import evaluate
from betr_spark.dedup.history import History, newest_batch, read_history
from betr_spark.errors import DataError
from betr_spark.pipeline.run import run_all
from betr_spark.pipeline.stage import RunContext
from betr_spark.scoring import artifact
from betr_spark.scoring.ngram_table import NgramTable
from betr_spark.storage import delta
from betr_spark.storage import scratch as storage_scratch
from betr_spark.storage.runs import StageRun, made_by

Row = dict[str, Any]
SIMILARITY = 0.75
BANDS, ROWS = 32, 4  # finds nearly all pairs of 0.75


def configured(spark: Any, folder: Path, **dedup: Any) -> Config:
    config = Config.model_validate(
        {
            "input": {"path": str(folder / "docs"), "id": "id", "source": "source"},
            "output": str(folder / "out"),
            "targets": {"t": {"path": "none", "template": "{q}"}},
            "minhash": {"bands": BANDS, "rows": ROWS},
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
    by_id = {row["doc_id"]: row.asDict() for row in rows}
    assert len(by_id) == len(rows)
    return by_id


def in_ranking_order(spark: Any, config: Config) -> list[str]:
    rows = (
        spark.read.format("delta")
        .load(config.table("features"))
        .selectExpr("doc_id", "-logit_betr l", "xxhash64(doc_id) h")
    )
    return [row["doc_id"] for row in rows.where("l is not null").orderBy("l", "h").collect()]


def by_the_rule(batches: list[list[Row]], order: list[str]) -> dict[str, str]:
    """The documented rule, document by document: removed documents, and the document that is kept for each."""
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
    removed, order = duplicates(spark, whole), in_ranking_order(spark, whole)
    assert {doc: row["kept_doc_id"] for doc, row in removed.items()} == by_the_rule([corpus], order)
    text = {row["id"]: row["text"] for row in corpus}
    for doc, row in removed.items():
        left, right = shingle_set(text[doc]), shingle_set(text[row["kept_doc_id"]])
        true = len(left & right) / max(1, len(left | right))
        if row["evidence"] == "shingles":
            assert row["similarity"] == np.float32(true) >= SIMILARITY
        elif row["evidence"] == "signature":
            assert true >= SIMILARITY
            assert row["similarity"] == pytest.approx(true, abs=0.12)
        else:
            assert (row["kind"], text[doc]) == ("exact", text[row["kept_doc_id"]])
    assert {row["evidence"] for row in removed.values()} == {"shingles", "signature", "content_hash"}
    kept = [row for row in corpus if row["id"] not in removed]
    assert sum(row["source"] == "identical" for row in kept) == 1
    assert sum(row["source"] == "short" for row in kept) == sum(row["source"] == "short" for row in corpus)
    assert sum(row["source"] == "template" for row in kept) == sum(row["source"] == "template" for row in corpus)


@pytest.mark.parametrize(("limits", "as_files"), [((10**6, 10**6), False), ((0, 10**6), False), ((0, 0), True)])
def test_more_documents_than_are_broadcast_give_the_same(
    spark: Any,
    whole: Config,
    corpus: list[Row],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    limits: tuple[int, int],
    as_files: bool,
) -> None:
    expected = duplicates(spark, whole)
    for module in (candidates, components, rank_keys, verification):
        monkeypatch.setattr(module, "MAX_BROADCAST", limits[0])
    monkeypatch.setattr(verification, "_FEW", 0)
    monkeypatch.setattr(verification, "_MAX_BROADCAST_BYTES", 0)
    monkeypatch.setattr(verification, "_MAX_BROADCAST_HASHES", limits[1])
    if as_files:  # as on a cluster
        monkeypatch.setattr(storage_scratch, "_is_local", lambda _: False)
    write_parquet(tmp_path / "docs", corpus)
    config = configured(spark, tmp_path)
    run(spark, config)
    assert duplicates(spark, config) == expected


def test_long_ids_are_not_broadcast(spark: Any, whole: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    documents = delta.read(spark, whole.table("features")).select("doc_id", "input_file").limit(10)
    monkeypatch.setattr(verification, "_FEW", 5)
    for limit, by_hash in ((10**6, False), (10, True)):
        monkeypatch.setattr(verification, "_MAX_BROADCAST_BYTES", limit)
        texts = verification.texts_of(documents, RunContext(spark, whole), n_documents=10)
        assert ("xxhash64" in texts._jdf.queryExecution().optimizedPlan().toString()) == by_hash


def test_exact_copies_and_removed_documents_are_in_no_bucket(spark: Any, whole: Config, incremental: Any) -> None:
    """The metric `largest_bucket` against the distinct contents of each bucket, counted from `features`."""
    config, runs = incremental
    for configured, run_record, n_earlier in (
        (whole, made_by(spark, whole.table("duplicates")), -1),
        (config, runs[2], 1),
    ):
        features = spark.read.format("delta").load(configured.table("features")).collect()
        contents = {row["doc_id"]: bytes(row["content_hash"]) for row in features}
        old = {row["doc_id"] for row in features if row["batch"] <= n_earlier}
        removed = {contents[doc] for doc in duplicates(spark, configured) if doc in old}
        kept = {contents[doc] for doc in old - set(duplicates(spark, configured))}
        members: dict[tuple[int, bytes], set[bytes]] = {}
        for row in features:
            if contents[row["doc_id"]] not in removed - kept:
                signature = bytes(row["signature"] or b"")
                for start in range(0, len(signature), ROWS):
                    bucket = start, signature[start : start + ROWS]
                    members.setdefault(bucket, set()).add(contents[row["doc_id"]])
        shared = [len(some) for some in members.values() if len(some) > 1 and some - kept]
        assert run_record.metrics["largest_bucket"] == max(shared, default=0)


def test_guards_stop_before_anything_is_written_and_say_what_to_look_at(spark: Any, whole: Config) -> None:
    before = duplicates(spark, whole)
    changed = {"similarity": SIMILARITY, "max_source_loss": 0.9, "max_component": 100}
    config = whole.model_copy(update={"dedup": DedupConfig.model_validate(changed)})
    with pytest.raises(DataError) as error:
        run_all(spark, config, "dedup")
    lines = str(error.value).splitlines()
    losses = [line for line in lines if "would lose" in line]
    expected = "dedup: source 'identical' would lose 199 of 200 documents (99.5%); dedup.max_source_loss is 0.9"
    assert losses[0] == expected
    assert any(line.startswith("dedup: source 'copies' would lose 19 of 20 documents (95.0%)") for line in losses)
    assert len([line for line in lines if "has 200 documents; dedup.max_component is 100" in line]) == 1
    assert any(line.startswith("    kept 'identical-0-") for line in lines)
    assert lines[-1] == "dedup: nothing was written; if these removals are correct, raise the limit with --set"
    assert duplicates(spark, whole) == before


def test_guards_let_pass_what_reaches_the_limit_and_no_more(spark: Any, whole: Config) -> None:
    documents = spark.read.format("delta").load(whole.table("features"))
    rows = (
        spark.read.format("delta").load(whole.table("duplicates")).join(documents.select("doc_id", "source"), "doc_id")
    )
    allowed = {"similarity": SIMILARITY, "max_source_loss": 199 / 200, "max_component": 200}
    config = whole.model_copy(update={"dedup": DedupConfig.model_validate(allowed)})
    totals = guards.check(rows, documents, RunContext(spark, config))
    assert totals[0] == documents.count()
    assert totals[1:3] == tuple(rows.where(f"kind = '{kind}'").count() for kind in ("exact", "near"))
    assert totals[3:] == (200, 199 / 200)


def test_features_without_the_survivor_s_scores_are_named(spark: Any, whole: Config) -> None:
    values = {**whole.model_dump(), "scorers": {"betr": {}, "second": {}}, "dedup": {"survivor": "second"}}
    with pytest.raises(DataError, match=r"features: no column 'logit_second'; add it with `betr-spark features`"):
        run_all(spark, Config.model_validate(values), "dedup")


def test_features_of_another_sketch_are_refused_and_leftovers_cleared(spark: Any, whole: Config) -> None:
    changed = whole.model_copy(update={"minhash": whole.minhash.model_copy(update={"ngram": 2})})
    with pytest.raises(
        DataError,
        match=r"features: built with minhash.ngram 5, but the configuration has 2; rerun `betr-spark features`",
    ):
        run_all(spark, changed, "dedup")
    left = Path(whole.table("_scratch/killed/dedup/3"))
    left.mkdir(parents=True)
    assert run_all(spark, whole, "dedup")[0].skipped
    assert not left.exists()


def test_evaluation_counts_what_was_missed_and_what_was_wrong(spark: Any, whole: Config, corpus: list[Row]) -> None:
    figures = evaluate(RunContext(spark, whole), documents=10_000, seed=0)
    texts = list(dict.fromkeys(row["text"] for row in corpus if shingle_set(row["text"])))
    near = similar_pairs(texts, SIMILARITY)
    assert figures.n_documents == figures.n_sampled == len(texts)
    assert sum(share.of for share in figures.recall) == 2 * len(near)  # seen from both ends
    assert all(share.n == share.of for share in [*figures.recall, *figures.precision])
    removed = [row for row in duplicates(spark, whole).values() if row["kind"] == "near"]
    assert sum(share.of for share in figures.precision) == len(removed)
    assert figures.n_components == len({row["component_id"] for row in removed})
    assert figures.inside.n >= len({row["doc_id"] for row in removed})
    assert figures.both_kept.n == 0


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
    expected = by_the_rule(days(corpus), in_ranking_order(spark, config))
    assert {doc: row["kept_doc_id"] for doc, row in duplicates(spark, config).items()} == expected
    assert [done.rows_in for done in runs] == [sum(map(len, days(corpus)[: i + 1])) for i in range(3)]
    assert runs[1].metrics["texts_previously_kept"] > 0
    assert (runs[2].metrics["texts_previously_kept"], runs[2].metrics["texts_new"]) == (0, 0)
    assert run_all(spark, config, "dedup")[0].skipped


def test_history_is_not_used_with_replace_or_after_another_rule(spark: Any, incremental: Any) -> None:
    config, _ = incremental
    checkpoint, batch = newest_batch(spark, config)

    def previously_kept(checkpoint: str, **changed: Any) -> History | None:
        settings = DedupConfig.model_validate({"similarity": SIMILARITY, **changed})
        return read_history(spark, config.model_copy(update={"dedup": settings}), checkpoint)

    assert previously_kept(checkpoint).batch == batch == 2
    assert previously_kept(checkpoint, max_component=9).batch == 2  # a guard is no part of the rule
    assert previously_kept(checkpoint, history="replace") is None
    assert previously_kept(checkpoint, similarity=0.8) is None
    assert previously_kept("another") is None


def test_history_needs_no_marker_file_and_survives_a_run_killed_between_its_commits(
    spark: Any, tmp_path: Path, corpus: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`_SUCCESS` files are off, as many object-store committers leave them; the second run dies after `_components`."""
    batches = days(corpus)[:2]
    config = configured(spark, tmp_path)
    monkeypatch.setattr(delta, "overwrite", overwrite := Overwrite(delta.overwrite))
    hadoop = spark._jsc.hadoopConfiguration()
    hadoop.set("mapreduce.fileoutputcommitter.marksuccessfuljobs", "false")
    try:
        for number, batch in enumerate(batches):
            write_parquet(tmp_path / "new", batch)
            (tmp_path / "docs").mkdir(exist_ok=True)
            (tmp_path / "new/part-0.parquet").rename(tmp_path / f"docs/{number}.parquet")
            if number == 0:
                run(spark, config)
                continue
            before = delta.newest_commit(spark, config.table("_components"))
            overwrite.fails_for = "duplicates"
            with pytest.raises(KilledError):
                run(spark, config)
            after = delta.newest_commit(spark, config.table("_components"))
            assert (before.version, after.version) == (0, 1)  # type: ignore[union-attr]
            checkpoint, _ = newest_batch(spark, config)
            assert read_history(spark, config, checkpoint) == History(batch=0, components_version=0)
            overwrite.fails_for = ""
            run(spark, config)
            assert read_history(spark, config, checkpoint) == History(batch=1, components_version=2)
    finally:
        hadoop.unset("mapreduce.fileoutputcommitter.marksuccessfuljobs")
    rows = duplicates(spark, config)
    expected = by_the_rule(batches, in_ranking_order(spark, config))
    assert {doc: row["kept_doc_id"] for doc, row in rows.items()} == expected
    earlier = delta.read(spark, config.table("_components"), version=0).count()
    newest = delta.read(spark, config.table("_components")).count()
    assert 0 < earlier < newest


class KilledError(Exception):
    """Takes the place of a kill."""


class Overwrite:
    """`delta.overwrite` that fails for one table."""

    def __init__(self, overwrite: Any) -> None:
        self.overwrite, self.fails_for = overwrite, ""

    def __call__(self, table: Any, path: str, **more: Any) -> None:
        if self.fails_for and path.endswith(self.fails_for):
            raise KilledError
        self.overwrite(table, path, **more)


def test_history_without_its_components_is_not_used(spark: Any, tmp_path: Path, corpus: list[Row]) -> None:
    """The named version is of another run: `_components` was deleted, and a run that did not finish wrote it again."""
    write_parquet(tmp_path / "docs", corpus[:50])
    config = configured(spark, tmp_path)
    run(spark, config)
    checkpoint, _ = newest_batch(spark, config)
    assert read_history(spark, config, checkpoint) == History(0, 0)
    components = delta.read(spark, config.table("_components")).localCheckpoint()
    shutil.rmtree(config.table("_components"))
    assert read_history(spark, config, checkpoint) is None
    delta.overwrite(components, config.table("_components"), user_metadata=delta.to_json({"key": "another run"}))
    assert read_history(spark, config, checkpoint) is None


@pytest.mark.parametrize("scores", [[1_700_000_000.0 + i for i in range(60)], [0.9 + i * 1e-9 for i in range(60)]])
def test_the_highest_score_in_double_precision_survives(spark: Any, tmp_path: Path, scores: list[float]) -> None:
    """60 documents: 30 exact copies of each other, and 30 near-duplicates; scores that are equal in single precision."""
    pick = random.Random(4)
    order = pick.sample(range(60), 60)
    content = {number: bytes([number if number >= 30 else 0] * 16) for number in range(60)}
    rows = [(f"d{n}", "s", 9, bytearray(content[n]), [5], bytearray([3] * 112), scores[n], "none", 0) for n in order]
    names = "doc_id string, source string, n_bytes int, content_hash binary, bands array<bigint>, signature binary, "
    table = spark.createDataFrame(rows, names + "logit_quality double, input_file string, batch bigint")
    values = {
        "input": {"path": "none"},
        "output": str(tmp_path),
        "scorers": {"quality": {"kind": "expression", "column": "quality"}},
    }
    config = Config.model_validate(values)
    delta.overwrite(table, config.table("features"), user_metadata=delta.to_json({"checkpoint": "c", "batch": 0}))
    run_all(spark, config, "dedup")
    rows_by_id = duplicates(spark, config)
    assert set(rows_by_id) == {f"d{n}" for n in range(60)} - {"d59"}
    assert {row["kept_doc_id"] for row in rows_by_id.values()} == {"d59"}
    exact = {doc for doc, row in rows_by_id.items() if row["kind"] == "exact"}
    assert exact == set()  # the copies follow their representative, which is a near-duplicate of d59
    assert {row["component_size"] for row in rows_by_id.values()} == {60}


def test_decisions_are_kept_where_nothing_was_removed(spark: Any, tmp_path: Path) -> None:
    """Empty `duplicates` and `_components` that stay empty are records of a run too."""
    config = configured(spark, tmp_path)
    for number, texts in enumerate((["one text", "two texts"], ["three texts"], ["two texts"])):
        rows = [{"id": f"{number}-{i}", "text": text, "source": "s"} for i, text in enumerate(texts)]
        write_parquet(tmp_path / "new", rows)
        (tmp_path / "docs").mkdir(exist_ok=True)
        (tmp_path / "new/part-0.parquet").rename(tmp_path / f"docs/{number}.parquet")
        assert not run(spark, config).skipped
        assert run_all(spark, config, "dedup")[0].skipped
        checkpoint, batch = newest_batch(spark, config)
        assert read_history(spark, config, checkpoint).batch == batch == number  # type: ignore[union-attr]
    assert {doc: row["kept_doc_id"] for doc, row in duplicates(spark, config).items()} == {"2-0": "0-1"}


def test_a_text_that_is_not_the_one_that_was_scored_stops_the_verification(spark: Any, tmp_path: Path) -> None:
    words = [f"w{i}" for i in range(120)]
    similar = ["changed" if i in (20, 55, 90) else word for i, word in enumerate(words)]
    config = configured(spark, tmp_path)
    write_parquet(tmp_path / "docs", [{"id": "a", "text": " ".join(words), "source": "s"}])
    file = tmp_path / "docs/b.parquet"
    table = {"id": ["b"], "text": [" ".join(similar)], "source": ["s"]}
    pq.write_table(pa.table(table), file, compression="none")
    run_all(spark, config, "features")
    about, raw = file.stat(), file.read_bytes()
    pq.write_table(pa.table({**table, "text": [" ".join(reversed(similar))]}), file, compression="none")
    assert file.stat().st_size == about.st_size
    os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))
    with pytest.raises(
        DataError, match="the text of document 'b' changed since it was scored, or is gone; run `betr-s"
    ):
        run_all(spark, config, "dedup")
    file.write_bytes(raw)
    os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))
    run_all(spark, config, "dedup")
    assert [row["evidence"] for row in duplicates(spark, config).values()] == ["shingles"]
