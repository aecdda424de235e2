"""Exact prefixes and ranks of a total order, without sorting what grows with the corpus.

Rows carry the order as (`order_key` in [0, 2^32), `order_hash` = xxhash64(doc_id), doc_id), ascending. A prefix of given
weight is found by histograms over 16 bits of the order at a time, most significant first; each holds at most 65,536 bins.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from betr_spark.schemas import DOC_ID, RANK

ORDER_KEY, ORDER_HASH, WEIGHT = "order_key", "order_hash", "weight"
_SIGN_BIT = -(2**63)
_ROWS_FOR_DRIVER = 65_536
_ALL_32, _SIGN_32 = np.uint32(0xFFFFFFFF), np.uint32(0x80000000)


class Position(NamedTuple):
    """A place in the order."""

    order_key: int
    order_hash: int
    doc_id: str


class Prefix(NamedTuple):
    """The longest prefix within a budget. `end` is the first row that is not in it; None: every row is."""

    end: Position | None
    weight: int


def descending_key(logits: NDArray[np.float32]) -> NDArray[np.int64]:
    """Map logits to [0, 2^32) so that a higher logit has a lower key and equal logits (0.0 and -0.0 too) the same.

    The bits of a float, sign flipped (all bits where negative), order as the float does; inverted for descending order.
    """
    bits = (np.asarray(logits, np.float32) + np.float32(0.0)).view(np.uint32)
    ascending = np.where(bits & _SIGN_32, ~bits, bits | _SIGN_32)
    return (_ALL_32 - ascending).astype(np.int64)


def unsigned(hash64: Column) -> Column:
    """Flip the sign bit, so that the signed order of a 64-bit hash becomes the order of its bits."""
    return hash64.bitwiseXOR(F.lit(_SIGN_BIT).cast("bigint"))


def _digits() -> list[Column]:
    key, hash64 = F.col(ORDER_KEY), unsigned(F.col(ORDER_HASH))
    halves = [F.shiftrightunsigned(key, 16), key]
    quarters = [
        F.shiftrightunsigned(hash64, 48),
        F.shiftrightunsigned(hash64, 32),
        F.shiftrightunsigned(hash64, 16),
        hash64,
    ]
    return [digit.bitwiseAND(0xFFFF) for digit in [*halves, *quarters]]


def longest_prefix(rows: DataFrame, *, budget: int) -> Prefix:
    """Find the longest prefix of the order whose weights sum to at most `budget`.

    One small aggregation for each 16 bits until the rows that share them are few; usually two or three. `rows` is
    read once for each, so persist it. Rows of weight 0 behind the end are not in the prefix.

    Args:
        rows: order_key, order_hash, doc_id, weight (bigint >= 0); each place in the order once.
        budget: in units of weight, >= 0.

    Raises:
        ValueError: if `budget` is negative.
    """
    if budget < 0:
        raise ValueError(f"budget: {budget} is negative")
    left = budget
    for digit in _digits():
        bins = rows.groupBy(digit.alias("bin")).agg(F.sum(WEIGHT).alias("w"), F.count("*").alias("n"))
        boundary = None
        for found in sorted(bins.collect(), key=lambda row: int(row["bin"])):  # at most 65,536 bins
            if found["w"] > left:
                boundary = found
                break
            left -= found["w"]
        if boundary is None:
            return Prefix(None, budget - left)
        rows = rows.where(digit == boundary["bin"])
        if boundary["n"] <= _ROWS_FOR_DRIVER:
            break
    tail = rows.select(ORDER_KEY, ORDER_HASH, DOC_ID, WEIGHT).collect()  # bounded by _ROWS_FOR_DRIVER
    for row in sorted(tail, key=lambda row: Position(row[0], row[1], row[2])):
        if row[WEIGHT] > left:
            return Prefix(Position(row[0], row[1], row[2]), budget - left)
        left -= row[WEIGHT]
    raise AssertionError("the boundary bin holds more than what is left of the budget")


def before(end: Position) -> Column:
    """Condition for rows that come before a place in the order."""
    key, hash64 = F.col(ORDER_KEY), F.col(ORDER_HASH)
    same_key = key == end.order_key
    same_hash = same_key & (hash64 == F.lit(end.order_hash).cast("bigint"))
    return (
        (key < end.order_key)
        | (same_key & (hash64 < F.lit(end.order_hash).cast("bigint")))
        | (same_hash & (F.col(DOC_ID) < F.lit(end.doc_id)))
    )


def with_rank(rows: DataFrame) -> DataFrame:
    """Add `rank` (bigint, 1..k) by the order: the rows in earlier bins of the upper 16 bits plus the rank in the bin.

    Only rows of one bin are sorted together. `rows` is read twice, so persist it.
    """
    with_bin = rows.withColumn("bin", _digits()[0])
    counts = sorted((int(row["bin"]), int(row["count"])) for row in with_bin.groupBy("bin").count().collect())
    offsets, total = [], 0
    for bin_, count in counts:
        offsets.append((bin_, total))
        total += count
    in_bin = Window.partitionBy("bin").orderBy(ORDER_KEY, ORDER_HASH, DOC_ID)
    starts = rows.sparkSession.createDataFrame(offsets, "bin bigint, start bigint")
    return (
        with_bin.join(F.broadcast(starts), on="bin", how="inner")
        .withColumn(RANK, F.col("start") + F.row_number().over(in_bin))
        .drop("bin", "start")
    )
