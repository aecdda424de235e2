"""The soft cap against drawing one document after the other."""

import heapq

import numpy as np
import pytest

from betr_spark.errors import DataError
from betr_spark.selection.repetition_curve import expected_repeats
from betr_spark.selection.soft_cap import solve_soft_cap


def drawn(n: int, n_draws: int, *, penalty: float, cap: int) -> np.ndarray:
    """Draw the document with the highest value, multiply the value by the penalty, and so on; the worst document first."""
    counts = np.zeros(n, int)
    heap = [(-(document + 0.5) / n, document) for document in range(n)]
    heapq.heapify(heap)
    for _ in range(n_draws):
        value, document = heapq.heappop(heap)
        counts[document] += 1
        if counts[document] < cap:
            heapq.heappush(heap, (value * penalty, document))
    return counts


@pytest.mark.parametrize("penalty", [0.3, 0.5, 0.9])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.7, 1.9, 3.99, 4.0])
def test_repeats_are_those_of_drawing_one_by_one(penalty: float, share: float) -> None:
    n, cap = 1_000, 4
    curve = solve_soft_cap(10 * n, round(share * 10 * n), penalty=penalty, cap=cap)
    expected = expected_repeats(curve, np.full(n, 10))
    assert expected.sum() == pytest.approx(share * n, abs=1e-6)
    assert (np.diff(expected) >= 0).all()
    assert np.abs(expected - drawn(n, round(share * n), penalty=penalty, cap=cap)).max() <= 1.0
    assert np.mean(np.abs(expected - drawn(n, round(share * n), penalty=penalty, cap=cap)) < 1e-9) > 0.98


def test_totals_on_random_corpora_and_impossible_ones() -> None:
    rng = np.random.default_rng(7)
    for _ in range(200):
        tokens = rng.lognormal(5, 1.5, int(rng.integers(1, 900))).astype(np.int64) + 1
        cap, available = int(rng.integers(1, 9)), int(tokens.sum())
        target = int(rng.random() * cap * available)
        expected = expected_repeats(solve_soft_cap(available, target, penalty=rng.uniform(0.05, 0.95), cap=cap), tokens)
        assert float(expected @ tokens) == pytest.approx(target, rel=1e-6, abs=1e-4 * available)
        assert 0 <= expected.min() <= expected.max() <= cap
    with pytest.raises(DataError, match="s: 401 tokens; at most 400 are possible: 4 repeats"):
        solve_soft_cap(100, 401, penalty=0.5, cap=4, where="s")
    with pytest.raises(ValueError, match="out of range"):
        solve_soft_cap(100, 10, penalty=1.0, cap=4)
    assert expected_repeats(solve_soft_cap(0, 0, penalty=0.5, cap=4), np.zeros(3, np.int64)).tolist() == [0, 0, 0]
