"""Figures against scipy and against hand counts."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from betr_spark.training.agreement import Sampled, agreement, calibration, details, spearman, warnings


def sampled(n: int, seed: int) -> Sampled:
    draw = np.random.default_rng(seed)
    teacher = 1 / draw.integers(1, 8, n)
    logit = (teacher + draw.normal(size=n)).astype(np.float32)
    logit[:3] = np.nan
    benchmarks, sources = draw.choice(["a", "b"], n).tolist(), draw.choice(["x", "y", "z"], n).tolist()
    cosine, label = draw.random(n).astype(np.float32), draw.integers(-1, 2, n).astype(np.int8)
    return Sampled(teacher, cosine, logit, label, draw.integers(1, 9, n), benchmarks, sources)


def test_spearman_equals_scipy_with_ties() -> None:
    one, other = np.array([1.0, 2, 2, 5, 3, 1]), np.array([0.5, 0.5, 9, 7, 7, -1])
    assert spearman(one, other) == pytest.approx(spearmanr(one, other).statistic)
    assert spearman(one, np.ones(6)) == 0.0


def test_recall_counts_the_teacher_s_top_in_the_scorer_s() -> None:
    rows = sampled(500, 1)
    found = agreement(rows)
    order = sorted(range(500), key=lambda i: (-rows.teacher[i], -rows.cosine[i]))
    own = sorted(range(500), key=lambda i: -np.nan_to_num(rows.logit[i], nan=-1e9))
    for percent in (1, 3, 10, 30):
        top = round(5 * percent)
        assert found[f"recall_at_{percent}_percent"] == len(set(order[:top]) & set(own[:top])) / top
    more = details(rows)
    of_a = [i for i in order[:50] if rows.benchmarks[i] == "a"]
    assert more["recall_at_10_percent_by_benchmark"]["a"] == len(set(of_a) & set(own[:50])) / len(of_a)
    x = more["source_shares"]["x"]
    assert x == {"sample": rows.sources.count("x") / 500, "top": sum(rows.sources[i] == "x" for i in own[:50]) / 50}


def test_calibration_compares_probabilities_with_labels() -> None:
    logit, label = np.array([-9, -9, 9, 9, np.nan, 0], np.float32), np.array([0, 1, 1, 1, 1, -1], np.int8)
    low, high = calibration(logit, label)
    assert (low["n"], low["positive"], high["n"], high["positive"]) == (2, 0.5, 2, 1.0)
    assert low["probability"] == pytest.approx(1 / (1 + np.exp(9)))


def test_warnings_name_the_figure() -> None:
    assert warnings({"n_positive": 1000, "validation_accuracy": 0.95, "spearman_length": -0.5}) == []
    few, accurate, long = warnings({"n_positive": 999, "validation_accuracy": 0.97, "spearman_length": -0.6})
    assert "999 positive documents" in few
    assert "0.970" in accurate
    assert "-0.60" in long
