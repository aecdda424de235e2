"""Positions by a score, against a plain count of the tokens that rank higher."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from betr_spark.scoring.percentiles import SHIFTS, Bins, Percentiles

documents = st.lists(
    st.tuples(st.sampled_from([0.0, -0.0, 1.5, -2.0, 3.25, 1e30, float("inf"), float("-inf")]), st.integers(0, 9)),
    max_size=30,
)
close = st.lists(  # in one bin of the first level
    st.tuples(st.sampled_from([20240101.0, 20240102.0, 20241231.0, 5.0, 5.001, 5.0000001]), st.integers(1, 9)),
    max_size=30,
)
any_scores = st.lists(st.tuples(st.floats(allow_nan=True), st.integers(0, 9)), max_size=40)


def merged(parts: list[Bins]) -> Bins:
    """As Spark merges the histograms of tasks, in any order."""
    number = np.unique(np.concatenate([part.number for part in parts]))
    columns = [np.zeros(len(number), np.int64), np.full(len(number), 2**63 - 1), np.full(len(number), -(2**63))]
    for part in parts:
        at = np.searchsorted(number, part.number)
        for column, combine, values in zip(columns, (np.add, np.minimum, np.maximum), part[1:], strict=True):
            combine.at(column, at, values)
    shuffled = np.random.default_rng(0).permutation(len(number))
    return Bins(*(column[shuffled] for column in (number, *columns)))


def percentiles(rows: list[tuple[float, int]], cuts: int = 1) -> Percentiles:
    levels, within = [], None
    total = sum(tokens for score, tokens in rows if not np.isnan(score))
    for level in range(len(SHIFTS)):
        parts = [rows[i::cuts] for i in range(cuts)]
        arrays = [(np.array([s for s, _ in p], np.float64), np.array([t for _, t in p], np.int64)) for p in parts]
        bins = merged([Bins.of(*each, level=level, within=within) for each in arrays])
        heavy = bins.is_heavy(total) & (level + 1 < len(SHIFTS))
        levels.append(Bins(*(column[~heavy] for column in bins)))
        if not heavy.any():
            break
        within = bins.number[heavy]
    return Percentiles(Bins.joined(levels))


@given(close, st.integers(1, 4))
def test_close_scores_with_many_tokens_have_their_own_positions(rows: list[tuple[float, int]], cuts: int) -> None:
    test_positions_count_the_tokens_that_rank_higher_and_half_of_the_equal_ones.hypothesis.inner_test(rows, cuts)


@given(documents, st.integers(1, 4))
def test_positions_count_the_tokens_that_rank_higher_and_half_of_the_equal_ones(
    rows: list[tuple[float, int]], cuts: int
) -> None:
    positions = percentiles(rows, cuts).positions(np.array([score for score, _ in rows], np.float64))
    total = max(1, sum(tokens for _, tokens in rows))
    expected = [
        (sum(t for s, t in rows if s > score) + sum(t for s, t in rows if s == score) / 2) / total for score, _ in rows
    ]
    np.testing.assert_allclose(positions, expected, atol=1e-12)


@given(any_scores, st.lists(st.floats(allow_nan=False), max_size=10))
def test_a_higher_score_never_has_a_worse_position(rows: list[tuple[float, int]], others: list[float]) -> None:
    scores = np.array([score for score, _ in rows] + others, np.float64)
    positions = percentiles(rows).positions(scores)
    assert np.array_equal(np.isnan(positions), np.isnan(scores))
    known = positions[~np.isnan(scores)]
    assert ((known >= 0) & (known <= 1)).all()
    assert (np.diff(known[np.argsort(-scores[~np.isnan(scores)], kind="stable")]) >= -1e-12).all()


def test_scores_of_one_bin_are_told_apart() -> None:
    scores = np.array([1.0001, 1.0, 1.0002])
    positions = percentiles([(float(score), 1) for score in scores]).positions(scores)
    assert positions[2] < positions[0] < positions[1]
