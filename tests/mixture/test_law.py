"""The law on runs whose law is known, and the figures of left-out runs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from betr_spark.errors import DataError
from betr_spark.mixture.fit import Fit, TaskFit, fit_runs, left_out, rank_correlation
from betr_spark.mixture.law import DELTA, Law, fit_law, huber
from betr_spark.mixture.runs import Runs


def drawn(seed: int, n_groups: int, n_runs: int) -> tuple[np.ndarray, np.random.Generator]:
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.ones(n_groups), n_runs), rng


def runs_of(weights: np.ndarray, losses: np.ndarray) -> Runs:
    mixture = np.unique(weights, axis=0, return_inverse=True)[1].reshape(-1)
    groups = tuple(f"g{number}" for number in range(weights.shape[1]))
    return Runs("runs.csv", groups, tuple(f"t{k}" for k in range(losses.shape[1])), weights, losses, mixture)


@given(st.integers(0, 10**6), st.integers(2, 8), st.floats(-5, 5))
@settings(max_examples=40)
def test_a_law_without_noise_is_recovered(seed: int, n_groups: int, c: float) -> None:
    weights, rng = drawn(seed, n_groups, 6 * n_groups)
    t = rng.normal(0, 1, n_groups) + np.array([1.0] + [-1.0] * (n_groups - 1))  # never the same for all groups
    losses = c + np.exp(weights @ t)
    law = fit_law(weights, losses)
    assert np.abs(law.predict(weights) - losses).max() < 1e-5
    assert law.c == pytest.approx(c, abs=5e-3)
    assert law.t == pytest.approx(t, abs=2e-2)


def test_c_and_t_of_a_curved_law_are_exact() -> None:
    weights, _ = drawn(3, 4, 40)
    t = np.array([1.5, -2.0, 0.5, 0.0])
    law = fit_law(weights, 2.0 + np.exp(weights @ t))
    assert law.c == pytest.approx(2.0, abs=1e-6)
    assert law.t == pytest.approx(t, abs=1e-6)


def test_a_constant_added_to_the_losses_is_added_to_c_only() -> None:
    weights, rng = drawn(4, 3, 30)
    losses = 1 + np.exp(weights @ np.array([1.0, -1.0, 0.3])) + rng.normal(0, 0.01, 30)
    first, second = fit_law(weights, losses), fit_law(weights, losses + 7)
    assert second.c - first.c == pytest.approx(7, abs=1e-3)
    assert second.t == pytest.approx(first.t, abs=1e-3)


def test_nearly_linear_losses_give_a_finite_law() -> None:
    weights, _ = drawn(5, 3, 30)
    losses = 3 + weights @ np.array([0.2, -0.1, 0.05])
    law = fit_law(weights, losses)
    assert np.isfinite([law.c, *law.t]).all()
    assert np.abs(law.predict(weights) - losses).max() < 1e-3


def test_one_wrong_loss_does_not_move_the_law() -> None:
    weights, rng = drawn(6, 3, 40)
    t = np.array([1.0, -1.0, 0.3])
    losses = 1 + np.exp(weights @ t) + rng.normal(0, 1e-3, 40)
    wrong = losses.copy()
    wrong[7] += 5
    true = Law(1.0, t).predict(weights)
    assert np.abs(fit_law(weights, wrong).predict(weights) - true).max() < 0.02
    squares = fit_law(weights, wrong, delta=1e3)  # without the linear part the run counts
    assert np.abs(squares.predict(weights) - true).max() > 0.1


def test_the_fit_is_a_minimum_of_the_stated_loss() -> None:
    weights, rng = drawn(7, 3, 30)
    losses = 1 + np.exp(weights @ np.array([1.0, -1.0, 0.3])) + rng.normal(0, 0.05, 30)
    law = fit_law(weights, losses)

    def total(c: float, t: np.ndarray) -> float:
        return float(huber(Law(c, t).predict(weights) - losses, DELTA)[0].sum())

    least = total(law.c, law.t)
    for _ in range(200):
        assert total(law.c + rng.normal(0, 0.01), law.t + rng.normal(0, 0.01, 3)) >= least - 1e-9


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=9), st.floats(0.001, 5))
def test_huber_is_quadratic_inside_and_linear_outside(residuals: list[float], delta: float) -> None:
    values, derivative = huber(np.array(residuals), delta)
    for r, value, slope in zip(residuals, values, derivative, strict=True):
        size = abs(r)
        assert value == pytest.approx(r * r / 2 if size <= delta else delta * (size - delta / 2))
        assert slope == pytest.approx(max(-delta, min(delta, r)))


def test_the_same_runs_give_the_same_bits() -> None:
    weights, rng = drawn(8, 5, 25)
    losses = rng.normal(3, 1, 25)
    first, second = fit_law(weights, losses), fit_law(weights.copy(), losses.copy())
    assert first.c == second.c
    assert first.t.tobytes() == second.t.tobytes()


def test_left_out_runs_are_predicted_and_noise_is_not() -> None:
    weights, rng = drawn(9, 4, 40)
    clean = 1 + np.exp(weights @ np.array([1.0, -1.0, 0.3, 0.0]))
    fit = fit_runs(runs_of(weights, np.column_stack([clean, rng.normal(3, 0.3, 40)])))
    assert fit.tasks[0].agreement > 0.999
    assert fit.tasks[0].error < 1e-3
    assert abs(fit.tasks[1].agreement) < 0.5
    assert fit.tasks[1].error > 0.8 * fit.tasks[1].spread
    assert fit.agreement == pytest.approx((fit.tasks[0].agreement + fit.tasks[1].agreement) / 2)


def test_runs_of_one_mixture_are_left_out_together() -> None:
    weights, rng = drawn(10, 3, 8)
    twice = np.repeat(weights, 2, axis=0)
    noise = np.repeat(rng.normal(3, 1, 8), 2)  # two runs of a mixture agree; mixtures have nothing to do with losses
    predicted = left_out(runs_of(twice, noise[:, None]), noise)
    assert rank_correlation(noise, predicted) < 0.6
    for number in range(8):
        rest = np.arange(16) // 2 != number
        expected = fit_law(twice[rest], noise[rest]).predict(weights[number])
        assert predicted[2 * number] == pytest.approx(expected, rel=1e-6)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=3, max_size=20))
def test_rank_correlation_is_scipys(pairs: list[tuple[int, int]]) -> None:
    x, y = np.array(pairs, float).T
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        assert rank_correlation(x, y) == 0.0
    else:
        assert rank_correlation(x, y) == pytest.approx(spearmanr(x, y).statistic, abs=1e-12)


@pytest.mark.parametrize(("agreement", "refused"), [(0.4, True), (0.5, False), (0.9, False)])
def test_a_fit_that_does_not_predict_is_refused(agreement: float, refused: bool) -> None:
    weights, _ = drawn(11, 3, 10)
    runs = runs_of(weights, weights[:, :2])
    law = Law(0.0, np.zeros(3))
    fit = Fit([TaskFit("a", law, agreement, 0.1, 0.1), TaskFit("b", law, agreement, 0.1, 0.1)])
    if not refused:
        fit.check(runs)
        return
    with pytest.raises(
        DataError, match=r"runs.csv: .* 0.40 \(a 0.40, b 0.40\); at least 0.5 .* .about 15 distinct .* found 10"
    ):
        fit.check(runs)
