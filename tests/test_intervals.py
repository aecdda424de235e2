"""Intervals against scipy, and how often the interval of an amplification has the planted ratio."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from betr_spark.intervals import Rate
from betr_spark.report.amplification import Amplification


@pytest.mark.parametrize(("n", "of"), [(0, 7), (7, 7), (3, 10), (500, 500), (331, 500)])
def test_the_interval_is_that_of_wilson(n: int, of: int) -> None:
    expected = binomtest(n, of).proportion_ci(0.95, method="wilson")
    rate = Rate.of_counts(n, of)
    assert (rate.share, rate.low, rate.high) == pytest.approx((n / of, expected.low, expected.high), abs=1e-4)


def test_without_counts_nothing_is_known() -> None:
    assert math.isnan(Rate.of_counts(0, 0).share)
    assert Rate.of_counts(0, 0)[3:] == (0.0, 1.0)
    unknown = Amplification.of_counts("b", pool=(0, 50), selected=(0, 5))
    assert (math.isnan(unknown.ratio), unknown.low, unknown.high) == (True, 0.0, math.inf)
    shares = "0 of 50 = 0.000% [0.000%, 7.135%] -> 0 of 5 = 0.000% [0.000%, 43.449%]"
    assert str(unknown) == f"{'b':32} {shares}"


@pytest.mark.parametrize("planted", [1.0, 4.0])
def test_the_interval_of_a_ratio_has_the_planted_one_about_as_often_as_it_says(planted: float) -> None:
    # Of 10,000 documents, 1,000 are selected and 200 are contaminated, each of which is selected with 0.1 times the ratio.
    pick = np.random.default_rng(5)
    drawn = [
        Amplification.of_counts("b", pool=(200, 10_000), selected=(int(n), 1_000))
        for n in pick.binomial(200, 0.1 * planted, size=2_000)
    ]
    assert np.mean([amplified.ratio for amplified in drawn]) == pytest.approx(planted, rel=0.01)
    assert 0.93 < np.mean([amplified.low <= planted <= amplified.high for amplified in drawn]) < 0.975
