"""Counts of documents by bars of the score and lengths, for all selections in one query."""

import math
from collections.abc import Mapping
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import Column
from pyspark.sql import functions as F

from betr_spark.schemas import LOGIT, N_TOKENS
from betr_spark.selection.score_histogram import Histogram
from betr_spark.selection.tally import Population, kept_name, tally

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
    high, low = (float(bins.logit[end]) for end in ends)
    high += (high - low) / N_BARS  # the lowest logit of its bin
    return low, max(high, low + max(abs(low), 1.0) * 1e-6)


def bars_of(populations: Mapping[int, Population], ranges: Mapping[int, tuple[float, float]]) -> dict[int, Bars]:
    """Count by length and by bar of the score: at most 16 * 31 * 60 rows each, in practice a tenth of them.

    Args:
        populations: by number; at least one.
        ranges: of the bars, by number; the outer bars take in what is beyond them.

    Returns:
        By number.
    """
    logit = F.greatest(F.least(F.col(LOGIT), F.lit(1e300)), F.lit(-1e300))

    def keys(number: int) -> dict[str, Column]:
        low, high = ranges[number]
        bar = (logit - F.lit(low)) * F.lit(N_BARS / (high - low))
        return {
            "length": F.floor(F.log(F.col(N_TOKENS) + 1.0) * F.lit(_LENGTH_BINS / math.log(2)) + F.lit(0.5)),
            "bar": F.floor(F.greatest(F.least(bar, F.lit(N_BARS - 1.0)), F.lit(0.0))),
        }

    squares = F.sum(logit * logit)
    sums = {"documents": F.count("*"), "longest": F.max(N_TOKENS), "logits": F.sum(logit), "squares": squares}
    counted = tally(populations, keys, sums, largest=["longest"])
    return {
        number: _bars(table.sort_by([("length", "ascending"), ("bar", "ascending")]))
        for number, table in counted.items()
    }


def _bars(table: pa.Table) -> Bars:
    names = [kept_name("documents") if name == "kept" else name for name in Bars._fields]
    bars = Bars(*(table.column(name).to_numpy().astype(np.float64) for name in names))
    bars = bars._replace(documents=np.maximum(bars.documents, bars.kept))  # where tables do not belong together
    return bars.at(bars.documents > 0)
