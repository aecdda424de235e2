"""Curves of repeats: totals, cap and order on random corpora, and closed forms against numerical integration."""

import os

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import brentq

from betr_spark.errors import DataError
from betr_spark.selection.repetition_curve import (
    BUCKET,
    Curve,
    RepetitionCurve,
    SigmoidCurve,
    expected_repeats,
    positions_of,
    realised_total,
    repeat_counts,
    solve_power_curve,
    solve_sigmoid_curve,
    total_deviation,
)

CASES = int(os.environ.get("CASES", "500"))


def mean_over(curve: Curve, lower: float, upper: float) -> float:
    breaks = [curve.drop] if isinstance(curve, RepetitionCurve) and lower < curve.drop < upper else None
    return float(quad(lambda x: float(curve.expected(np.array(x))), lower, upper, points=breaks, limit=200)[0]) / (
        upper - lower
    )


def corpus(rng: np.random.Generator) -> np.ndarray:
    """Tokens of documents: equal, long-tailed, or with empty ones."""
    n = int(rng.integers(1, 4000))
    kinds = [np.full(n, 100), rng.lognormal(6, 1.5, n), rng.integers(0, 50, n), rng.pareto(1.1, n) * 100]
    tokens = kinds[int(rng.integers(4))].astype(np.int64)
    tokens[int(rng.integers(n))] += 1
    return tokens


def check_curve(curve: Curve, tokens: np.ndarray, target: int, cap: float, rng: np.random.Generator) -> float:
    """Assert order, cap and expected total; return the realised total's distance from the target in deviations."""
    available = int(tokens.sum())
    grid = np.linspace(0, 1, 2001)
    values = curve.expected(grid)
    assert (values >= 0).all()
    assert (np.diff(values) >= -1e-12 * values.max()).all()
    starts = np.linspace(0, 1 - BUCKET, 400)
    means = (curve.integral(starts + BUCKET) - curve.integral(starts)) / BUCKET
    assert means.max() <= cap * (1 + 1e-9)
    assert float(curve.integral(np.array(1.0))) * available == pytest.approx(target, rel=1e-9, abs=1e-6 * available)
    expected = expected_repeats(curve, tokens)
    assert (np.diff(expected) >= -1e-12 * max(1, expected.max())).all()
    assert float(expected @ tokens) == pytest.approx(target, rel=1e-6, abs=1e-6 * available)
    uniform = rng.random(len(tokens))
    total = realised_total(curve, tokens, uniform)
    assert total == int((repeat_counts(expected, uniform) * tokens).sum())
    deviation = total_deviation(expected, tokens)
    drawn = tokens[(expected % 1 > 0)]
    rare = (
        drawn.max() if len(drawn) and drawn.max() > deviation else 0
    )  # one document of a small chance is no normal sum
    return max(0, abs(total - target) - rare) / (deviation + 1e-6 * available + 1)


@pytest.mark.parametrize("block", range(10))
def test_random_corpora_meet_the_target(block: int) -> None:
    """Four deviations of one draw are exceeded by chance 6 times in 100,000; the seeds here are fixed."""
    worst = 0.0
    for seed in range(block, CASES, 10):
        rng = np.random.default_rng(seed)
        tokens = corpus(rng)
        available = int(tokens.sum())
        drop, cap = float(rng.choice([0.0, 0.4, 0.9, rng.random()])), float(rng.choice([1.0, 2.5, 7.0]))
        largest = int(cap * (1 - drop) * available * (1 - 1e-9))
        target = int(rng.random() * largest)
        power = solve_power_curve(available, target, drop=drop, cap=cap)
        worst = max(worst, check_curve(power, tokens, target, cap, rng))
        temperature = float(10 ** rng.uniform(-3, 0))
        sigmoid = solve_sigmoid_curve(available, int(rng.random() * cap * available), temperature=temperature, cap=cap)
        total = round(float(sigmoid.integral(np.array(1.0))) * available)
        worst = max(worst, check_curve(sigmoid, tokens, total, cap, rng))
    assert worst < 4


