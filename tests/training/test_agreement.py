"""Figures compared with scipy and with hand counts."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from betr_spark.training.agreement import (
    Evaluated,
    TargetScores,
    calibration,
    details,
    scorer_metrics,
    spearman,
    warnings,
)
from betr_spark.training.records import FitMetrics, ScorerMetrics


def evaluated(n: int, seed: int) -> tuple[Evaluated, TargetScores]:
    draw = np.random.default_rng(seed)
    score = 1 / draw.integers(1, 8, n)
    logit = (score + draw.normal(size=n)).astype(np.float32)
    logit[:3] = np.nan
    benchmarks, sources = draw.choice(["a", "b"], n).tolist(), draw.choice(["x", "y", "z"], n).tolist()
    cosine, label = draw.random(n).astype(np.float32), draw.integers(-1, 2, n).astype(np.int8)
    target = TargetScores(score, cosine, label, benchmarks)
    return Evaluated(logit, draw.integers(1, 9, n), sources, target), target


def test_spearman_equals_scipy_with_ties() -> None:
    x, y = np.array([1.0, 2, 2, 5, 3, 1]), np.array([0.5, 0.5, 9, 7, 7, -1])
    assert spearman(x, y) == pytest.approx(spearmanr(x, y).statistic)
    assert spearman(x, np.ones(6)) == 0.0


def test_recall_counts_the_top_of_the_target_ranking_in_the_top_of_the_scorer() -> None:
    rows, target = evaluated(500, 1)
    figures = scorer_metrics(FitMetrics(n_training=7), rows).to_mapping()
    assert figures["n_training"] == 7
    order = sorted(range(500), key=lambda i: (-target.score[i], -target.cosine[i]))
    by_logit = sorted(range(500), key=lambda i: -np.nan_to_num(rows.logit[i], nan=-1e9))
    for percent in (1, 3, 10, 30):
        top = round(5 * percent)
        assert figures[f"recall_at_{percent}_percent"] == len(set(order[:top]) & set(by_logit[:top])) / top
    more = details(rows)
    of_a = [i for i in order[:50] if target.benchmarks[i] == "a"]
    assert more["recall_at_10_percent_by_benchmark"]["a"] == len(set(of_a) & set(by_logit[:50])) / len(of_a)
    x = more["source_shares"]["x"]
    top_share = sum(rows.sources[i] == "x" for i in by_logit[:50]) / 50
    assert x == {"sample": list(rows.sources).count("x") / 500, "top": top_share}


def test_without_a_target_ranking_only_its_figures_are_missing() -> None:
    rows, _ = evaluated(100, 2)
    fit = FitMetrics(validation_auc=0.75)
    figures = scorer_metrics(fit, rows._replace(target=None)).to_mapping()
    ranked = scorer_metrics(fit, rows).to_mapping()
    assert figures == {name: ranked[name] for name in ("validation_auc", "n_evaluated", "spearman_length")}
    assert details(rows._replace(target=None)) == {"source_shares": details(rows)["source_shares"]}


def test_calibration_compares_probabilities_with_labels() -> None:
    logit, label = np.array([-9, -9, 9, 9, np.nan, 0], np.float32), np.array([0, 1, 1, 1, 1, -1], np.int8)
    low, high = calibration(logit, label)
    assert (low["n"], low["positive"], high["n"], high["positive"]) == (2, 0.5, 2, 1.0)
    assert low["probability"] == pytest.approx(1 / (1 + np.exp(9)))


def test_warnings_name_the_figure() -> None:
    assert warnings(ScorerMetrics(n_positive=1000, validation_accuracy=0.95, spearman_length=-0.5)) == []
    assert warnings(ScorerMetrics()) == []
    few, accurate, long = warnings(ScorerMetrics(n_positive=999, validation_accuracy=0.97, spearman_length=-0.6))
    assert "999 positive documents" in few
    assert "0.970" in accurate
    assert "-0.60" in long
