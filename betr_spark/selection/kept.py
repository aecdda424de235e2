"""Kept documents with ranks that continue from part to part, and sums over them."""

from collections.abc import Callable
from typing import NamedTuple, Self

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from betr_spark.ordering import ORDER_HASH, ORDER_KEY
from betr_spark.schemas import DOC_ID, N_BYTES, N_TOKENS, RANK, REPEAT_COUNT
from betr_spark.selection.ranks import with_rank


class Kept(NamedTuple):
    """Documents with ranks, and sums over them."""

    rows: DataFrame | None
    n_rows: int
    n_tokens: int
    n_bytes: int
    repeated_tokens: int

    @classmethod
    def none(cls) -> Self:
        """Nothing yet."""
        return cls(None, 0, 0, 0, 0)

    def distinct(self) -> tuple[int, int]:
        """Number of distinct documents and of their tokens."""
        assert self.rows is not None
        sums = [F.count("*"), F.coalesce(F.sum(N_TOKENS), F.lit(0))]
        n_documents, n_tokens = self.rows.select(DOC_ID, N_TOKENS).distinct().agg(*sums).head() or (0, 0)
        return int(n_documents), int(n_tokens)

    def followed_by(self, part: DataFrame, *, materialise: Callable[[DataFrame], DataFrame]) -> "Kept":
        """Add documents, whose ranks follow those that are there."""
        part = part.persist()  # read for the totals and by the sort
        try:
            n_tokens = F.col(N_TOKENS).cast("bigint")
            repeats = F.col(REPEAT_COUNT) if REPEAT_COUNT in part.columns else F.lit(1)
            size = [F.count("*"), F.sum(n_tokens), F.sum(N_BYTES), F.sum(n_tokens * repeats)]
            n_rows, *sums = (int(value or 0) for value in part.agg(*size).head() or (0,) * 4)
            rows = with_rank(part, n_rows=n_rows, materialise=materialise).drop(ORDER_KEY, ORDER_HASH)
        finally:
            part.unpersist()
        rows = rows.withColumn(RANK, F.col(RANK) + self.n_rows) if self.n_rows else rows
        rows = rows if self.rows is None else self.rows.unionByName(rows)
        return Kept(rows, self.n_rows + n_rows, *(a + b for a, b in zip(self[2:], sums, strict=True)))
