"""Dedup and selection behind features, on a scorer made by hand: odd names, hashed ids, lost text, budgets at the ends."""

import datetime as dt
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import functions as F

from betr_spark.config import Config
from betr_spark.errors import DataError
from betr_spark.pipeline.run import run_all
from betr_spark.report.figures import selection_figures
from betr_spark.schemas import DUPLICATES
from betr_spark.scoring import artifact
from betr_spark.scoring.ngram_table import NgramTable
from betr_spark.selection import ranks
from betr_spark.selection.budget import with_order
from betr_spark.storage import delta

WORDS = ["good", "fair", "poor"]


def configured(spark: Any, folder: Path, keep: dict[str, Any], **source: Any) -> Config:
    values = {
        "input": {"path": str(folder / "my docs"), "text": "`the.text`", "columns": ["`a.b``c`"], **source},
        "output": str(folder / "my out"),
        "targets": {"t": {"path": "none", "template": "{q}"}},
        "selections": {"s": {"scorer": "betr", "keep": keep}},
    }
    config = Config.model_validate(values)
    table = NgramTable.build(WORDS, np.array([3, 2, 1], np.float32), np.zeros(8, np.float32), word_ngrams=2)
    artifact.save(spark, config.table("scorers/betr"), table, {"name": "betr"})
    return config


def write(folder: Path, texts: list[str]) -> Path:
    (folder / "my docs").mkdir(parents=True, exist_ok=True)
    ids = [f"i{n}" for n in range(len(texts))]
    path = folder / "my docs/part 0.parquet"
    pq.write_table(pa.table({"the.text": texts, "a.b`c": ids, "id": ids}), path)
    return path


def without_duplicates(spark: Any, config: Config) -> None:
    delta.overwrite(spark.createDataFrame([], DUPLICATES), config.table("duplicates"), user_metadata="")


def with_dedup(spark: Any, config: Config) -> None:
    run_all(spark, config, "dedup")


def select(spark: Any, config: Config, deduplicate: Callable[[Any, Config], object] = without_duplicates) -> list[Any]:
    run_all(spark, config, "features")
    deduplicate(spark, config)
    run_all(spark, config, "select")
    found: list[Any] = spark.read.format("delta").load(config.table("selected/s")).orderBy("rank").collect()
    return found


def test_names_with_dots_spaces_and_quotes_go_through_and_copies_are_one(spark: Any, tmp_path: Path) -> None:
    write(tmp_path, ["poor", "good", "fair", "good", " \n", "fair"])
    found = select(spark, configured(spark, tmp_path, {"documents": 2}))
    assert [(row["rank"], row["text"], row["a.b`c"]) for row in found] == [(1, "good", "i1"), (2, "fair", "i2")]
    assert found[0]["score"] == pytest.approx(1 / (1 + np.exp(-1.5)), abs=1e-12)  # a word's 3 and a bigram's 0


def test_a_document_may_have_the_id_of_one_in_quarantine(spark: Any, tmp_path: Path) -> None:
    (tmp_path / "my docs").mkdir()
    texts = pa.array([b"good", b"\xff good", b"fair"], pa.binary())
    pq.write_table(
        pa.table({"the.text": texts, "id": ["a", "a", "b"], "a.b`c": ["1", "2", "3"]}), tmp_path / "my docs/a.parquet"
    )
    found = select(spark, configured(spark, tmp_path, {"documents": 2}, id="id"))
    assert [(row["doc_id"], row["text"], row["a.b`c"]) for row in found] == [("a", "good", "1"), ("b", "fair", "3")]


def test_a_document_of_many_copies_is_one_of_them(spark: Any, tmp_path: Path) -> None:
    folder = tmp_path / "my docs"
    folder.mkdir()
    table = {"the.text": ["good"] * 3, "source": ["m", "a", "z"], "a.b`c": ["url 1", "url 3", "url 2"]}
    pq.write_table(pa.table(table), folder / "a.parquet")
    found = select(spark, configured(spark, tmp_path, {"documents": 1}, source="source"))
    assert [(row["source"], row["a.b`c"]) for row in found] == [("a", "url 3")]


def test_of_copies_the_same_one_is_carried_in_any_order(spark: Any, tmp_path: Path) -> None:
    carried = []
    for number, microseconds in enumerate(([123_789, 123_456], [123_456, 123_789])):
        folder = tmp_path / str(number)
        (folder / "my docs").mkdir(parents=True)
        times = [dt.datetime(2024, 1, 1, microsecond=part, tzinfo=dt.UTC) for part in microseconds]
        table = pa.table({"the.text": ["good"] * 2, "a.b`c": pa.array(times, pa.timestamp("us", tz="UTC"))})
        pq.write_table(table, folder / "my docs/a.parquet")
        (row,) = select(spark, configured(spark, folder, {"documents": 1}))
        carried.append(row["a.b`c"].microsecond)
    assert carried == [123_456, 123_456]


def test_all_documents_equal_leave_one_and_ends_of_the_budget_hold(spark: Any, tmp_path: Path) -> None:
    write(tmp_path, ["good good good good good good"] * 40)
    config = configured(spark, tmp_path, {"token_fraction": 1.0}, id="id")
    assert len(select(spark, config, with_dedup)) == 1
    nothing = configured(spark, tmp_path, {"tokens": 5}, id="id")
    assert select(spark, nothing, with_dedup) == []
    figures = selection_figures(spark, nothing, ["s"])["s"]
    assert (figures.n_documents, figures.best) == (0, [])


def test_a_document_longer_than_the_rest_of_the_budget_ends_the_selection_with_a_warning(
    spark: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, ["good good", "fair " * 50, "poor"])
    config = configured(spark, tmp_path, {"tokens": 10}, id="id")
    assert len(select(spark, config, with_dedup)) == 1
    assert "selections.s: the selection has 2 of the 10 tokens that were asked for; the next document is" in caplog.text


