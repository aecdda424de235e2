"""Counts of documents by bars of the score and parts of the length, for all selections in one aggregation."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from betr_spark.schemas import LOGIT, N_TOKENS
from betr_spark.selection.score_histogram import NUMBER, Histogram

N_BARS = 60
BAR, PART, KEPT, TIMES = "bar", "part", "kept", "times"
_TAIL = 0.0005  # of the documents at each end of the histogram, which its outer bars take in


def range_of(bins: Histogram) -> tuple[float, float]:
    """Return the logits between which all but the tails are."""
    up_to = np.cumsum(bins.documents)
    ends = [min(int(np.searchsorted(up_to, up_to[-1] * share)), len(up_to) - 1) for share in (_TAIL, 1 - _TAIL)]
    high, low = (float(bins.logit[end]) for end in ends)
    high += (high - low) / N_BARS  # the lowest logit of its bin
    return low, max(high, low + max(abs(low), 1.0) * 1e-6)


def bars_of(
    rows: DataFrame, ranges: Mapping[int, tuple[float, float]], edges: Sequence[int]
) -> dict[int, dict[str, NDArray[np.float64]]]:
    """Count by part of the lengths, bar of the score, and whether a selection has the document: at most 1,200 rows each.

    Args:
        rows: n_tokens, number of the selection, logit, and `times`, how often the selection has the document.
        ranges: of the bars, by number; the outer bars take in what is beyond them.
        edges: last length of each part, ascending.

    Returns:
        By number, columns of equal lengths: `part`, `bar`, `kept`, `documents`, `lowest` and `highest` logit, and the sums of
        the logits, the logarithms of the lengths, their squares, and their products.
    """

    def of_number(values: Mapping[int, float]) -> Column:
        return F.coalesce(*[F.when(F.col(NUMBER) == number, F.lit(value)) for number, value in values.items()])

    logit, length = F.greatest(F.least(F.col(LOGIT), F.lit(1e300)), F.lit(-1e300)), F.log(F.col(N_TOKENS) + 1.0)
    low = of_number({number: low for number, (low, _) in ranges.items()})
    width = of_number({number: (high - low) / N_BARS for number, (low, high) in ranges.items()})
    bar = F.floor(F.greatest(F.least((logit - low) / width, F.lit(N_BARS - 1.0)), F.lit(0.0)))
    part: Column = F.lit(0)
    for edge in edges[:-1]:
        part = part + (F.col(N_TOKENS) > edge).cast("int")
    sums = {
        "documents": F.count("*"), "lowest": F.min(LOGIT), "highest": F.max(LOGIT), "sum": F.sum(logit),
        "squares": F.sum(logit * logit), "lengths": F.sum(length), "length_squares": F.sum(length * length),
        "products": F.sum(logit * length),
    }  # fmt: skip
    keys = [part.alias(PART), bar.alias(BAR), (F.col(TIMES) > 0).alias(KEPT)]
    table = rows.groupBy(NUMBER, *keys).agg(*[column.alias(name) for name, column in sums.items()]).toArrow()
    table = table.sort_by([(name, "ascending") for name in (NUMBER, PART, BAR, KEPT)])
    return {
        number: {name: of.column(name).to_numpy().astype(np.float64) for name in of.column_names}
        for number in ranges
        for of in [table.filter(pc.equal(table.column(NUMBER), number))]
    }
