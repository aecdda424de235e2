"""`betr-spark evaluate` on a corpus whose best documents are known, and what it refuses."""

import json
import random
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import TOPICS, made_up_text, settings

from betr_spark.config import Config
from betr_spark.errors import ConfigError, DataError
from betr_spark.evaluate import pool, stage
from betr_spark.evaluate.benefit import ALL_TARGETS, GENERAL, Change
from betr_spark.pipeline.run import run_all
from betr_spark.pipeline.runner import run_stages
from betr_spark.pipeline.stage import RunContext


@pytest.fixture(scope="module")
def config(
    spark: Any,
    corpus: list[dict[str, Any]],
    encoder: Path,
    targets: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Config:
    """Features with two numbers as scorers: one that puts kitchens first, one that puts them last."""
    folder = tmp_path_factory.mktemp("evaluate")
    (folder / "docs").mkdir()
    good = [float(row["source"] == "kitchen") for row in corpus]
    table = pa.Table.from_pylist([{k: row[k] for k in ("id", "source", "text", "url")} for row in corpus])
    numbers = table.append_column("good", pa.array(good)).append_column("bad", pa.array([-value for value in good]))
    pq.write_table(numbers, folder / "docs/part.parquet")
    pick = random.Random(5)
    for name, topic in (("cooking", "kitchen"), ("other", "orchard")):
        rows = [{"question": made_up_text(pick, topic, words=30), "answer": TOPICS[topic][i % 12]} for i in range(40)]
        (folder / f"{name}.test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    values = settings(folder / "docs", folder / "out", encoder, targets)
    values["targets"]["cooking"]["test"] = str(folder / "cooking.test.jsonl")
    values["scorers"] = {name: {"kind": "expression", "column": name} for name in ("good", "bad")}
    values["selections"] = {n: {"scorer": n, "keep": {"documents": 9}} for n in ("good", "bad", "random")}
    off = {"path": str(folder / "other.test.jsonl"), "template": "{question}\n{answer}"}
    values["evaluate"] = {
        "documents": 500,
        "general": 30,
        "budgets": [0.1, 0.3],
        "seeds": 8,
        "vocabulary": 400,
        "off_target": {"orchard": off},
    }
    parsed = Config.model_validate(values)
    run_all(spark, parsed, "features")
    run_all(spark, parsed, "dedup")
    return parsed


def evaluated(spark: Any, config: Config) -> Any:
    return run_stages(RunContext(spark, config), [stage.Evaluate()])


def of(results: list[Change], name: str, budget: float, items: str) -> Change:
    return next(row for row in results if (row.name, row.budget, row.items) == (name, budget, items))


def test_the_right_selection_wins_the_wrong_one_loses_and_the_table_says_so(spark: Any, config: Config) -> None:
    (done,) = run_stages(RunContext(spark, config), [stage.Evaluate()])
    results = stage.read(spark, config)
    assert not done.skipped
    for budget in (0.1, 0.3):
        assert of(results, "good", budget, "cooking").verdict == "win"
        assert of(results, "bad", budget, "cooking").verdict == "loss"
        assert of(results, "good", budget, ALL_TARGETS).n_items == 40
        assert of(results, "good", budget, "orchard").kind == "off_target"
        assert of(results, "good", budget, GENERAL).n_items == 30
    names = {row.name for row in results}
    assert names == {"good", "bad", *(f"random-{seed}" for seed in range(8))}
    rows = spark.read.format("delta").load(config.table("evaluations")).collect()
    assert {row["verdict"] for row in rows} >= {"win", "loss", "tie"}
    assert len(rows) == len(results) == 2 * 10 * 4
    assert Path(config.table("evaluation.png")).read_bytes().startswith(b"\x89PNG")
    Path(config.table("evaluation.png")).unlink()
    (again,) = run_stages(RunContext(spark, config), [stage.Evaluate()])
    same = stage.read(spark, config)
    assert again.skipped
    assert Path(config.table("evaluation.png")).exists()
    assert sorted(same) == sorted(results)


def test_what_cannot_be_evaluated_is_named(
    spark: Any, config: Config, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def changed(**parts: Any) -> Config:
        return Config.model_validate({**config.model_dump(), **parts})

    with pytest.raises(ConfigError, match=r"config\.selections: no selection has a scorer other than random"):
        evaluated(spark, changed(selections={"r": {"scorer": "random", "keep": {"documents": 3}}}))
    without = {**config.model_dump()["targets"]["cooking"], "test": None}
    with pytest.raises(ConfigError, match=r"config\.targets: no target has a `test` file"):
        evaluated(spark, changed(targets={"cooking": without}))
    large = {**config.model_dump()["evaluate"], "general": 5000, "budgets": [1e-7]}
    with caplog.at_level("WARNING"), pytest.raises(DataError):
        evaluated(spark, changed(evaluate=large))
    assert re.search(r"evaluate\.general: reduced to 1\d\d, 1 in 5 of the available documents", caplog.text)
    monkeypatch.setattr(pool, "_GENERAL_ONE_IN", 300)
    with pytest.raises(
        DataError, match=r"evaluate: the corpus has 5\d\d documents after deduplication; at least 600 are required"
    ):
        evaluated(spark, changed(evaluate=large))
    monkeypatch.undo()
    with pytest.raises(DataError, match=r"evaluate\.budgets: 1e-07: no token of the pool's \d+; a larger fraction"):
        evaluated(spark, changed(evaluate={**config.model_dump()["evaluate"], "budgets": [1e-7]}))
    gone = {**config.model_dump()["targets"]["cooking"], "test": "nowhere.jsonl"}
    with pytest.raises(DataError, match="nowhere.jsonl: no such file"):
        evaluated(spark, changed(targets={"cooking": gone}))
