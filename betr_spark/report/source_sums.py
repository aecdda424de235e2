"""Documents and tokens by source, of all documents and of what became of them, for several sections."""

from collections.abc import Mapping
from functools import reduce
from typing import NamedTuple

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from betr_spark.report.figures import NO_SOURCE
from betr_spark.report.outcomes import HAS_TEXT, REMOVED, TIMES, Outcomes
from betr_spark.schemas import N_TOKENS, SOURCE

N_LARGEST = 20
DOCUMENTS, TOKENS = "documents", "tokens"
REMOVED_DOCUMENTS, REMOVED_TOKENS = "removed_documents", "removed_tokens"
BEFORE, SURVIVES = "before", "survives"  # tokens of the survivors with text; 1 if there is one, of a source
_NAME, _WITH_TEXT, _REMOVED_WITH_TEXT = "name", "with_text", "removed_with_text"
_TEXT_TOKENS, _REMOVED_TEXT_TOKENS = "text_tokens", "removed_text_tokens"


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


def own_documents(number: int) -> str:
    """Name of the documents of a selection, each once."""
    return f"documents_{number}"


def own_tokens(number: int) -> str:
    """Name of the tokens of a selection, each document once."""
    return f"tokens_{number}"


def source_sums(documents: Outcomes, *, n_largest: int = N_LARGEST) -> SourceSums:
    """Sum over the documents, the dropped ones and the selections.

    Args:
        documents: what became of each.
        n_largest: sources of each order.
    """
    by_source = _by_source(documents).persist()  # read for the totals and for each order
    sums = [name for name in by_source.columns if name != _NAME]
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


def _by_source(documents: Outcomes) -> DataFrame:
    """A row for each source, with its sums."""

    def summed(rows: DataFrame, sums: Mapping[str, Column]) -> DataFrame:
        source = F.coalesce(SOURCE, F.lit(NO_SOURCE)).alias(_NAME)
        return rows.groupBy(source).agg(*[of.alias(name) for name, of in sums.items()])

    def all_sums(*names: str) -> dict[str, Column]:
        tokens_with_text = F.sum(F.when(F.col(HAS_TEXT), F.col(N_TOKENS)))
        return dict(zip(names, (F.count("*"), F.sum(N_TOKENS), F.count_if(HAS_TEXT), tokens_with_text), strict=True))

    parts = [summed(documents.documents, all_sums(DOCUMENTS, TOKENS, _WITH_TEXT, _TEXT_TOKENS))]
    of_removed = all_sums(REMOVED_DOCUMENTS, REMOVED_TOKENS, _REMOVED_WITH_TEXT, _REMOVED_TEXT_TOKENS)
    if documents.dropped is not None:
        parts.append(summed(documents.dropped.where(REMOVED), of_removed))
    for number, rows in enumerate(documents.kept.values()):
        own = {own_documents(number): F.count("*"), own_tokens(number): F.sum(N_TOKENS)}
        parts.append(summed(rows, {**own, repeated_tokens(number): F.sum(F.col(TIMES) * F.col(N_TOKENS))}))
    names = [name for part in parts for name in part.columns if name != _NAME]
    names = list(dict.fromkeys([*names, *of_removed]))
    rows = reduce(lambda left, right: left.unionByName(right, allowMissingColumns=True), parts)
    rows = rows.withColumns({name: F.lit(None).cast("bigint") for name in names if name not in rows.columns})
    totals = rows.groupBy(_NAME).agg(*[F.coalesce(F.sum(name), F.lit(0)).alias(name) for name in names])
    survives = F.col(_WITH_TEXT) > F.col(_REMOVED_WITH_TEXT)
    before = F.greatest(F.col(_TEXT_TOKENS) - F.col(_REMOVED_TEXT_TOKENS), F.lit(0))
    return totals.withColumns({BEFORE: before, SURVIVES: survives.cast("int")}).drop(
        _WITH_TEXT, _TEXT_TOKENS, _REMOVED_WITH_TEXT, _REMOVED_TEXT_TOKENS
    )
