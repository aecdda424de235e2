"""Documents and tokens by source, of all documents and of what became of them: one aggregation for several sections."""

import itertools
from collections.abc import Mapping
from typing import NamedTuple

from pyspark.sql import Column
from pyspark.sql import functions as F

from betr_spark.report.figures import NO_SOURCE
from betr_spark.report.outcomes import HAS_TEXT, REMOVED, Outcomes
from betr_spark.schemas import N_TOKENS, SOURCE

N_LARGEST = 20
DOCUMENTS, TOKENS = "documents", "tokens"
REMOVED_DOCUMENTS, REMOVED_TOKENS = "removed_documents", "removed_tokens"
BEFORE, SURVIVES = "before", "survives"  # tokens of the survivors with text; 1 if there is one, of a source
_NAME = "name"


class SourceSums(NamedTuple):
    """Sums by name, as the constants and functions of this module name them.

    Attributes:
        of_source: of the largest sources by all tokens, by those of the survivors, and by those of each selection; the name of
            missing sources is `figures.NO_SOURCE`.
        total: of all sources together; `SURVIVES` is the number of sources that have a survivor.
        n_sources: all sources.
        n_largest: sources of each order.
    """

    of_source: Mapping[str, Mapping[str, int]]
    total: Mapping[str, int]
    n_sources: int
    n_largest: int

    def largest(self, name: str) -> list[str]:
        """The sources with the largest sums of one name that has an order, the largest first."""
        return sorted(self.of_source, key=lambda source: (-self.of_source[source][name], source))[: self.n_largest]


def repeated_tokens(number: int) -> str:
    """Name of the tokens of a selection, as often as it repeats the documents."""
    return f"repeated_tokens_{number}"


def shared_documents(left: int, right: int) -> str:
    """Name of the documents that two selections share, or that one has; the smaller number comes first."""
    return f"documents_{left}_{right}"


def shared_tokens(left: int, right: int) -> str:
    """As `shared_documents`, their tokens."""
    return f"tokens_{left}_{right}"


def source_sums(documents: Outcomes, *, n_largest: int = N_LARGEST) -> SourceSums:
    """Sum over the documents, in one aggregation.

    Args:
        documents: what became of each.
        n_largest: sources of each order.
    """
    sums = _sums(documents)
    source = F.coalesce(SOURCE, F.lit(NO_SOURCE)).alias(_NAME)
    by_source = documents.rows.groupBy(source).agg(*[F.coalesce(of, F.lit(0)).alias(name) for name, of in sums.items()])
    by_source = by_source.persist()  # read for the totals and for each order
    try:
        total = by_source.agg(F.count("*").alias(_NAME), *[F.sum(name).alias(name) for name in sums]).head()
        n_sources = int(total[_NAME]) if total else 0
        orders = [TOKENS, BEFORE, *[repeated_tokens(number) for number in range(len(documents.selections))]]
        tops = [by_source.orderBy(F.desc(order), _NAME).limit(n_largest) for order in orders]
        largest = tops[0]
        for top in tops[1:]:
            largest = largest.unionByName(top)
        rows = largest.distinct().collect() if n_sources else []  # at most n_largest of each order
    finally:
        by_source.unpersist()
    return SourceSums(
        {row[_NAME]: {name: int(row[name]) for name in sums} for row in rows},
        {name: int(total[name] or 0) if total else 0 for name in sums},
        n_sources,
        n_largest,
    )


def _sums(documents: Outcomes) -> dict[str, Column]:
    is_removed, is_survivor = F.col(REMOVED), F.col(HAS_TEXT) & ~F.col(REMOVED)
    sums = {
        DOCUMENTS: F.count("*"),
        TOKENS: F.sum(N_TOKENS),
        REMOVED_DOCUMENTS: F.count_if(is_removed),
        REMOVED_TOKENS: F.sum(F.when(is_removed, F.col(N_TOKENS))),
        BEFORE: F.sum(F.when(is_survivor, F.col(N_TOKENS))),
        SURVIVES: F.max(is_survivor.cast("int")),
    }
    times = [documents.repeats(name) for name in documents.selections]
    for number, of in enumerate(times):
        sums[repeated_tokens(number)] = F.sum(of * F.col(N_TOKENS))
    for left, right in itertools.combinations_with_replacement(range(len(times)), 2):
        in_both = (times[left] > 0) & (times[right] > 0)
        sums[shared_documents(left, right)] = F.count_if(in_both)
        sums[shared_tokens(left, right)] = F.sum(F.when(in_both, F.col(N_TOKENS)))
    return sums