def test_a_scored_file_that_changed_stops_the_selection_and_is_named(spark: Any, tmp_path: Path) -> None:
    path = write(tmp_path, ["poor", "good", "fair"])
    config = configured(spark, tmp_path, {"documents": 3}, id="id")
    run_all(spark, config, "features")
    without_duplicates(spark, config)
    table = pq.read_table(path)
    pq.write_table(table.slice(1), path)
    with pytest.raises(DataError, match="1 file was changed or deleted .*part 0.parquet; run `betr-spark features`"):
        run_all(spark, config, "select")
    assert not list((tmp_path / "my out/selected/s/_delta_log").glob("*.json"))


def ranked_by_column(spark: Any, folder: Path, values: list[Any], keep: dict[str, Any]) -> list[Any]:
    """Select by an expression scorer on a column `v`; ids are the positions."""
    (folder / "docs").mkdir(parents=True)
    ids = [f"d{n:02d}" for n in range(len(values))]
    texts = [f"document {n} about item {n * 7}" for n in range(len(values))]
    pq.write_table(pa.table({"id": ids, "text": texts, "v": values}), folder / "docs/a.parquet")
    config = Config.model_validate(
        {
            "input": {"path": str(folder / "docs"), "id": "id"},
            "output": str(folder / "out"),
            "scorers": {"v": {"kind": "expression", "column": "v"}},
            "selections": {"s": {"scorer": "v", "keep": keep}},
        }
    )
    run_all(spark, config)
    found: list[Any] = spark.read.format("delta").load(config.table("selected/s")).orderBy("rank").collect()
    return found


@pytest.mark.parametrize(
    "values", [[1_700_000_000 + i for i in range(40)], [0.9 + i * 1e-9 for i in range(40)]], ids=["int64", "double"]
)
def test_an_expression_ranks_by_the_input_s_own_value(spark: Any, tmp_path: Path, values: list[Any]) -> None:
    rows = ranked_by_column(spark, tmp_path, values, {"documents": 5})
    assert [row["doc_id"] for row in rows] == ["d39", "d38", "d37", "d36", "d35"]
    assert [row["logit"] for row in rows] == [float(value) for value in values[:-6:-1]]


def test_min_score_of_an_expression_is_a_value_of_its_column(spark: Any, tmp_path: Path) -> None:
    rows = ranked_by_column(spark, tmp_path, [0.5, 3.0, -2.0, 2.5], {"min_score": 2.5})
    assert [row["doc_id"] for row in rows] == ["d01", "d03"]


def test_ranks_of_few_distinct_scores_are_made_in_many_tasks(spark: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "_ROWS_IN_TASK", 100)
    frames: list[Any] = []

    def materialise(frame: Any) -> Any:
        frames.append(frame.localCheckpoint())
        return frames[-1]

    scored = spark.range(1000).selectExpr("cast(id as string) doc_id", "cast(1 as float) logit", "1 n_tokens")
    ordered = with_order(scored).persist()
    rows = ranks.with_rank(ordered, n_rows=1000, materialise=materialise).collect()
    sizes = frames[0].groupBy(F.spark_partition_id()).count().collect()
    assert len(sizes) == 10
    assert max(row["count"] for row in sizes) < 300
    in_order = sorted(rows, key=lambda row: (row["order_hash"], row["doc_id"]))
    assert [row["rank"] for row in in_order] == list(range(1, 1001))
    ordered.unpersist()


def test_a_selected_row_has_the_text_that_was_scored(spark: Any, tmp_path: Path) -> None:
    """A scored file is rewritten and another is added with a clashing id; nothing is selected until `features` ran."""
    path = write(tmp_path, ["poor", "good", "fair"])
    config = configured(spark, tmp_path, {"documents": 3}, id="id")
    run_all(spark, config, "features")
    without_duplicates(spark, config)
    table = pa.table({"the.text": ["fair fair", "good good"], "a.b`c": ["x", "y"], "id": ["i1", "i9"]})
    pq.write_table(table, path.with_name("part 1.parquet"))  # i1 again: an added file is not read
    run_all(spark, config, "select")
    found = spark.read.format("delta").load(config.table("selected/s")).orderBy("rank").collect()
    assert [(row["rank"], row["doc_id"], row["text"]) for row in found] == [
        (1, "i1", "good"),
        (2, "i2", "fair"),
        (3, "i0", "poor"),
    ]
    pq.write_table(table, path)
    changed = Config.model_validate(
        {**config.model_dump(), "selections": {"s": {"scorer": "betr", "keep": {"documents": 2}}}}
    )
    with pytest.raises(DataError) as error:
        run_all(spark, changed, "select")
    assert path.name.replace(" ", "%20") in str(error.value) or path.name in str(error.value)
    assert str(error.value).endswith("run `betr-spark features`")
    assert len(str(error.value).splitlines()) == 1
    assert spark.read.format("delta").load(config.table("selected/s")).count() == 3


def test_a_text_that_changed_without_a_trace_fails_the_write(spark: Any, tmp_path: Path) -> None:
    path = write(tmp_path, ["poor", "good", "fair"])
    config = configured(spark, tmp_path, {"documents": 3}, id="id")
    run_all(spark, config, "features")
    without_duplicates(spark, config)
    about, size = path.stat(), path.stat().st_size
    write(tmp_path, ["poor", "food", "fair"])
    assert path.stat().st_size == size
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))  # same size and time: only the hash tells
    with pytest.raises(DataError, match="the text of document 'i1' changed since it was scored"):
        run_all(spark, config, "select")
    assert not list((tmp_path / "my out/selected/s/_delta_log").glob("*.json"))
