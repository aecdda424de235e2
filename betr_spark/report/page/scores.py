"""Sections on scores: their histogram with the cut, what other keep rates would keep, and scores by length."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from betr_spark.report.outcomes import Outcomes
from betr_spark.report.page.score_bars import N_BARS, Bars, bars_of, range_of
from betr_spark.selection.budget import fraction_of
from betr_spark.selection.score_histogram import Cut, Histogram, score_histograms

KEEP_RATES = (0.01, 0.03, 0.10, 0.30, 0.50)
N_PARTS = 10
_CURVE = tuple(float(rate) for rate in np.logspace(-3, 0, 61))
_ROUNDING = 1e-9  # a smaller variance, relative to the mean's square, is taken as none
_SAME_RATE = 0.01


class ScoreHistogram(NamedTuple):
    """Documents by logit: survivors with a score that the selection has, and that it does not have.

    Attributes:
        edges: of the bars, ascending; the outer bars take in what is beyond them.
        selected: documents of each bar.
        rejected: documents of each bar.
        lowest_selected: logit; None if there is none.
        highest_rejected: logit; None if there is none.
    """

    edges: list[float]
    selected: list[int]
    rejected: list[int]
    lowest_selected: float | None
    highest_rejected: float | None

    @property
    def overlap(self) -> bool:
        """Whether a rejected document has a higher score than a selected one, so that there is no single cut."""
        low, high = self.lowest_selected, self.highest_rejected
        return low is not None and high is not None and high > low


class WhatIf(NamedTuple):
    """What keep rates keep by the selection's scorer alone, of all survivors with a score.

    Attributes:
        documents: survivors with a score.
        tokens: theirs.
        train_tokens: that epochs are for: those of the configured training run, else `tokens`.
        is_configured: whether the training run is.
        curve: the best first.
        rows: of a table, by keep rate.
        current: the keep rate of the selection, the share of its tokens; None if it is empty.
    """

    documents: int
    tokens: int
    train_tokens: float
    is_configured: bool
    curve: list[Cut]
    rows: list[Cut]
    current: Cut | None

    @property
    def rows_with_current(self) -> list[Cut]:
        """The rows and the keep rate of the selection, ascending; it takes the place of a row of nearly the same rate."""
        if self.current is None:
            return self.rows
        rate = self.current.keep_rate
        others = [cut for cut in self.rows if abs(cut.keep_rate - rate) > _SAME_RATE * rate]
        return sorted([*others, self.current], key=lambda cut: cut.keep_rate)


class LengthPart(NamedTuple):
    """Survivors with a score of `low` to `high` tokens.

    `kept` of the `documents` are in the selection; `mean` and the quartiles are of the logit, the latter read from bars.
    """

    low: int
    high: int
    documents: int
    kept: int
    mean: float
    quartiles: tuple[float, float, float]


class Lengths(NamedTuple):
    """About ten parts of equally many documents by length, and the correlation of the logit and the logarithm of the length."""

    parts: list[LengthPart]
    correlation: float | None


class Scores(NamedTuple):
    """The three sections of one selection."""

    scorer: str
    histogram: ScoreHistogram
    what_if: WhatIf
    lengths: Lengths


class Ranked(NamedTuple):
    """How a selection ranks.

    Attributes:
        scorer: that ranks it; `outcomes` has its logits.
        train_tokens: of the configured training run.
        by_value: whether the score is the logit itself, as that of an expression scorer is.
    """

    scorer: str
    train_tokens: float | None = None
    by_value: bool = False


def histograms_of(outcomes: Outcomes, selections: Mapping[str, Ranked]) -> dict[str, Histogram]:
    """Count the documents that selections rank by score, in two passes for all of them together.

    Args:
        outcomes: of all documents.
        selections: by name.

    Returns:
        By name; without the selections that no survivor has a score for.
    """
    return score_histograms(outcomes.populations, list(selections), KEEP_RATES)


def scores(
    outcomes: Outcomes, selections: Mapping[str, Ranked], histograms: Mapping[str, Histogram]
) -> dict[str, Scores]:
    """Compute the sections of all selections, with one more pass.

    Args:
        outcomes: of all documents.
        selections: by name.
        histograms: as `histograms_of` gives them.

    Returns:
        By name; without the selections that have no histogram.
    """
    ranked = {name: of for name, of in selections.items() if name in histograms}
    if not ranked:
        return {}
    ranges = {name: range_of(histograms[name]) for name in ranked}
    bars = bars_of(outcomes.populations, ranges)
    found = {}
    for name, of in ranked.items():
        bins, here, between = histograms[name], bars[name], ranges[name]
        found[name] = Scores(of.scorer, _histogram(here, bins, *between), _what_if(bins, of), _lengths(here, *between))
    return found


def _histogram(bars: Bars, bins: Histogram, low: float, high: float) -> ScoreHistogram:
    def counts(documents: NDArray[np.float64]) -> list[int]:
        return [int(n) for n in np.bincount(bars.bar.astype(int), documents, minlength=N_BARS)]

    def logit(positions: NDArray[np.int64]) -> float | None:
        return float(bins.logit[positions[0]]) if len(positions) else None

    return ScoreHistogram(
        edges=np.linspace(low, high, N_BARS + 1).tolist(),
        selected=counts(bars.kept),
        rejected=counts(bars.documents - bars.kept),
        lowest_selected=logit(bins.lowest_kept()),
        highest_rejected=logit(bins.best_others(1)),
    )


def _what_if(bins: Histogram, ranked: Ranked) -> WhatIf:
    tokens, kept_tokens, by_value = int(bins.tokens.sum()), bins.kept, ranked.by_value
    train = ranked.train_tokens or float(tokens)

    def cut(rate: float) -> Cut:
        return bins.cut(rate, fraction_of(tokens, rate), train, by_value=by_value)

    current = bins.cut(kept_tokens / tokens, kept_tokens, train, by_value=by_value) if kept_tokens and tokens else None
    curve = [cut(rate) for rate in _CURVE if fraction_of(tokens, rate) > 0]
    documents = int(bins.documents.sum())
    rows = [cut(rate) for rate in KEEP_RATES]
    return WhatIf(documents, tokens, train, ranked.train_tokens is not None, curve, rows, current)


def _lengths(bars: Bars, low: float, high: float) -> Lengths:
    parts, width, first = [], (high - low) / N_BARS, 0
    for part in _parts(bars):
        n, last = part.documents.sum(), int(part.longest.max())
        up_to = np.cumsum(np.bincount(part.bar.astype(int), part.documents, minlength=N_BARS))
        quarter, half, three_quarters = (
            low + width * float(np.interp(n * share, [0.0, *up_to], np.arange(N_BARS + 1)))
            for share in (0.25, 0.5, 0.75)
        )
        quartiles, mean = (quarter, half, three_quarters), float(part.logits.sum() / n)
        parts.append(LengthPart(first, last, int(n), int(part.kept.sum()), mean, quartiles))
        first = last + 1
    return Lengths(parts, _correlation(bars))


def _parts(bars: Bars) -> list[Bars]:
    """Divide by length into about ten parts of equally many documents; nearly equal lengths are in the same part."""
    lengths, of_bar = np.unique(bars.length, return_inverse=True)
    up_to = np.cumsum(np.bincount(of_bar, bars.documents))
    ends = np.unique(np.searchsorted(up_to, np.ceil(up_to[-1] * np.arange(1, N_PARTS + 1) / N_PARTS)))
    part = np.searchsorted(ends, np.arange(len(lengths)))[of_bar]
    return [bars.at(part == number) for number in range(len(ends))]


def _correlation(bars: Bars) -> float | None:
    """Pearson's coefficient of logit and logarithm of the length; None if one is the same for all documents."""
    n, y, yy = (float(values.sum()) for values in (bars.documents, bars.logits, bars.squares))
    x, xx = (float((bars.documents * bars.length**power).sum()) for power in (1, 2))
    xy = float((bars.length * bars.logits).sum())
    spreads = [n * xx - x * x, n * yy - y * y]
    if any(not spread > _ROUNDING * square for spread, square in zip(spreads, (x * x, y * y), strict=True)):
        return None
    return max(-1.0, min(1.0, (n * xy - x * y) / math.sqrt(spreads[0]) / math.sqrt(spreads[1])))
