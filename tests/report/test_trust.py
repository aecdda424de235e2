"""Agreement of a scorer with the target ranking: counted by hand, and on a finished run."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import functions as F
from scipy.stats import spearmanr

from betr_spark.config import load_config
from betr_spark.errors import DataError
from betr_spark.intervals import Rate
from betr_spark.ranking.labels import held_out
from betr_spark.report.held_out import HeldOut, OfBenchmark
from betr_spark.report.trust import deciles, trust, trust_of
from betr_spark.storage import delta

N = 100


def rows() -> HeldOut:
    """The target ranking is 0, 1, ..., 99; the scorer swaps the first five with the next five of the top 10 %."""
    score = -np.arange(N, dtype=np.float64)
    logit = score.copy()
    logit[:5], logit[50:55] = score[50:55], score[:5]
    logit[99] = np.nan
    best = ["a" if number % 2 else "b" for number in range(N)]
    own = OfBenchmark(score[::-1].copy(), np.zeros(N), score[::-1].copy())
    none = OfBenchmark(np.full(N, np.nan), np.full(N, np.nan), None)
    label = np.where(np.arange(N) < 10, 1, np.where(np.arange(N) < 20, 0, -1)).astype(np.int8)
    return HeldOut(logit, score, np.zeros(N), label, best, {"a": own._replace(logit=None), "b": own, "c": none})


def test_recall_is_counted_in_tops_of_the_same_size() -> None:
    figures = trust_of(rows(), scorer="s", kind="betr", is_target_ranking=False)
    assert [(at.percent, at.recall) for at in figures.recalls] == [
        (1, Rate.of_counts(0, 1)),
        (3, Rate.of_counts(0, 3)),
        (10, Rate.of_counts(5, 10)),  # 5 to 9 of the first ten
        (30, Rate.of_counts(25, 30)),
    ]
    assert (figures.n_held_out, figures.n_without_score) == (100, 1)
    expected = spearmanr(rows().score, np.nan_to_num(rows().logit, nan=-1e9)).statistic
    assert figures.spearman == pytest.approx(expected)


def test_benchmarks_are_those_that_rank_documents() -> None:
    a, b = trust_of(rows(), scorer="s", kind="betr", is_target_ranking=False).benchmarks
    assert (a.benchmark, b.benchmark) == ("a", "b")
    assert a.recall_of_best == Rate.of_counts(3, 5)  # 5, 7 and 9 of 1, 3, 5, 7, 9
    assert b.recall_of_best == Rate.of_counts(2, 5)  # 6 and 8
    assert a.recall == b.recall == Rate.of_counts(0, 10)  # its order is the reverse
    assert a.spearman < -0.4
    assert (a.recall_by_benchmark_scorer, b.recall_by_benchmark_scorer) == (None, Rate.of_counts(10, 10))


def test_deciles_have_the_labelled_documents_with_a_score_best_first() -> None:
    logit, label = np.array([2.0, 1, 0, -1, np.nan, 5]), np.array([1, 0, 1, 0, 1, -1], np.int8)
    parts = deciles(logit, label)
    assert [(part.low, part.high, part.positive.n, part.positive.of) for part in parts] == [
        (2, 2, 1, 1), (1, 1, 0, 1), (0, 0, 1, 1), (-1, -1, 0, 1),
    ]  # fmt: skip
    assert parts[0].score == pytest.approx(1 / (1 + math.exp(-2)))
    best, *_ = deciles(np.arange(40.0), (np.arange(40) % 4 == 0).astype(np.int8))
    assert (best.low, best.high, best.positive) == (36, 39, Rate.of_counts(1, 4))


def test_figures_of_a_finished_run(spark: Any, finished: Path) -> None:
    config = load_config(finished / "conf.yaml")
    figures, control = trust(spark, config, ["betr", "random"]).values()
    assert figures
    assert control
    ranked = delta.read(spark, config.table("ranked_sample")).where(held_out()).drop("by_benchmark")
    sample = ranked.withColumn("hash", F.xxhash64("doc_id")).toPandas()
    logits = delta.read(spark, config.table("features")).select("doc_id", "logit_betr").toPandas()
    held = sample.merge(logits, on="doc_id")
    assert figures.n_held_out == control.n_held_out == len(held) > 30
    assert (figures.kind, control.kind, figures.is_target_ranking) == ("betr", "random", False)
    validation = held[(held.split == "validation") & held.logit_betr.notna()]
    assert sum(part.positive.of for part in figures.deciles) == len(validation)
    assert sum(part.positive.n for part in figures.deciles) == validation.label.sum()
    top = round(len(held) * 0.3)
    in_target = held.sort_values(["target_score", "best_cosine", "hash"], ascending=[False, False, True]).doc_id[:top]
    in_scored = held.sort_values(["logit_betr", "hash"], ascending=[False, True]).doc_id[:top]
    assert figures.recalls[3].recall == Rate.of_counts(len({*in_target} & {*in_scored}), top)
    assert figures.spearman > abs(control.spearman)
    assert [one.benchmark for one in figures.benchmarks] == ["cooking", "sailing"]


def test_a_benchmark_scorer_is_named_as_one(spark: Any, finished: Path, tmp_path: Path) -> None:
    overrides = ("scorers.betr={per_benchmark: true}", "selections.c={scorer: betr_sailing, keep: {documents: 1}}")
    config = load_config(finished / "conf.yaml", (*overrides, f"output={tmp_path}"))
    source = delta.read(spark, str(finished / "out/features")).withColumnRenamed("logit_betr", "logit_betr_sailing")
    delta.overwrite(source, config.table("features"), user_metadata="")
    delta.overwrite(
        delta.read(spark, str(finished / "out/ranked_sample")), config.table("ranked_sample"), user_metadata=""
    )
    found = trust(spark, config, ["betr_sailing"])["betr_sailing"]
    assert found
    assert (found.scorer, found.kind) == ("betr_sailing", "benchmark")


def test_without_a_target_ranking_there_are_no_figures(spark: Any, finished: Path) -> None:
    config = load_config(
        finished / "conf.yaml", ("scorers={}", "selections={c: {scorer: random, keep: {documents: 1}}}")
    )
    assert trust(spark, config, ["random"]) == {"random": None}


def test_a_scorer_without_a_logit_is_a_user_error(spark: Any, finished: Path) -> None:
    config = load_config(finished / "conf.yaml", ("scorers.new={}", "selections.betr-30.scorer=new"))
    with pytest.raises(DataError, match="no column 'logit_new'; add it with `betr-spark features`"):
        trust(spark, config, ["betr", "new"])
