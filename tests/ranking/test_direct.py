"""`encoder.mode: direct`: the ranking of all documents is the score, follows the input, and embeds only what is new."""

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import settings, write_parquet

from betr_spark.config import Config
from betr_spark.errors import DataError
from betr_spark.pipeline.run import outlook, plan, run_all
from betr_spark.pipeline.stage import RunContext
from betr_spark.ranking.estimate import time_to_embed


def rows_of(spark: Any, config: Config, table: str) -> dict[str, Any]:
    return {row["doc_id"]: row for row in spark.read.format("delta").load(config.table(table)).collect()}


def made(spark: Any, config: Config) -> None:
    run_all(spark, config)


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


def test_the_score_is_the_place_in_the_ranking_of_all(spark: Any, config: Config, corpus: list[dict[str, Any]]) -> None:
    assert "at most 120 documents to embed" in "\n".join(outlook(RunContext(spark, config)))
    made(spark, config)
    assert not Path(config.table("scorers/betr")).exists()
    ranked, found = rows_of(spark, config, "ranked_sample"), rows_of(spark, config, "features")
    assert set(ranked) == {name for name, row in found.items() if row["n_words"]}
    assert config.survivor() == "betr"
    assert config.scored() == ["ratio", "betr", "betr_cooking", "betr_sailing"]
    for head in ("betr", "betr_cooking", "betr_sailing"):
        benchmark = head.removeprefix("betr").removeprefix("_")
        keys = {
            name: (row["by_benchmark"][benchmark]["score"], row["by_benchmark"][benchmark]["cosine"])
            if benchmark
            else (row["target_score"], row["best_cosine"])
            for name, row in ranked.items()
        }
        for name, row in found.items():
            logit = row[f"logit_{head}"]
            if name not in ranked:
                assert logit is None
                continue
            ahead = 1 - (sum(other > keys[name] for other in keys.values()) + 0.5) / len(keys)
            assert logit == pytest.approx(math.log(ahead / (1 - ahead)), rel=1e-6)
    chosen = spark.read.format("delta").load(config.table("selected/best")).orderBy("rank").collect()
    assert chosen[0]["score"] == pytest.approx(1 - 0.5 / len(ranked), rel=1e-6)
    assert [row["logit"] for row in chosen] == sorted((row["logit"] for row in chosen), reverse=True)
    assert not any(planned.work for planned in plan(RunContext(spark, config)))


def test_new_documents_are_ranked_too_and_alone_embedded(
    spark: Any, config: Config, corpus: list[dict[str, Any]], tmp_path: Path
) -> None:
    before = spark.read.format("delta").load(config.table("_embeddings")).count()
    write_parquet(tmp_path, corpus[120:150])
    shutil.copy(tmp_path / "part-0.parquet", Path(config.input.path) / "more.parquet")
    with pytest.raises(DataError, match="ranked_sample: not the ranking of this input and configuration"):
        run_all(spark, config, "features")
    assert time_to_embed(spark, config).n_documents <= 150 - before
    made(spark, config)
    ranked, found = rows_of(spark, config, "ranked_sample"), rows_of(spark, config, "features")
    assert len(found) == 150
    assert len(ranked) == sum(row["n_words"] > 0 for row in found.values())
    logits = np.array([row["logit_betr"] for row in found.values() if row["n_words"]])
    assert not np.isnan(logits).any()
    assert spark.read.format("delta").load(config.table("_embeddings")).count() == len(ranked)
