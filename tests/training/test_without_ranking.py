"""Scorers that do not use the target ranking: the sample is drawn, the encoder is not loaded, nothing is embedded."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import settings, write_parquet

from betr_spark.config import Config
from betr_spark.kernels.text_preparation import as_buffers
from betr_spark.pipeline.check import problems
from betr_spark.pipeline.run import outlook, plan, run_all
from betr_spark.pipeline.stage import RunContext
from betr_spark.schemas import EMBEDDINGS_TABLE, RANKED_SAMPLE_TABLE, SAMPLE_TABLE
from betr_spark.scoring.dsir import LogRatioTable, bucket_counts
from betr_spark.training.stage import Train
from betr_spark.training.validation import score_texts


@pytest.fixture(scope="module")
def config(corpus: list[dict[str, Any]], targets: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A dsir, a classifier and a teacher scorer; the encoder does not exist, so loading it anywhere is an error."""
    folder = tmp_path_factory.mktemp("unranked")
    values = settings(write_parquet(folder / "docs", corpus), folder / "out", folder / "no-such-encoder", targets)
    scores = [int(row["source"] == "orchard") + len(row["text"]) / 10_000 for row in corpus]
    (folder / "external").mkdir()
    pq.write_table(
        pa.table({"doc_id": [row["id"] for row in corpus], "score": scores}), folder / "external/part.parquet"
    )
    small = {"dim": 16, "lr": 1.0, "epochs": 20}
    values["scorers"] = {
        "ratio": {"kind": "dsir", "buckets": 1000},
        "dclm": {"kind": "classifier", **small},
        "distilled": {"kind": "teacher", "path": str(folder / "external"), **small},
    }
    values["selections"] = {}
    return Config.model_validate(values)


def test_scorers_train_without_an_encoder(
    spark: Any, config: Config, corpus: list[dict[str, Any]], targets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_not_called(*_: Any, **__: Any) -> None:
        raise AssertionError("the encoder is used")

    for name in ("betr_spark.ranking.encoder.embed", "betr_spark.ranking.encoder.check_encoder"):
        monkeypatch.setattr(name, is_not_called)
    assert problems(config, spark) == []
    assert [(p.stage.name, p.work, p.why) for p, _ in outlook(RunContext(spark, config))][:2] == [
        ("rank/sample", True, "never run"),
        ("train/ratio", True, "after rank"),
    ]
    (drawn,) = run_all(spark, config, "rank")
    assert drawn.rows_out == 300 - drawn.dropped["without_text"]
    assert Path(config.table(SAMPLE_TABLE)).exists()
    assert not Path(config.table(EMBEDDINGS_TABLE)).exists()
    assert not Path(config.table(RANKED_SAMPLE_TABLE)).exists()
    assert len(run_all(spark, config, "train")) == 3
    run_all(spark, config, "features")
    planned = {planned.stage.name: planned.work for planned in plan(RunContext(spark, config))}
    stages = ("rank/sample", "train/ratio", "train/dclm", "train/distilled", "features")
    assert planned == {**dict.fromkeys(stages, False), "dedup": True}
    assert run_all(spark, config, "rank")[0].skipped
    for name in config.scorers:
        about = json.loads(Path(config.table(f"scorers/{name}/scorer.json")).read_text())
        assert about["metrics"]["n_evaluated"] > 0
        assert "spearman_length" in about["metrics"]
        assert not {"spearman", "recall_at_10_percent"} & set(about["metrics"])
        assert set(about["evaluation"]) == {"source_shares"}
    sampled = [row["text"] for row in spark.read.format("delta").load(config.table(SAMPLE_TABLE)).collect()]
    lines = [json.loads(line) for name in ("cooking", "sailing") for line in (targets / f"{name}.jsonl").open()]
    counts = [
        bucket_counts(*as_buffers(texts), n_buckets=1000)
        for texts in ([f"{row['question']}\n{row['answer']}" for row in lines], sampled)
    ]
    table = LogRatioTable.fit(*counts, per_feature=False)
    rows = {row["doc_id"]: row for row in spark.read.format("delta").load(config.table("features")).collect()}
    logits = [rows[row["id"]]["logit_ratio"] for row in corpus]
    expected = score_texts([row["text"] for row in corpus], table)
    np.testing.assert_array_equal([np.nan if logit is None else np.float32(logit) for logit in logits], expected)


def test_changed_targets_train_the_scorers_that_use_them_again(spark: Any, config: Config) -> None:
    """`ranked_sample` has no version then, so each kind's own versions must have the targets."""
    before = {name: Train(name).key(RunContext(spark, config)).key for name in config.scorers}
    changed = config.model_copy(update={"targets": {"cooking": config.targets["cooking"]}})
    after = {name: Train(name).key(RunContext(spark, changed)).key for name in config.scorers}
    assert {name for name in before if before[name] != after[name]} == {"ratio", "dclm"}


def test_a_scorer_of_the_ranking_needs_the_encoder(spark: Any, config: Config) -> None:
    ranked = Config.model_validate({**config.model_dump(), "scorers": {**config.scorers, "betr": {}}})
    assert len(problems(ranked, spark)) == 1
    assert "no-such-encoder: folder not found" in problems(ranked, spark)[0]


def test_a_teacher_needs_no_targets(config: Config) -> None:
    only = {**config.model_dump(), "targets": {}, "scorers": {"distilled": config.scorers["distilled"]}}
    assert Config.model_validate(only).needs_sample()
    assert not Config.model_validate(only).needs_target_ranking()
