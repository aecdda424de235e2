"""What a selection keeps: an exact prefix of the ranking for a budget of tokens or documents, or a least score."""

from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from betr_spark.config import KeepConfig
from betr_spark.ordering import ORDER_HASH, ORDER_KEY, WEIGHT, before, descending_key, longest_prefix
from betr_spark.schemas import DOC_ID, LOGIT, N_TOKENS
from betr_spark.scoring.logit import score_of


def with_order(scored: DataFrame) -> DataFrame:
    """Add the ranking order (order_key, order_hash) of `ordering`; rows without a logit are dropped.

    Args:
        scored: doc_id and logit (float or double), other columns are kept.
    """
    rows = scored.where(F.col(LOGIT).isNotNull()).withColumn(ORDER_HASH, F.xxhash64(DOC_ID))
    schema = ", ".join(f"`{field.name}` {field.dataType.simpleString()}" for field in rows.schema)
    return rows.mapInArrow(_add_key, f"{schema}, {ORDER_KEY} bigint")


def _add_key(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        keys = descending_key(batch.column(LOGIT).to_numpy(zero_copy_only=False))
        yield batch.append_column(ORDER_KEY, pa.array(keys, pa.int64()))


def fraction_of(tokens: int, fraction: float) -> int:
    """Whole tokens in a fraction of `tokens`, of the fraction as it is written: 0.1 of 70 is 7."""
    return int(Fraction(Decimal(str(fraction))) * tokens)


def within_budget(
    ordered: DataFrame, keep: KeepConfig, *, n_tokens: int, n_rows: int | None = None, by_value: bool = False
) -> DataFrame:
    """Keep the longest prefix of the ranking that `keep` allows.

    Two or three small aggregations over (order, weight); nothing is sorted. `ordered` is read for each, so persist it.

    Args:
        ordered: as `with_order` gives it, with n_tokens; one row a document.
        keep: exactly one rule. token_fraction is of the tokens of `ordered`.
        n_tokens: sum of n_tokens of `ordered`.
        n_rows: number of rows of `ordered`, if it is known.
        by_value: `min_score` is compared with the logit itself (a column of the input) rather than with the score.

    Returns:
        The kept rows of `ordered`, same columns, no order.
    """
    if keep.min_score is not None:
        return ordered.where((F.col(LOGIT) if by_value else score_of(F.col(LOGIT))) >= F.lit(keep.min_score))
    if keep.documents is not None:
        budget, weight = keep.documents, F.lit(1)
    else:
        weight = F.col(N_TOKENS)
        budget = keep.tokens if keep.tokens is not None else fraction_of(n_tokens, keep.token_fraction or 0.0)
    weighted = ordered.select(ORDER_KEY, ORDER_HASH, DOC_ID, weight.cast("bigint").alias(WEIGHT))
    prefix = longest_prefix(weighted, budget=budget, n_rows=n_rows)
    return ordered if prefix.end is None else ordered.where(before(prefix.end))
