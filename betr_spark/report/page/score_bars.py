"""Counts of documents by bars of the score and lengths, for all selections in one pass."""

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from betr_spark.selection.score_histogram import Histogram
from betr_spark.selection.tally import (
    DOCUMENTS,
    LARGE,
    LOGITS,
    LONGEST,
    SQUARES,
    Groups,
    Populations,
    Scored,
    kept_name,
)

N_BARS = 60
_LENGTH_BINS = 16  # of each power of two
_TAIL = 0.0005  # of the documents at each end of the histogram, which its outer bars take in


class Bars(NamedTuple):
    """Counts and sums by length and bar, in the order of the lengths; each [n].

    Attributes:
        length: number of the length; proportional to the logarithm of the tokens, but for rounding.
        bar: number of the bar, higher for higher logits.
        documents: their number.
        kept: of these, those that the selection has.
        longest: tokens of the longest document.
        logits: sum of the logits.
        squares: sum of their squares.
    """

    length: NDArray[np.float64]
    bar: NDArray[np.float64]
    documents: NDArray[np.float64]
    kept: NDArray[np.float64]
    longest: NDArray[np.float64]
    logits: NDArray[np.float64]
    squares: NDArray[np.float64]

    def at(self, which: NDArray[np.bool_]) -> Self:
        """Some of the rows."""
        return type(self)(*(values[which] for values in self))


def range_of(bins: Histogram) -> tuple[float, float]:
    """Return the logits between which all but the tails are."""
    up_to = np.cumsum(bins.documents)
    ends = [min(int(np.searchsorted(up_to, up_to[-1] * share)), len(up_to) - 1) for share in (_TAIL, 1 - _TAIL)]
    high, low = (float(np.clip(bins.logit[end], -LARGE, LARGE)) for end in ends)
    high += (high - low) / N_BARS  # the lowest logit of its bin
    return low, max(high, low + max(abs(low), 1.0) * 1e-6)


def bars_of(populations: Populations, ranges: Mapping[str, tuple[float, float]]) -> dict[str, Bars]:
    """Count by length and by bar of the score: at most 16 * 31 * 60 rows each, in practice a tenth of them.

    Args:
        populations: of documents.
        ranges: of the bars, by name of the population; the outer bars take in what is beyond them.

    Returns:
        By name.
    """
    keys = {name: partial(_groups, *ends) for name, ends in ranges.items()}
    counted = populations.tally(keys, (DOCUMENTS, LONGEST, LOGITS, SQUARES))
    return {
        name: _bars(table.sort_by([("length", "ascending"), ("bar", "ascending")])) for name, table in counted.items()
    }


def _groups(low: float, high: float, scored: Scored) -> Groups:
    length = np.floor(np.log2(scored.tokens + 1.0) * _LENGTH_BINS + 0.5)
    logit = np.clip(scored.logit, -LARGE, LARGE)
    bar = np.clip(np.floor((logit - low) * (N_BARS / (high - low))), 0, N_BARS - 1)
    return Groups({"length": length.astype(np.int64), "bar": bar.astype(np.int64)})


def _bars(table: pa.Table) -> Bars:
    names = [kept_name(DOCUMENTS) if name == "kept" else name for name in Bars._fields]
    bars = Bars(*(table.column(name).to_numpy().astype(np.float64) for name in names))
    bars = bars._replace(documents=np.maximum(bars.documents, bars.kept))  # where tables do not belong together
    return bars.at(bars.documents > 0)
