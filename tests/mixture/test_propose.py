"""The proposal against a grid over all mixtures, and its limits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from betr_spark.mixture.law import Law
from betr_spark.mixture.propose import PENALTY, divergence, propose, within_limits


def case(seed: int, n_groups: int, scale: float) -> tuple[list[Law], np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    laws = [Law(float(rng.normal()), rng.normal(0, scale, n_groups)) for _ in range(int(rng.integers(1, 6)))]
    natural = rng.dirichlet(np.ones(n_groups)) + 1e-4
    natural /= natural.sum()
    limits = np.minimum(1.0, natural * rng.uniform(1, 5, n_groups))
    return laws, natural, limits


def value(laws: list[Law], natural: np.ndarray, p: np.ndarray) -> float:
    """The objective as it is documented; 0 log 0 is 0."""
    kl = sum(x * np.log(x / q) for x, q in zip(p, natural, strict=True) if x > 0)
    return float(np.mean([law.c + np.exp(law.t @ p) for law in laws]) + PENALTY * kl)


@pytest.mark.parametrize("seed", range(20))
def test_the_proposal_is_the_best_point_of_a_grid(seed: int) -> None:
    laws, natural, limits = case(seed, 3, 1.0 + seed / 10)
    limits = limits if seed % 2 else np.ones(3)
    proposal = propose(laws, natural, limits=limits)
    steps = 200
    points = [
        np.array([i, j, steps - i - j]) / steps
        for i in range(steps + 1)
        for j in range(steps + 1 - i)
        if i <= limits[0] * steps and j <= limits[1] * steps and steps - i - j <= limits[2] * steps
    ]
    best = min(points, key=lambda p: value(laws, natural, p))
    own = value(laws, natural, proposal.weights)
    assert own == pytest.approx(proposal.objective, abs=1e-12)
    assert own <= value(laws, natural, best) + 1e-9
    assert np.abs(proposal.weights - best).max() < 0.03  # the grid has steps of 0.005, and the minimum is flat


@given(st.integers(0, 10**6), st.integers(2, 30), st.floats(0.01, 10))
@settings(max_examples=200)
def test_limits_hold_and_the_gap_is_closed(seed: int, n_groups: int, scale: float) -> None:
    laws, natural, limits = case(seed, n_groups, scale)
    proposal = propose(laws, natural, limits=limits)
    assert (proposal.weights > 0).all()
    assert (proposal.weights <= limits).all()
    assert proposal.weights.sum() == pytest.approx(1, abs=1e-10)
    assert proposal.gap <= 1e-8 * (1 + abs(proposal.objective))
    assert proposal.objective <= value(laws, natural, natural) + 1e-9  # natural is allowed, because limits >= natural


@pytest.mark.parametrize("seed", range(5))
def test_scipys_solver_finds_nothing_better(seed: int) -> None:
    laws, natural, limits = case(seed, 6, 1.0)
    proposal = propose(laws, natural, limits=limits)
    other = minimize(
        lambda p: value(laws, natural, p), natural, method="SLSQP", bounds=[(1e-12, limit) for limit in limits],
        constraints={"type": "eq", "fun": lambda p: p.sum() - 1}, options={"ftol": 1e-14, "maxiter": 1000},
    )  # fmt: skip
    assert proposal.objective <= other.fun + 1e-8
    assert proposal.weights == pytest.approx(other.x, abs=1e-3)


def test_laws_without_effect_leave_the_natural_mixture() -> None:
    natural = np.array([0.7, 0.2, 0.1])
    assert propose([Law(2.0, np.zeros(3))], natural).weights == pytest.approx(natural, abs=1e-12)


def test_the_known_answer_of_two_groups() -> None:
    """The derivative of exp(2p - 1) + 0.1 KL((p, 1 - p) || (1/2, 1/2)) is 0 at the minimum."""
    law = Law(0.0, np.array([1.0, -1.0]))
    p = propose([law], np.array([0.5, 0.5])).weights[0]
    assert 2 * np.exp(2 * p - 1) + 0.1 * np.log(p / (1 - p)) == pytest.approx(0, abs=1e-6)


def test_limits_of_sum_one_leave_one_mixture() -> None:
    laws, natural, _ = case(1, 3, 1.0)
    limits = np.array([0.5, 0.25, 0.25])
    assert propose(laws, natural, limits=limits).weights == pytest.approx(limits)
    with pytest.raises(ValueError, match="at least 1"):
        propose(laws, natural, limits=limits / 2)


def test_the_same_laws_give_the_same_bits() -> None:
    laws, natural, limits = case(2, 12, 2.0)
    first, second = (propose(laws, natural, limits=limits).weights for _ in range(2))
    assert first.tobytes() == second.tobytes()


@given(st.integers(0, 10**6), st.integers(1, 20), st.floats(0.1, 2000))
def test_within_limits_scales_what_is_free(seed: int, n_groups: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    log_weights = rng.normal(0, scale, n_groups)
    most = rng.uniform(0.5, 3, n_groups) / n_groups
    most = np.minimum(1, most / min(1, most.sum()))
    p = within_limits(log_weights, most)
    assert p.sum() == pytest.approx(1, abs=1e-9)
    assert (p <= most).all()
    free = (p < most) & (p > 1e-300)
    shifts = (np.log(p) - log_weights)[free]
    assert np.ptp(shifts) < 1e-6 if len(shifts) else True
    capped = p >= most
    if free.any():  # a group at its limit would get more
        assert (shifts.min() + log_weights[capped] >= np.log(most[capped]) - 1e-6).all()


def test_divergence_is_kl() -> None:
    assert divergence(np.array([0.5, 0.5]), np.array([0.25, 0.75])) == pytest.approx(0.5 * np.log(4 / 3))
