"""Exact prefixes of a total order, without a sort.

Rows carry the order as (`order_key`, `order_hash` = xxhash64(doc_id), doc_id), ascending, both numbers signed 64-bit integers.
Prefixes of given weight, one for each group of rows, are computed from histograms over some bits of the order at a time, most
significant first. Those of groups stay on Spark: the driver holds one bin of each group, and in the end at most
262,144 rows.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame, Row, Window
from pyspark.sql import functions as F

from betr_spark.errors import DataError
from betr_spark.schemas import DOC_ID
from betr_spark.spark.small_frames import small_frame

ORDER_KEY, ORDER_HASH, WEIGHT = "order_key", "order_hash", "weight"
GROUP, BUDGET = "group", "budget"
_BIN, _COUNT, _OTHER_GROUP, _OTHER_BIN = "bin", "count", "other_group", "other_bin"
_SIGN_BIT = -(2**63)
_ROWS_FOR_DRIVER = 2**18
_ROWS_TO_CACHE = 2**23
_MAX_ENDS = 100_000  # that the driver holds
_BITS = (20, 22, 22)  # of the key: the first ones tell 256 values of each power of two apart
_BITS_OF_GROUPS = (16, 20, 28)  # groups times bins are a hash table of each task
_ALL_64, _SIGN_64 = np.uint64(0xFFFFFFFFFFFFFFFF), np.uint64(1 << 63)


class Position(NamedTuple):
    """A position in the order of a group."""

    group: str | int | None
    order_key: int
    order_hash: int
    doc_id: str


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


def _digits(bits_of_key: Sequence[int]) -> list[Column]:
    """Bits of the order as int, most significant first: of the key as many as given, 64 in all, then those of the hash."""
    key, hash64 = unsigned(F.col(ORDER_KEY)), unsigned(F.col(ORDER_HASH))
    of_key, shift = list[Column](), 64
    for bits in bits_of_key:
        shift -= bits
        of_key.append(F.shiftrightunsigned(key, shift).bitwiseAND(2**bits - 1))
    of_hash = [F.shiftrightunsigned(hash64, shift).bitwiseAND(0xFFFF) for shift in (48, 32, 16, 0)]
    return [digit.cast("int") for digit in of_key + of_hash]


def ends_of_prefixes(
    rows: DataFrame, budget_of: Callable[[DataFrame], Column], *, n_rows: int | None = None
) -> list[Position]:
    """Compute for each group the longest prefix of its order whose weights sum to at most its budget.

    One aggregation for some bits of the order at a time, until few rows share the bits of the ends; usually one or two. `rows`
    is read twice, so persist it. Rows of weight 0 after an end are not in the prefix.

    Args:
        rows: group (string or null, or int), order_key, order_hash, doc_id, weight (bigint >= 0); no position twice.
        budget_of: gives budgets, bigint >= 0, as an expression of `group`; its argument has group and the sum of its weight.
        n_rows: number of rows, if it is known: few rows need no aggregation.

    Returns:
        The first row after the prefix of each group that does not fit as a whole; doc_id is empty if no other row is equal.

    Raises:
        DataError: more than 100,000 groups do not fit.
    """
    left = rows.select(GROUP, ORDER_KEY, ORDER_HASH, WEIGHT)
    sums = [F.sum(WEIGHT).alias(WEIGHT), F.count("*").alias(_COUNT)]
    if n_rows is not None and n_rows <= _ROWS_FOR_DRIVER:
        return _ends(left.withColumn(BUDGET, budget_of(left.groupBy(GROUP).agg(sums[0]))), rows)
    in_order, cached, remaining = Window.partitionBy(GROUP).orderBy(_BIN), list[DataFrame](), F.col(BUDGET)
    try:
        for level, digit in enumerate(_digits(_BITS_OF_GROUPS)):
            keys: list[Column | str] = [GROUP, digit.alias(_BIN), *([BUDGET] if level else [])]
            bins = left.groupBy(*keys).agg(*sums)
            if level == 0:
                bins = bins.persist()  # read for the sums of the groups, and for the bins of the ends
                cached.append(bins)
                remaining = budget_of(bins.groupBy(GROUP).agg(sums[0]))
            bins = bins.withColumn(BUDGET, (remaining - F.sum(WEIGHT).over(in_order) + F.col(WEIGHT)).cast("bigint"))
            last = bins.where((F.col(BUDGET) >= 0) & (F.col(WEIGHT) > F.col(BUDGET)))
            boundary = last.select(GROUP, _BIN, BUDGET, _COUNT).limit(_MAX_ENDS + 1).collect()  # one row for each group
            if not boundary:
                return []
            if len(boundary) > _MAX_ENDS:
                raise DataError(
                    f"more than {_MAX_ENDS} groups are above their maximum; group by a column of fewer values"
                )
            left, remaining = _in_bins(left.drop(BUDGET).withColumn(_BIN, digit), boundary), F.col(BUDGET)
            n_left = sum(row[_COUNT] for row in boundary)
            if n_left <= _ROWS_FOR_DRIVER:
                break
            if level == 0 and n_left <= _ROWS_TO_CACHE:
                left = left.persist()  # read by each further level
                cached.append(left)
        return _ends(left, rows)
    finally:
        for frame in cached:
            frame.unpersist()


def _in_bins(rows: DataFrame, bins: list[Row]) -> DataFrame:
    """Keep the rows of one bin of each group, and add what the bin leaves of the budget.

    Args:
        rows: group, bin, and more columns.
        bins: group, bin, budget; one for each group.
    """
    rows = rows.where(F.col(_BIN).isin(*{row[_BIN] for row in bins}))  # few rows are left for the join
    schema = f"{_OTHER_GROUP} {_type_of_group(rows)}, {_OTHER_BIN} int, {BUDGET} bigint"
    table = small_frame(rows.sparkSession, [(row[GROUP], row[_BIN], row[BUDGET]) for row in bins], schema)
    same = _same_group(rows, _OTHER_GROUP) & (F.col(_BIN) == F.col(_OTHER_BIN))
    return rows.join(F.broadcast(table), on=same, how="inner").drop(_BIN, _OTHER_GROUP, _OTHER_BIN)


def _type_of_group(rows: DataFrame) -> str:
    return rows.schema[GROUP].dataType.simpleString()


def _same_group(rows: DataFrame, other: str) -> Column:
    """Condition of a join; numbers are never null, and Spark looks two of them up as one."""
    group = F.col(GROUP)
    return group == F.col(other) if _type_of_group(rows) == "int" else group.eqNullSafe(F.col(other))


def _ends(left: DataFrame, rows: DataFrame) -> list[Position]:
    """Ends of the prefixes of `left` (without doc_id, with budget), which is small; `rows` have the ids of equal ones."""
    table = left.select(*Position._fields[:3], WEIGHT, BUDGET).toArrow().combine_chunks()
    groups = table.column(GROUP).combine_chunks().dictionary_encode(null_encoding="encode")
    columns = [groups.indices.to_numpy(), *(table.column(name).to_numpy() for name in table.column_names[1:])]
    order = np.lexsort((columns[2], columns[1], columns[0]))
    group, key, hash64, weight, budget = (values[order] for values in columns)
    starts_group = np.diff(group, prepend=-1) != 0
    starts = starts_group | (np.diff(key, prepend=0) != 0) | (np.diff(hash64, prepend=0) != 0)  # of equal positions
    earlier = np.cumsum(weight) - weight
    remaining = budget - earlier + np.maximum.accumulate(np.where(starts_group, earlier, 0))
    over = np.flatnonzero(weight > remaining)
    first_of_group = over[np.unique(group[over], return_index=True)[1]]
    start_of, names = np.maximum.accumulate(np.where(starts, np.arange(len(starts)), 0)), groups.dictionary.to_pylist()
    is_shared = np.append(~starts, False)
    ends, shared = list[Position](), dict[tuple[object, ...], int]()
    for end in first_of_group.tolist():
        position = Position(names[group[end]], int(key[end]), int(hash64[end]), "")
        if is_shared[end] or is_shared[end + 1]:
            shared[position[:3]] = int(remaining[start_of[end]])
        else:
            ends.append(position)
    if shared:
        hashes = {position[2] for position in shared}
        equal = rows.where(F.col(ORDER_HASH).isin(hashes)).select(*Position._fields, WEIGHT).collect()
        for row in sorted(equal, key=lambda row: row[DOC_ID]):
            if (room := shared.get(row[:3], -1)) >= 0:
                shared[row[:3]] = room - row[WEIGHT]
                ends.extend([Position(*row[:4])] if row[WEIGHT] > room else [])
    return ends


def longest_prefix(rows: DataFrame, *, budget: int, n_rows: int | None = None) -> Position | None:
    """As `ends_of_prefixes`, of all rows together, with one histogram on the driver: the first row after the prefix, or None.

    Args:
        rows: order_key, order_hash, doc_id, weight.
        budget: in units of weight, >= 0.
        n_rows: as there.

    Raises:
        ValueError: if `budget` is negative.
    """
    if budget < 0:
        raise ValueError(f"budget: {budget} is negative")
    left = rows.select(ORDER_KEY, ORDER_HASH, WEIGHT)
    for digit in [] if n_rows is not None and n_rows <= _ROWS_FOR_DRIVER else _digits(_BITS):
        sums = [F.sum(WEIGHT).alias(WEIGHT), F.count("*").alias(_COUNT)]
        bins = left.groupBy(digit.alias(_BIN)).agg(*sums).toArrow().sort_by(_BIN)  # at most 2**22 rows
        up_to = np.cumsum(bins.column(WEIGHT).to_numpy())
        last = int(np.searchsorted(up_to, budget, side="right"))
        if last == len(up_to):
            return None
        budget -= int(up_to[last - 1]) if last else 0
        left = left.where(digit == int(bins.column(_BIN)[last].as_py()))
        if int(bins.column(_COUNT)[last].as_py()) <= _ROWS_FOR_DRIVER:
            break
    left, rows = (frame.withColumn(GROUP, F.lit(None).cast("string")) for frame in (left, rows))
    return next(iter(_ends(left.withColumn(BUDGET, F.lit(budget).cast("bigint")), rows)), None)


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


def in_prefixes(rows: DataFrame, ends: Sequence[Position]) -> DataFrame:
    """Keep the rows that come before the end of their group; groups without an end stay whole.

    Args:
        rows: group, order_key, order_hash, doc_id, and more columns.
        ends: as `ends_of_prefixes` gives them.
    """
    if not ends:
        return rows
    types = (_type_of_group(rows), "bigint", "bigint", "string")
    schema = ", ".join(f"end_{name} {kind}" for name, kind in zip(Position._fields, types, strict=True))
    table = F.broadcast(small_frame(rows.sparkSession, ends, schema))
    joined = rows.join(table, on=_same_group(rows, f"end_{GROUP}"), how="left")
    here = F.struct(ORDER_KEY, ORDER_HASH, DOC_ID)
    end = F.struct(*[F.col(f"end_{name}").alias(name) for name in Position._fields[1:]])
    is_before = F.col(f"end_{DOC_ID}").isNull() | (here < end)
    return joined.where(is_before).select(*rows.columns)
