"""Dedup and selection behind features, on a scorer made by hand: odd names, hashed ids, lost text, budgets at the ends."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from betr_spark.config import Config
from betr_spark.errors import DataError
from betr_spark.pipeline.run import run_all
from betr_spark.report.figures import selection_figures
from betr_spark.schemas import DUPLICATES
from betr_spark.scoring import artifact
from betr_spark.scoring.ngram_table import NgramTable
from betr_spark.storage import delta

WORDS = ["good", "fair", "poor"]


def configured(spark: Any, folder: Path, keep: dict[str, Any], **source: Any) -> Config:
    values = {
        "input": {"path": str(folder / "my docs"), "text": "the.text", "columns": ["a.b`c"], **source},
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


def test_a_document_of_many_copies_is_one_of_them(spark: Any, tmp_path: Path) -> None:
    folder = tmp_path / "my docs"
    folder.mkdir()
    table = {"the.text": ["good"] * 3, "source": ["m", "a", "z"], "a.b`c": ["url 1", "url 3", "url 2"]}
    pq.write_table(pa.table(table), folder / "a.parquet")
    found = select(spark, configured(spark, tmp_path, {"documents": 1}, source="source"))
    assert [(row["source"], row["a.b`c"]) for row in found] == [("a", "url 3")]


def test_all_documents_equal_leave_one_and_ends_of_the_budget_hold(spark: Any, tmp_path: Path) -> None:
    write(tmp_path, ["good good good good good good"] * 40)
    config = configured(spark, tmp_path, {"token_fraction": 1.0}, id="id")
    assert len(select(spark, config, with_dedup)) == 1
    nothing = configured(spark, tmp_path, {"tokens": 5}, id="id")
    assert select(spark, nothing, with_dedup) == []
    figures = selection_figures(spark, nothing, "s")
    assert (figures.n_documents, figures.best) == (0, [])


def test_a_text_that_is_gone_stops_the_selection_and_is_named(spark: Any, tmp_path: Path) -> None:
    path = write(tmp_path, ["poor", "good", "fair"])
    config = configured(spark, tmp_path, {"documents": 3}, id="id")
    run_all(spark, config, "features")
    without_duplicates(spark, config)
    table = pq.read_table(path)
    pq.write_table(table.slice(1), path)
    with pytest.raises(
        DataError, match="document 'i0' changed since it was scored, or is gone; run `betr-spark features`"
    ):
        run_all(spark, config, "select")
    assert not list((tmp_path / "my out/selected/s/_delta_log").glob("*.json"))
