"""What a finished run of `features` says: its rows, what was left out, and its figures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from betr_spark import schemas
from betr_spark.config import Config
from betr_spark.features.token_unit import TokenRate, counted
from betr_spark.pipeline.stage import Result
from betr_spark.schemas import N_BYTES, N_TOKENS, REASON
from betr_spark.storage import delta
from betr_spark.storage.runs import Metrics, StageRun


@dataclass(frozen=True, kw_only=True)
class FeaturesMetrics(Metrics):
    """Bytes of text and tokens of the documents in `features`, and the input rows that this run read.

    With `input.tokens.estimate` also the rate that tokens are estimated with.
    """

    n_bytes: int | None
    n_tokens: int | None
    rows_new: int | None
    documents_tokenized: int | None = None
    tokens_per_byte: float | None = None
    tokens_per_byte_error: float | None = None

    def rate_lines(self) -> list[str]:
        """The rate as a line of text, if there is one."""
        if self.tokens_per_byte is None:
            return []
        error = "" if self.tokens_per_byte_error is None else f", standard error {self.tokens_per_byte_error:.1g}"
        return [f"  {self.tokens_per_byte:.4g} tokens in a byte{error}, from {self.documents_tokenized:.0f} documents"]


class Written(NamedTuple):
    """What a query has written so far.

    Attributes:
        rows_new: input rows that it read.
        totals: documents, bytes and words in `features`, if it wrote the whole table.
        has_bad: whether `quarantine` may have rows.
    """

    rows_new: int = 0
    totals: tuple[int, ...] | None = None
    has_bad: bool = False

    def after(self, batch: int, rows_new: int, of_batch: Sequence[int], *, has_bad: bool) -> Self:
        """After one more batch; the first one, 0, replaces the tables.

        Args:
            batch: its number.
            rows_new: input rows that it read.
            of_batch: documents, bytes and words that it wrote.
            has_bad: whether it has rows for `quarantine`.
        """
        totals = None if self.totals is None else tuple(a + b for a, b in zip(self.totals, of_batch, strict=True))
        has_bad = has_bad or (batch > 0 and (self.has_bad or self.totals is None))
        return type(self)(self.rows_new + rows_new, tuple(of_batch) if batch == 0 else totals, has_bad)

    def with_unknown(self) -> Self:
        """After a batch that was committed before the query started."""
        return type(self)(self.rows_new, None, has_bad=True)


def result_of(
    spark: SparkSession,
    config: Config,
    progress: Mapping[str, int],
    written: Written,
    commit: Callable[[StageRun], None],
) -> Result:
    """Count what is in `features` and `quarantine`; the tables are read only where the counts are not known.

    Args:
        spark: the session.
        config: names the tables, and what a token is.
        progress: rows_in, copies and forgotten, as the last batch recorded them.
        written: by this run.
        commit: of the stage.

    Raises:
        DataError: the tokens cannot be estimated.
    """
    features = delta.read(spark, config.table(schemas.FEATURES_TABLE))
    if written.totals is not None and config.input.tokens.are_words:
        n, n_bytes, n_tokens = written.totals
    else:
        sums = [F.coalesce(F.sum(name), F.lit(0)).alias(name) for name in (N_BYTES, N_TOKENS)]
        totals = counted(features, config).features.agg(F.count("*").alias("n"), *sums)
        n, n_bytes, n_tokens = totals.head() or (0, 0, 0)
    dropped = {}
    if written.totals is None or written.has_bad:
        quarantined = delta.read(spark, config.table(schemas.QUARANTINE_TABLE)).groupBy(REASON)
        dropped = {row[REASON]: row["count"] for row in quarantined.count().collect()}  # one row a reason
    dropped |= {name: progress[name] for name in ("copies", "forgotten") if progress[name]}
    rate = TokenRate.of(features) if config.input.tokens.estimate is not None else None
    measured = {} if rate is None else rate._asdict()
    metrics = FeaturesMetrics(n_bytes=n_bytes, n_tokens=n_tokens, rows_new=written.rows_new, **measured)
    return Result(rows_in=progress["rows_in"], rows_out=n, dropped=dropped, metrics=metrics, commit=commit)
