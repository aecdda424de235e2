"""`encoder.mode: direct`: the ranking of all documents is the score, follows the input, and embeds only new documents."""

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import settings, write_parquet

from betr_spark.config import Config
from betr_spark.corpus.snapshot import InputSnapshot
from betr_spark.errors import DataError
from betr_spark.pipeline.run import outlook, plan, run_all
from betr_spark.pipeline.stage import RunContext
from betr_spark.ranking.direct import with_direct_logits
from betr_spark.ranking.direct_logits import direct_logits
from betr_spark.ranking.estimate import time_to_embed
from betr_spark.storage.scratch import scratch


def rows_of(spark: Any, config: Config, table: str) -> dict[str, Any]:
    return {row["doc_id"]: row for row in spark.read.format("delta").load(config.table(table)).collect()}


@pytest.fixture(scope="module")
def config(
    spark: Any,
    corpus: list[dict[str, Any]],
    encoder: Path,
    targets: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Config:
    folder = tmp_path_factory.mktemp("direct")
    values = settings(write_parquet(folder / "docs", corpus[:120], files=2), folder / "out", encoder, targets)
    values["encoder"]["mode"] = "direct"
    values["scorers"] = {"betr": {"per_benchmark": True}, "ratio": {"kind": "dsir", "buckets": 1000}}
    values["selections"] = {"best": {"scorer": "betr", "keep": {"documents": 20}}}
    return Config.model_validate(values)


def test_the_score_is_the_position_in_the_ranking_of_all_documents(
    spark: Any, config: Config, corpus: list[dict[str, Any]]
) -> None:
    estimates = [estimate or "" for _, estimate in outlook(RunContext(spark, config))]
    assert any("at most 120 documents to embed" in estimate for estimate in estimates)
    run_all(spark, config)
    assert not Path(config.table("scorers/betr")).exists()
    ranked, scored = rows_of(spark, config, "ranked_sample"), rows_of(spark, config, "features")
    assert set(ranked) == {name for name, row in scored.items() if row["n_words"]}
    assert config.survivor() == "betr"
    assert config.scored() == ["ratio", "betr", "betr_cooking", "betr_sailing"]
    for scorer in ("betr", "betr_cooking", "betr_sailing"):
        benchmark = scorer.removeprefix("betr").removeprefix("_")
        keys = {
            name: (row["by_benchmark"][benchmark]["score"], row["by_benchmark"][benchmark]["cosine"])
            if benchmark
            else (row["target_score"], row["best_cosine"])
            for name, row in ranked.items()
        }
        for name, row in scored.items():
            logit = row[f"logit_{scorer}"]
            if name not in ranked:
                assert logit is None
                continue
            ahead = 1 - (sum(key > keys[name] for key in keys.values()) + 0.5) / len(keys)
            assert logit == pytest.approx(math.log(ahead / (1 - ahead)), rel=1e-6)
    chosen = spark.read.format("delta").load(config.table("selected/best")).orderBy("rank").collect()
    assert chosen[0]["score"] == pytest.approx(1 - 0.5 / len(ranked), rel=1e-6)
    assert [row["logit"] for row in chosen] == sorted((row["logit"] for row in chosen), reverse=True)
    assert not any(planned.work for planned in plan(RunContext(spark, config)))


def test_a_batch_of_features_sorts_nothing(spark: Any, config: Config) -> None:
    """The logits were computed once, with the ranking; before, each micro-batch sorted the whole corpus in one task."""
    ranked = rows_of(spark, config, "ranked_sample")
    known = min(ranked)
    batch = spark.createDataFrame([(known,), ("new",)], "doc_id string")
    scored = with_direct_logits(batch, config)
    plan = scored._jdf.queryExecution().toString()
    assert "logit_betr" in plan
    assert "Window" not in plan
    assert "SinglePartition" not in plan
    logits = {row["doc_id"]: row["logit_betr_sailing"] for row in scored.collect()}
    assert logits == {known: ranked[known]["logit_betr_sailing"], "new": None}


def test_positions_are_those_of_a_sort_with_ties_over_many_partitions(spark: Any, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    score = draw.choice([0.0, 0.25, 1.0], 3000, p=[0.7, 0.2, 0.1])  # most documents share a score
    cosine = np.round(draw.normal(size=3000), 1).astype(np.float32)
    keys = {"all": list(zip(score.tolist(), cosine.tolist(), strict=True))}
    keys["b"] = list(zip((-score).tolist(), cosine.tolist(), strict=True))
    rows = [
        (f"d{i}", *keys["all"][i], {"b": (keys["b"][i][0], keys["b"][i][1])}) for i in draw.permutation(3000).tolist()
    ]
    ranked = spark.createDataFrame(
        rows,
        "doc_id string, target_score double, best_cosine float, "
        "by_benchmark map<string,struct<score:double,cosine:float>>",
    ).repartition(3)
    partitions = spark.conf.get("spark.sql.shuffle.partitions")
    spark.conf.set("spark.sql.shuffle.partitions", "7")
    try:
        with scratch(spark, str(tmp_path / "scratch")) as materialise:
            logits = direct_logits(ranked, {"s": None, "s_b": "b"}, n_documents=3000, materialise=materialise)
            assert "SinglePartition" not in logits._jdf.queryExecution().toString()
            computed = {row["doc_id"]: row for row in logits.collect()}
    finally:
        spark.conf.set("spark.sql.shuffle.partitions", partitions)
    for name, column in (("all", "logit_s"), ("b", "logit_s_b")):
        order = sorted(keys[name], reverse=True)
        first = {}
        for position, key in enumerate(order, start=1):
            first.setdefault(key, position)
        for i, key in enumerate(keys[name]):
            p = (3000 - first[key] + 0.5) / 3000
            assert computed[f"d{i}"][column] == pytest.approx(math.log(p / (1 - p)), rel=1e-6)


def test_new_documents_are_also_ranked_and_only_they_are_embedded(
    spark: Any, config: Config, corpus: list[dict[str, Any]], tmp_path: Path
) -> None:
    before = spark.read.format("delta").load(config.table("_embeddings")).count()
    write_parquet(tmp_path, corpus[120:150])
    shutil.copy(tmp_path / "part-0.parquet", Path(config.input.path) / "more.parquet")
    with pytest.raises(DataError, match="ranked_sample: not the ranking of the current input and configuration"):
        run_all(spark, config, "features")
    assert time_to_embed(InputSnapshot.current(spark, config), config).n_documents <= 150 - before
    run_all(spark, config)
    ranked, scored = rows_of(spark, config, "ranked_sample"), rows_of(spark, config, "features")
    assert len(scored) == 150
    assert len(ranked) == sum(row["n_words"] > 0 for row in scored.values())
    logits = np.array([row["logit_betr"] for row in scored.values() if row["n_words"]])
    assert not np.isnan(logits).any()
    assert spark.read.format("delta").load(config.table("_embeddings")).count() == len(ranked)
