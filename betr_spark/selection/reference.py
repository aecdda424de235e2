"""The selection that a control is compared with: its tokens, in all and of each source."""

from collections.abc import Mapping
from typing import NamedTuple, Self

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from betr_spark.errors import DataError
from betr_spark.schemas import N_TOKENS, REPEAT_COUNT, SOURCE

NO_SOURCE = "\0"  # stands for a null, which is no key of a map
_MAX_SOURCES = 1_000


class Reference(NamedTuple):
    """Kept tokens of another selection; `sources` is empty unless they are needed."""

    n_tokens: int
    sources: Mapping[str, int]

    @classmethod
    def of(cls, rows: DataFrame, *, by_source: bool, where: str) -> Self:
        """Add up the tokens.

        Args:
            rows: source, n_tokens and, if there are repeats, repeat_count of the kept documents.
            by_source: whether `sources` is needed.
            where: key of the configuration, for the message.

        Raises:
            DataError: more than 1,000 sources.
        """
        repeats = F.col(REPEAT_COUNT) if REPEAT_COUNT in rows.columns else F.lit(1)
        tokens = F.coalesce(F.sum(F.col(N_TOKENS).cast("bigint") * repeats), F.lit(0)).alias(N_TOKENS)
        if not by_source:
            return cls(int((rows.agg(tokens).head() or (0,))[0]), {})
        groups = rows.groupBy(source_key().alias(SOURCE)).agg(tokens).limit(_MAX_SOURCES + 1).collect()
        if len(groups) > _MAX_SOURCES:
            raise DataError(f"{where}: more than {_MAX_SOURCES} sources; use a control without `stratified`")
        sources = {row[SOURCE]: int(row[N_TOKENS]) for row in groups}
        return cls(sum(sources.values()), sources)


def source_key() -> Column:
    """The source as a key of `Reference.sources`."""
    return F.coalesce(F.col(SOURCE), F.lit(NO_SOURCE))