@pytest.mark.parametrize("seed", range(40))
def test_closed_forms_are_those_of_numerical_integration(seed: int) -> None:
    rng = np.random.default_rng(seed)
    drop, mean = float(rng.uniform(0, 0.9)), float(rng.uniform(0.1, 2))
    power = RepetitionCurve(mean=mean, drop=drop, exponent=float(rng.uniform(0, 8)))
    assert mean_over(power, 0, 1) == pytest.approx(mean, rel=1e-6)
    x = float(rng.uniform(drop, 1))
    assert float(power.expected(np.array(x))) == pytest.approx(power.scale * (x - drop) ** power.exponent, rel=1e-9)
    sigmoid = SigmoidCurve(
        floor=0.2, cap=5, middle=float(rng.uniform(-0.2, 1.2)), temperature=float(rng.uniform(0.02, 1))
    )
    for curve in (power, sigmoid):
        lower, upper = np.sort(rng.random(2))
        expected = mean_over(curve, lower, upper) * (upper - lower)
        integral = curve.integral(np.array([lower, upper]))
        assert integral[1] - integral[0] == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize(("drop", "mean", "cap"), [(0.4, 1.0, 7.0), (0.0, 1.0, 3.0), (0.5, 2.0, 6.0), (0.9, 0.5, 7.0)])
def test_the_exponent_is_where_the_best_bucket_meets_the_cap(drop: float, mean: float, cap: float) -> None:
    curve = solve_power_curve(10**9, int(mean * 10**9), drop=drop, cap=cap, max_exponent=100)

    def above(exponent: float) -> float:
        return mean_over(RepetitionCurve(mean=mean, drop=drop, exponent=exponent), 1 - BUCKET, 1) - cap

    assert curve.exponent == pytest.approx(brentq(above, 0, 100), abs=1e-6)


def test_the_published_setting() -> None:
    """Drop the lowest 40 % and repeat the best 5 % seven times."""
    curve = solve_power_curve(10**12, 10**12, drop=0.4, cap=7)
    assert 0 < curve.exponent < 8
    assert mean_over(curve, 0.95, 1) == pytest.approx(7, rel=1e-9)
    assert curve.expected(np.array([0.0, 0.39])).tolist() == [0.0, 0.0]


def test_the_exponent_is_bounded_where_the_cap_does_not_bind() -> None:
    assert solve_power_curve(1000, 100, drop=0.4).exponent == 8
    assert solve_power_curve(1000, 100, drop=0.4, max_exponent=2.5).exponent == 2.5
    assert solve_power_curve(1000, 600, drop=0.4, max_exponent=0).expected(
        np.array([0.3, 0.4, 1.0])
    ).tolist() == pytest.approx([0, 1, 1])


def test_the_largest_total_is_exact() -> None:
    flat = solve_power_curve(1001, 4204, drop=0.4, cap=7)  # 7 * 0.6 * 1001 = 4204.2
    assert flat.exponent == pytest.approx(0, abs=1e-2)
    with pytest.raises(DataError, match=r"^s: 4,205 tokens; at most 4,204 are possible: 7 times 0.6 of 1,001 tokens$"):
        solve_power_curve(1001, 4205, drop=0.4, cap=7, where="s")
    exact = solve_power_curve(10**18, 7 * 10**17, drop=0.9, cap=7)
    assert exact.exponent == pytest.approx(0, abs=1e-9)
    with pytest.raises(DataError, match="700,000,000,000,000,001 tokens"):
        solve_power_curve(10**18, 7 * 10**17 + 1, drop=0.9, cap=7)


def test_a_target_of_nothing_and_an_empty_corpus() -> None:
    tokens = np.array([3, 5, 7])
    for curve in (solve_power_curve(15, 0, drop=0.4), solve_power_curve(0, 0, drop=0.4)):
        assert realised_total(curve, tokens, np.zeros(3)) == 0
    assert expected_repeats(solve_power_curve(0, 0, drop=0.4), np.zeros(2, np.int64)).tolist() == [0, 0]
    with pytest.raises(DataError, match="at most 0 are possible"):
        solve_power_curve(0, 1, drop=0.4)


def test_the_target_is_all_there_is() -> None:
    tokens = np.full(10_000, 100)
    flat = solve_power_curve(10**6, 10**6, drop=0.0, max_exponent=0)
    assert realised_total(flat, tokens, np.full(10_000, 0.999)) == 10**6  # each document once, whatever is drawn


