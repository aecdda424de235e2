"""The section on sources: their shares of the tokens before and after each selection, and the lift."""

from collections.abc import Sequence
from typing import NamedTuple

from betr_spark.report.figures import SourceShare
from betr_spark.report.source_sums import BEFORE, SURVIVES, SourceSums, own_documents, repeated_tokens


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


def source_tables(sums: SourceSums, selections: Sequence[str]) -> dict[str, Sources]:
    """Arrange the sums of each selection; its tokens count as often as they are repeated.

    Args:
        sums: over the sources.
        selections: names, in the order of the sums' numbers.
    """
    return {name: _table(sums, number) for number, name in enumerate(selections)}


def _table(sums: SourceSums, number: int) -> Sources:
    columns = tokens, documents = repeated_tokens(number), own_documents(number)
    before, after = sums.largest(BEFORE), sums.largest(tokens)
    all_before, all_after = max(1, sums.total[BEFORE]), max(1, sums.total[tokens])

    def source(name: str) -> Source:
        of = sums.of_source[name]
        return Source(name, of[BEFORE] / all_before, of[tokens] / all_after, of[documents])

    names = dict.fromkeys([*after, *before])
    shown = [name for name in names if sums.of_source[name][BEFORE] or sums.of_source[name][documents]]
    listed = sorted(map(source, shown), key=lambda row: (-row.after, -row.before, row.source))
    rest = [sums.total[column] - sum(sums.of_source[name][column] for name in shown) for column in (BEFORE, *columns)]
    n_others = sums.n_sources - len(names)
    others = Source("", rest[0] / all_before, rest[1] / all_after, rest[2]) if n_others else None
    largest = [source(name) for name in before if sums.of_source[name][SURVIVES]]
    return Sources(listed, others, n_others, sums.total[SURVIVES], sums.total[documents], largest)
