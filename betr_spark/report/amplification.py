"""Amplification: how much more often a selection has documents with test items than the corpus has."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from betr_spark.intervals import Rate
from betr_spark.schemas import BENCHMARK, DOC_ID

ANY = "(any)"
_IN_FEATURES, _IN_SELECTION, _SELECTED = "in_features", "in_selection", "selected"


class Amplification(NamedTuple):
    """Documents with test items of one benchmark.

    Attributes:
        benchmark: name of the test file, or `(any)`.
        pool: share of the documents of `features`.
        selected: share of the documents of the selection.
        ratio: the share of the selection divided by that of the pool; NaN if the pool has none.
        low: lower bound of the ratio (95 %).
        high: upper bound; infinity if the pool has none.
    """

    benchmark: str
    pool: Rate
    selected: Rate
    ratio: float
    low: float
    high: float

    @classmethod
    def of_counts(cls, benchmark: str, *, pool: tuple[int, int], selected: tuple[int, int]) -> "Amplification":
        """Return the rates and their ratio from counts of (documents with items, documents).

        The selected documents are documents of the pool, so the ratio is the share of the contaminated documents that are
        selected, divided by the share of all documents that are. Its interval is the Wilson interval of the former, because
        the latter is known. An interval for two independent rates (Katz) would be too wide.
        """
        rates = Rate.of_counts(*pool), Rate.of_counts(*selected)
        if not pool[0] or not selected[1]:
            return cls(benchmark, *rates, math.nan, 0.0, math.inf)
        kept, scale = Rate.of_counts(selected[0], pool[0]), pool[1] / selected[1]
        return cls(benchmark, *rates, kept.share * scale, kept.low * scale, kept.high * scale)

    def __str__(self) -> str:
        """Give the shares and the ratio, with their intervals."""
        shares = [
            f"{rate.n} of {rate.of} = {rate.share:.3%} [{rate.low:.3%}, {rate.high:.3%}]" if rate.of else "no documents"
            for rate in (self.pool, self.selected)
        ]
        ratio = "" if math.isnan(self.ratio) else f"; {self.ratio:.2f} x [{self.low:.2f}, {self.high:.2f}]"
        return f"{self.benchmark[:32]:32} {' -> '.join(shares)}{ratio}"


def amplification(
    contamination: DataFrame, features: DataFrame, selected: DataFrame, *, n_selected: int, benchmarks: Sequence[str]
) -> list[Amplification]:
    """Return the figures of every benchmark, and first those of all together. One aggregation over ids and benchmarks.

    Args:
        contamination: doc_id, benchmark.
        features: doc_id of all documents.
        selected: doc_id of the selected documents, one row each.
        n_selected: number of these rows.
        benchmarks: names that have figures even if no document has an item.
    """
    by_benchmark = contamination.select(DOC_ID, BENCHMARK)
    pairs = by_benchmark.unionByName(contamination.select(DOC_ID, F.lit(ANY).alias(BENCHMARK))).distinct()
    counted = (
        features.select(DOC_ID)
        .join(pairs, on=DOC_ID, how="inner")
        .join(selected.select(DOC_ID, F.lit(True).alias(_SELECTED)), on=DOC_ID, how="left")
        .groupBy(BENCHMARK)
        .agg(
            F.count("*").alias(_IN_FEATURES),
            F.countDistinct(F.when(F.col(_SELECTED), F.col(DOC_ID))).alias(_IN_SELECTION),
        )
    )
    counts = {row[BENCHMARK]: (row[_IN_FEATURES], row[_IN_SELECTION]) for row in counted.collect()}  # one a benchmark
    n_pool = features.count()
    return [
        Amplification.of_counts(name, pool=(in_pool, n_pool), selected=(in_selection, n_selected))
        for name in [ANY, *sorted({*counts, *benchmarks} - {ANY})]
        for in_pool, in_selection in [counts.get(name, (0, 0))]
    ]
