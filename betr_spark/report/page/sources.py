"""The section on sources: their shares of the tokens before and after each selection, and the lift."""

from collections.abc import Sequence
from typing import NamedTuple

from pyspark.sql import Row
from pyspark.sql import functions as F

from betr_spark.report.figures import NO_SOURCE, SourceShare
from betr_spark.report.outcomes import HAS_TEXT, REMOVED, Outcomes
from betr_spark.schemas import N_TOKENS, SOURCE

N_LARGEST = 20
_BEFORE, _SURVIVES = "before", "survives"


class Source(NamedTuple):
    """Tokens of a source as fractions of the survivors' and of the selection's tokens; `documents` are the selection's."""

    source: str
    before: float
    after: float
    documents: int

    @property
    def lift(self) -> float | None:
        """The share after divided by the share before; None if the source had no tokens."""
        return self.after / self.before if self.before else None


class Sources(NamedTuple):
    """The sources with the largest shares before or after.

    Attributes:
        rows: by the share after.
        others: the rest of the sources together, without a name; None if there are none.
        n_others: their number.
        n_sources: sources that have a survivor with text.
        documents: of the selection, each once.
        largest_before: the largest of `rows` before, in this order.
    """

    rows: list[Source]
    others: Source | None
    n_others: int
    n_sources: int
    documents: int
    largest_before: list[Source]

    def shares(self) -> tuple[list[SourceShare], int]:
        """As `report.figures.source_shares` returns them."""
        return [
            SourceShare(source.source, source.before, source.after) for source in self.largest_before
        ], self.n_sources


def source_tables(outcomes: Outcomes, selections: Sequence[str], *, n_largest: int = N_LARGEST) -> dict[str, Sources]:
    """Sum tokens by source, for all selections in one aggregation; tokens of a selection count as often as they are repeated.

    Args:
        outcomes: of all documents.
        selections: names.
        n_largest: sources that are shown of each order.
    """
    is_survivor = F.col(HAS_TEXT) & ~F.col(REMOVED)
    before = F.sum(F.when(is_survivor, F.col(N_TOKENS)).otherwise(0))
    sums = [before.alias(_BEFORE), F.max(is_survivor.cast("int")).alias(_SURVIVES)]
    for number, name in enumerate(selections):
        times = outcomes.repeats(name)
        sums.append(F.sum(times * F.col(N_TOKENS)).alias(f"tokens_{number}"))
        sums.append(F.count_if(times > 0).alias(f"documents_{number}"))
    columns = [
        _BEFORE,
        _SURVIVES,
        *[f"{kind}_{number}" for number in range(len(selections)) for kind in ("tokens", "documents")],
    ]
    source = F.coalesce(SOURCE, F.lit(NO_SOURCE)).alias(SOURCE)
    by_source = outcomes.rows.groupBy(source).agg(*sums).persist()  # read for the totals and for each order
    try:
        totals = by_source.agg(F.count("*").alias(SOURCE), *[F.sum(name).alias(name) for name in columns]).head()
        if totals is None or not totals[SOURCE]:
            return {name: Sources([], None, 0, 0, 0, []) for name in selections}
        largest = by_source.orderBy(F.desc(_BEFORE), SOURCE).limit(n_largest)
        for number in range(len(selections)):
            largest = largest.unionByName(by_source.orderBy(F.desc(f"tokens_{number}"), SOURCE).limit(n_largest))
        rows = largest.distinct().collect()  # at most n_largest for each order
    finally:
        by_source.unpersist()
    return {
        name: _table(rows, totals, f"tokens_{number}", f"documents_{number}", n_largest=n_largest)
        for number, name in enumerate(selections)
    }


def _table(rows: Sequence[Row], totals: Row, tokens: str, documents: str, *, n_largest: int) -> Sources:
    """The table of one selection, whose columns are `tokens` and `documents`, of the rows of all selections."""
    before, after = (
        sorted(rows, key=lambda row: (-row[column], row[SOURCE]))[:n_largest] for column in (_BEFORE, tokens)
    )
    all_before, all_after = max(1, totals[_BEFORE]), max(1, totals[tokens])

    def source(row: Row) -> Source:
        return Source(row[SOURCE], row[_BEFORE] / all_before, row[tokens] / all_after, row[documents])

    shown = {row[SOURCE]: row for row in [*after, *before] if row[_BEFORE] or row[documents]}
    listed = sorted(map(source, shown.values()), key=lambda row: (-row.after, -row.before, row.source))
    rest = [totals[column] - sum(row[column] for row in shown.values()) for column in (_BEFORE, tokens, documents)]
    n_others = totals[SOURCE] - len({row[SOURCE] for row in [*after, *before]})
    others = Source("", rest[0] / all_before, rest[1] / all_after, rest[2]) if n_others else None
    largest = [source(row) for row in before if row[_SURVIVES]]
    return Sources(listed, others, n_others, totals[_SURVIVES], totals[documents], largest)
