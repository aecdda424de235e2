"""Sections on scores: their histogram with the cut, what other keep rates would keep, and scores by length."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from betr_spark.report.outcomes import Outcomes
from betr_spark.report.page.score_bars import BAR, KEPT, N_BARS, PART, TIMES, bars_of, range_of
from betr_spark.schemas import N_TOKENS
from betr_spark.selection.budget import fraction_of
from betr_spark.selection.score_histogram import Cut, Histogram, by_number, score_histograms

KEEP_RATES = (0.01, 0.03, 0.10, 0.30, 0.50)
N_PARTS = 10
_CURVE = tuple(float(rate) for rate in np.logspace(-3, 0, 61))
_LENGTH_BINS = 16  # of each power of two
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


def length_edges(outcomes: Outcomes) -> list[int]:
    """Numbers of tokens that divide the survivors into ten parts of about equally many documents, ascending; one aggregation.

    Lengths of nearly the same logarithm are not divided, so there can be fewer parts. The last number is the largest length.
    """
    length = F.floor(F.log2(F.col(N_TOKENS) + 1) * _LENGTH_BINS)
    bins = outcomes.survivors().groupBy(length.alias(BAR)).agg(F.count("*").alias("n"), F.max(N_TOKENS).alias("last"))
    table = bins.toArrow().sort_by(BAR)  # at most 16 * 31 rows
    up_to, last = np.cumsum(table.column("n").to_numpy()), table.column("last").to_numpy()
    if not len(up_to):
        return []
    ends = np.ceil(up_to[-1] * np.arange(1, N_PARTS + 1) / N_PARTS)
    return sorted({int(last[position]) for position in np.searchsorted(up_to, ends)})


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
    """Count the documents that selections rank by score, in two aggregations for all of them together.

    Args:
        outcomes: of all documents.
        selections: by name.

    Returns:
        By name; without the selections that no survivor has a score for.
    """
    if not selections:
        return {}
    found = score_histograms(_rows(outcomes, selections), KEEP_RATES, is_kept=F.col(TIMES) > 0)
    return {name: found[number] for number, name in enumerate(selections) if number in found}


def scores(
    outcomes: Outcomes, selections: Mapping[str, Ranked], histograms: Mapping[str, Histogram], *, edges: Sequence[int]
) -> dict[str, Scores]:
    """Compute the sections of all selections, with one more aggregation over the documents.

    Args:
        outcomes: of all documents.
        selections: by name.
        histograms: as `histograms_of` gives them.
        edges: of lengths, as `length_edges` gives them.

    Returns:
        By name; without the selections that have no histogram.
    """
    if not histograms:
        return {}
    ranges = {number: range_of(histograms[name]) for number, name in enumerate(selections) if name in histograms}
    bars = bars_of(_rows(outcomes, selections), ranges, edges)
    found = {}
    for number, (name, ranked) in enumerate(selections.items()):
        if name in histograms:
            what_if = _what_if(histograms[name], ranked)
            histogram = _histogram(bars[number], *ranges[number])
            found[name] = Scores(ranked.scorer, histogram, what_if, _lengths(bars[number], *ranges[number], edges))
    return found


def _rows(outcomes: Outcomes, selections: Mapping[str, Ranked]) -> DataFrame:
    """The documents that selections rank, the survivors with a score: n_tokens, number of the selection, logit, times."""
    logits = [F.col(outcomes.logits[ranked.scorer]) for ranked in selections.values()]
    return by_number(outcomes.survivors(), logits, [outcomes.repeats(name).alias(TIMES) for name in selections])


def _histogram(bars: dict[str, NDArray[np.float64]], low: float, high: float) -> ScoreHistogram:
    kept, number = bars[KEPT] > 0, bars[BAR].astype(int)

    def counts(which: NDArray[np.bool_]) -> list[int]:
        return [int(n) for n in np.bincount(number[which], bars["documents"][which], minlength=N_BARS)]

    lowest = float(bars["lowest"][kept].min()) if kept.any() else None
    highest = float(bars["highest"][~kept].max()) if (~kept).any() else None
    return ScoreHistogram(np.linspace(low, high, N_BARS + 1).tolist(), counts(kept), counts(~kept), lowest, highest)


def _what_if(bins: Histogram, ranked: Ranked) -> WhatIf:
    tokens, kept_tokens, by_value = int(bins.tokens.sum()), bins.kept, ranked.by_value
    train = ranked.train_tokens or float(tokens)

    def cut(rate: float) -> Cut:
        return bins.cut(rate, fraction_of(tokens, rate), train, by_value=by_value)

    current = bins.cut(kept_tokens / tokens, kept_tokens, train, by_value=by_value) if kept_tokens else None
    curve = [cut(rate) for rate in _CURVE if fraction_of(tokens, rate) > 0]
    documents = int(bins.documents.sum())
    rows = [cut(rate) for rate in KEEP_RATES]
    return WhatIf(documents, tokens, train, ranked.train_tokens is not None, curve, rows, current)


def _lengths(bars: dict[str, NDArray[np.float64]], low: float, high: float, edges: Sequence[int]) -> Lengths:
    parts, width = [], (high - low) / N_BARS
    for number, edge in enumerate(edges):
        here = bars[PART] == number
        documents = bars["documents"][here]
        if not documents.sum():
            continue
        up_to = np.cumsum(np.bincount(bars[BAR][here].astype(int), documents, minlength=N_BARS))
        quartiles = [
            low + width * float(np.interp(up_to[-1] * share, [0.0, *up_to], np.arange(N_BARS + 1)))
            for share in (0.25, 0.5, 0.75)
        ]
        kept = int(documents[bars[KEPT][here] > 0].sum())
        mean = float(bars["sum"][here].sum() / documents.sum())
        first = edges[number - 1] + 1 if number else 0
        quarter, half, three_quarters = quartiles
        parts.append(LengthPart(first, edge, int(documents.sum()), kept, mean, (quarter, half, three_quarters)))
    return Lengths(parts, _correlation({name: float(values.sum()) for name, values in bars.items()}))


def _correlation(sums: dict[str, float]) -> float | None:
    """Pearson's coefficient from sums; None if a value is the same for all documents."""
    n, x, y = sums["documents"], sums["lengths"], sums["sum"]
    spreads = [n * sums["length_squares"] - x * x, n * sums["squares"] - y * y]
    if any(not spread > _ROUNDING * square for spread, square in zip(spreads, (x * x, y * y), strict=True)):
        return None
    return max(-1.0, min(1.0, (n * sums["products"] - x * y) / math.sqrt(spreads[0]) / math.sqrt(spreads[1])))
