"""Exact prefixes and ranks of a total order, without a sort of the corpus in one task.

Rows carry the order as (`order_key`, `order_hash` = xxhash64(doc_id), doc_id), ascending, both numbers signed 64-bit integers.
A prefix of given weight is computed from histograms over 16 bits of the order at a time, most significant first; each holds at
most 65,536 bins.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from betr_spark.schemas import DOC_ID, RANK

ORDER_KEY, ORDER_HASH, WEIGHT = "order_key", "order_hash", "weight"
_POSITION, _PART, _START = "position", "part", "start"
_SIGN_BIT = -(2**63)
_ROWS_FOR_DRIVER = 65_536
_ALL_64, _SIGN_64 = np.uint64(0xFFFFFFFFFFFFFFFF), np.uint64(1 << 63)
_ROWS_IN_TASK = 2**21  # that one task sorts
_POSITION_BITS = 33  # low bits of monotonically_increasing_id: position in the partition; high bits: partition


class Position(NamedTuple):
    """A position in the order."""

    order_key: int
    order_hash: int
    doc_id: str


class Prefix(NamedTuple):
    """The longest prefix within a budget. `end` is the first row after it; None if it contains every row."""

    end: Position | None
    weight: int


def descending_key(values: NDArray[Any]) -> NDArray[np.int64]:
    """Map numbers to integers: a higher number has a lower key, equal numbers (also 0.0 and -0.0) have the same key.

    The bits of a double with the sign bit flipped (all bits if negative) have the order of the doubles; the key inverts them.

    Args:
        values: float32 or float64 [n], without NaN; the conversion of float32 to float64 is exact.

    Returns:
        int64 [n].
    """
    bits = (np.asarray(values, np.float64) + 0.0).view(np.uint64)
    ascending = np.where(bits & _SIGN_64, ~bits, bits | _SIGN_64)
    keys: NDArray[np.int64] = ((_ALL_64 - ascending) ^ _SIGN_64).view(np.int64)
    return keys


def unsigned(hash64: Column) -> Column:
    """Flip the sign bit: the signed order of a 64-bit hash becomes the order of its bits."""
    return hash64.bitwiseXOR(F.lit(_SIGN_BIT).cast("bigint"))


def _digits() -> list[Column]:
    numbers = [unsigned(F.col(ORDER_KEY)), unsigned(F.col(ORDER_HASH))]
    return [F.shiftrightunsigned(number, shift).bitwiseAND(0xFFFF) for number in numbers for shift in (48, 32, 16, 0)]


def longest_prefix(rows: DataFrame, *, budget: int, n_rows: int | None = None) -> Prefix:
    """Compute the longest prefix of the order whose weights sum to at most `budget`.

    One small aggregation for each 16 bits, until few rows share the bits of the end; usually two or three. Each aggregation
    reads `rows`, so persist it. Rows of weight 0 after the end are not in the prefix.

    Args:
        rows: order_key, order_hash, doc_id, weight (bigint >= 0); no two rows have the same position.
        budget: in units of weight, >= 0.
        n_rows: number of rows, if it is known: few rows need no aggregation.

    Raises:
        ValueError: if `budget` is negative.
    """
    if budget < 0:
        raise ValueError(f"budget: {budget} is negative")
    remaining = budget
    for digit in [] if n_rows is not None and n_rows <= _ROWS_FOR_DRIVER else _digits():
        bins = rows.groupBy(digit.alias("bin")).agg(F.sum(WEIGHT).alias("w"), F.count("*").alias("n"))
        boundary = None
        for row in sorted(bins.collect(), key=lambda row: int(row["bin"])):  # at most 65,536 bins
            if row["w"] > remaining:
                boundary = row
                break
            remaining -= row["w"]
        if boundary is None:
            return Prefix(None, budget - remaining)
        rows = rows.where(digit == boundary["bin"])
        if boundary["n"] <= _ROWS_FOR_DRIVER:
            break
    tail = rows.select(ORDER_KEY, ORDER_HASH, DOC_ID, WEIGHT).collect()  # bounded by _ROWS_FOR_DRIVER
    for row in sorted(tail, key=lambda row: Position(row[0], row[1], row[2])):
        if row[WEIGHT] > remaining:
            return Prefix(Position(row[0], row[1], row[2]), budget - remaining)
        remaining -= row[WEIGHT]
    return Prefix(None, budget - remaining)


def before(end: Position) -> Column:
    """Condition for rows that come before a position in the order."""
    key, hash64 = F.col(ORDER_KEY), F.col(ORDER_HASH)
    same_key = key == F.lit(end.order_key).cast("bigint")
    same_hash = same_key & (hash64 == F.lit(end.order_hash).cast("bigint"))
    return (
        (key < F.lit(end.order_key).cast("bigint"))
        | (same_key & (hash64 < F.lit(end.order_hash).cast("bigint")))
        | (same_hash & (F.col(DOC_ID) < F.lit(end.doc_id)))
    )


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
    counts = sorted(
        (int(row[0]), int(row[1])) for row in positions.groupBy(part).count().collect()
    )  # one row for each part
    offsets = [(part, sum(count for earlier, count in counts if earlier < part)) for part, _ in counts]
    starts = rows.sparkSession.createDataFrame(offsets, f"{_PART} bigint, {_START} bigint")
    in_part = F.col(_POSITION).bitwiseAND(F.lit(2**_POSITION_BITS - 1).cast("bigint"))
    return (
        positions.withColumn(_PART, F.shiftright(_POSITION, _POSITION_BITS))
        .join(F.broadcast(starts), on=_PART, how="inner")
        .withColumn(RANK, F.col(_START) + in_part + 1)
        .drop(_PART, _START, _POSITION)
    )