def test_one_huge_document_has_the_mean_of_its_interval() -> None:
    tokens = np.array([10, 10**6, 10])
    curve = solve_power_curve(int(tokens.sum()), 1_500_000, drop=0.4)
    expected = expected_repeats(curve, tokens)
    assert expected[1] == pytest.approx(mean_over(curve, *positions_of(tokens)[1:3]), rel=1e-6)
    assert float(expected @ tokens) == pytest.approx(1_500_000, rel=1e-6)
    assert (
        realised_total(curve, tokens, np.array([0.9, 0.2, 0.9]))
        - realised_total(curve, tokens, np.array([0.9, 0.9, 0.9]))
        == 10**6
    )


def test_a_single_bin_has_the_mean_of_all() -> None:
    assert expected_repeats(solve_power_curve(100, 250, drop=0.4), np.array([100])).tolist() == pytest.approx([2.5])


@pytest.mark.parametrize("drop", [0.96, 0.999, 1 - 1e-9, 1 - 1e-12])
def test_a_drop_close_to_one_keeps_the_cap(drop: float) -> None:
    available = 10**18
    target = int(3 * (1 - drop) * available)
    curve = solve_power_curve(available, target, drop=drop, cap=7, max_exponent=0.5)
    assert float(curve.integral(np.array(1.0))) * available == pytest.approx(target, rel=1e-9)
    assert float(curve.expected(np.array(1.0))) == pytest.approx(4.5, rel=1e-6)
    tokens = np.array([available - 2, 1, 1])
    assert np.isfinite(expected_repeats(curve, tokens)).all()


def test_bins_of_no_width_have_the_value_at_their_position() -> None:
    curve = solve_power_curve(100, 100, drop=0.4)
    expected = expected_repeats(curve, np.array([0, 50, 0, 50, 0]))
    assert expected[2] == pytest.approx(float(curve.expected(np.array(0.5))))
    assert expected[4] == pytest.approx(float(curve.expected(np.array(1.0))))


def test_narrow_documents_keep_the_order_and_the_total() -> None:
    tokens = np.concatenate([np.full(300_000, 1), [10**4], np.full(300_000, 1)])
    curve = solve_power_curve(int(tokens.sum()), 500_000, drop=0.4)
    expected = expected_repeats(curve, tokens)
    assert (np.diff(expected) >= 0).all()
    assert float(expected @ tokens) == pytest.approx(500_000, rel=1e-8)


def test_counts_are_rounded_down_or_up() -> None:
    expected = np.array([0.0, 0.25, 1.0, 2.5, 2.5])
    assert repeat_counts(expected, np.array([0.0, 0.3, 0.0, 0.49, 0.5])).tolist() == [0, 0, 1, 3, 2]
    assert total_deviation(np.array([0.5, 1.0]), np.array([10, 99])) == 5


def test_a_sigmoid_reaches_its_ends() -> None:
    for target, value in ((200, 0.2), (5000, 5.0)):
        curve = solve_sigmoid_curve(1000, target, temperature=0.05, floor=0.2, cap=5)
        assert curve.expected(np.array([0.0, 1.0])) == pytest.approx([value] * 2)
    with pytest.raises(DataError, match="5,001 tokens; 200 to 5,000 are possible: 0.2 to 5 repeats"):
        solve_sigmoid_curve(1000, 5001, temperature=0.05, floor=0.2, cap=5)
    cut = solve_sigmoid_curve(1000, 700, temperature=1e-4, cap=7)
    assert cut.expected(np.array([0.89, 0.91])) == pytest.approx([0, 7], abs=1e-6)


@pytest.mark.parametrize(
    "changes", [{"drop": 1.0}, {"drop": -0.1}, {"cap": 0}, {"max_exponent": -1}, {"bucket": 0}, {"target": -1}]
)
def test_arguments_out_of_range(changes: dict[str, float]) -> None:
    arguments = {"available": 100, "target": 10, "drop": 0.4, **changes}
    with pytest.raises(ValueError, match="out of range"):
        solve_power_curve(**arguments)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="out of range"):
        solve_sigmoid_curve(100, 10, temperature=0.0)
