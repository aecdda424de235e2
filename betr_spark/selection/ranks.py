"""Ranks of the kept documents, without a sort in one task."""

import math
from collections.abc import Callable

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from betr_spark.ordering import ORDER_HASH, ORDER_KEY
from betr_spark.schemas import DOC_ID, RANK
from betr_spark.spark.small_frames import small_frame

_POSITION, _PART, _START = "position", "part", "start"
_ROWS_IN_TASK = 2**21  # that one task sorts
_POSITION_BITS = 33  # low bits of monotonically_increasing_id: position in the partition; high bits: partition


def with_rank(rows: DataFrame, *, n_rows: int, materialise: Callable[[DataFrame], DataFrame]) -> DataFrame:
    """Add `rank` (bigint, 1..k) by the order.

    Each task sorts a range of the order of about two million rows. The distribution of the keys does not change this: rows of
    equal keys are split by their hashes.

    Args:
        rows: order_key, order_hash, doc_id, and more columns; read twice, so persist it.
        n_rows: number of rows, k.
        materialise: computes a frame and cuts its lineage, so that positions are assigned once.
    """
    order = [ORDER_KEY, ORDER_HASH, DOC_ID]
    parts = max(1, math.ceil(n_rows / _ROWS_IN_TASK))
    ranges = rows.repartitionByRange(parts, *order).sortWithinPartitions(*order)
    positions = materialise(ranges.withColumn(_POSITION, F.monotonically_increasing_id()))
    if parts == 1:
        return positions.withColumn(RANK, F.col(_POSITION) + 1).drop(_POSITION)
    part = F.shiftright(_POSITION, _POSITION_BITS).alias(_PART)
    counts = sorted(map(tuple, positions.groupBy(part).count().collect()))  # one row for each part
    offsets = [(part, sum(count for earlier, count in counts if earlier < part)) for part, _ in counts]
    starts = small_frame(rows.sparkSession, offsets, f"{_PART} bigint, {_START} bigint")
    in_part = F.col(_POSITION).bitwiseAND(F.lit(2**_POSITION_BITS - 1).cast("bigint"))
    return (
        positions.withColumn(_PART, F.shiftright(_POSITION, _POSITION_BITS))
        .join(F.broadcast(starts), on=_PART, how="inner")
        .withColumn(RANK, F.col(_START) + in_part + 1)
        .drop(_PART, _START, _POSITION)
    )
