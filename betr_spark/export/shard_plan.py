"""Which document goes into which shard: contiguous parts of an order, of about equal size.

The order is that of the ranks, or of a hash of (seed, doc_id). It is cut at the borders of 262,144 cells: equal parts of the
ranks or of the hashes. So only the sizes of the cells go through the driver, and the shards are the same for any partitioning.
"""

import math
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import IntegralType

from betr_spark.errors import DataError, SchemaError
from betr_spark.export.encoding import SHARD
from betr_spark.ordering import unsigned
from betr_spark.schemas import DOC_ID, N_TOKENS, RANK, REPEAT_COUNT, TEXT
from betr_spark.spark.small_frames import frame_of

ORDER, COPY, TASK = "export order", "export copy", "export task"  # Delta has no columns with such names
_CELL, _CELL_BITS = "export cell", 18
_CELLS = 2**_CELL_BITS
MAX_SHARDS = 2**16


class ShardPlan(NamedTuple):
    """The shards in their order. Arrays: int64 [cells] and [shards].

    Attributes:
        cells: that have a document, ascending.
        shard_of_cell: number of the shard that each of them belongs to, ascending.
        rows: documents of each shard, repeated ones counted as often as they are written.
        tokens: `n_tokens` of these.
        text_bytes: bytes of their texts in UTF-8.
    """

    cells: NDArray[np.int64]
    shard_of_cell: NDArray[np.int64]
    rows: NDArray[np.int64]
    tokens: NDArray[np.int64]
    text_bytes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)


def in_order(selected: DataFrame, *, seed: int | None) -> DataFrame:
    """Add the order to the rows of a selection, and write each row as often as its `repeat_count` says.

    The shuffle puts the copies of a document in places of their own; in the order of the ranks they follow each other.

    Args:
        selected: as `selected/NAME`.
        seed: of the shuffle; None for the order of the ranks.

    Raises:
        DataError: the selection is empty.
        SchemaError: `repeat_count` is not of an integer type.
    """
    n_ranks = (selected.agg(F.max(RANK)).first() or (None,))[0]
    if n_ranks is None:
        raise DataError("the selection has no documents; nothing to export")
    rows = selected.withColumn(COPY, F.lit(1))
    if REPEAT_COUNT in selected.columns:
        if not isinstance(selected.schema[REPEAT_COUNT].dataType, IntegralType):
            found = selected.schema[REPEAT_COUNT].dataType.simpleString()
            raise SchemaError(f"column {REPEAT_COUNT}: {found}; an integer is required")
        count = F.coalesce(F.col(REPEAT_COUNT), F.lit(1))
        copies = F.explode(F.sequence(F.lit(1), count.cast("int")))
        rows = selected.where(count > 0).withColumn(COPY, copies).drop(REPEAT_COUNT)
    if seed is None:
        order: Column = F.col(RANK).cast("bigint")
        cell = F.floor((order - 1) * _CELLS / n_ranks)
    else:
        order = F.xxhash64(F.lit(seed).cast("bigint"), DOC_ID, COPY)
        cell = F.shiftrightunsigned(unsigned(order), 64 - _CELL_BITS)
    return rows.withColumns({ORDER: order, _CELL: cell.cast("bigint")})


def plan_shards(ordered: DataFrame, *, shard_bytes: int) -> ShardPlan:
    """Cut the order into shards of about `shard_bytes` bytes of text; reads the texts for their sizes.

    A shard can be larger by a cell, or by a document where that is larger than a cell.

    Raises:
        DataError: these would be more than 65,536 shards.
    """
    size = F.sum(F.coalesce(F.octet_length(TEXT), F.lit(0)).cast("bigint"))
    tokens = F.sum(F.coalesce(N_TOKENS, F.lit(0)).cast("bigint"))
    cells = ordered.groupBy(_CELL).agg(F.count("*"), tokens, size).toArrow()  # at most 262,144 rows
    numbers, rows, tokens_of, bytes_of = (column.to_numpy().astype(np.int64) for column in cells.columns)
    sorting = np.argsort(numbers)
    numbers, rows, tokens_of, bytes_of = (values[sorting] for values in (numbers, rows, tokens_of, bytes_of))
    shard = cut(bytes_of, shard_bytes=shard_bytes)
    starts = np.flatnonzero(np.diff(shard, prepend=-1))
    sums = (np.add.reduceat(values, starts) for values in (rows, tokens_of, bytes_of))
    return ShardPlan(numbers, shard, *sums)


def cut(sizes: NDArray[np.int64], *, shard_bytes: int) -> NDArray[np.int64]:
    """Number the shard of each cell: as many shards as come closest to the size, all about equal, none empty.

    >>> cut(np.array([3, 1, 1, 3, 3]), shard_bytes=5)
    array([0, 0, 0, 1, 1])

    Raises:
        DataError: more than 65,536 shards.
    """
    total = int(sizes.sum())
    n_shards = max(1, round(total / shard_bytes))
    if n_shards > MAX_SHARDS:
        least = math.ceil(total / MAX_SHARDS)
        raise DataError(
            f"--shard-bytes: {shard_bytes}: {n_shards} shards; at most {MAX_SHARDS} are possible; use {least} or more"
        )
    middle = np.cumsum(sizes) - (sizes + 1) // 2
    number = np.minimum((middle * (n_shards / max(1, total))).astype(np.int64), n_shards - 1)
    return np.cumsum(np.diff(number, prepend=number[:1]) > 0)


def shard_rows(spark: SparkSession, ordered: DataFrame, plan: ShardPlan, pending: list[int]) -> DataFrame:
    """The rows of some shards, with column `shard`: one partition for each, in its order."""
    task = np.full(len(plan), -1, np.int64)
    task[pending] = np.arange(len(pending))
    used = task[plan.shard_of_cell] >= 0
    shard = plan.shard_of_cell[used]
    columns = {_CELL: plan.cells[used], SHARD: shard.astype(np.int32), TASK: task[shard].astype(np.int32)}
    shards = F.broadcast(frame_of(spark, pa.table(columns)))
    rows = ordered.join(shards, on=_CELL, how="inner")
    return rows.repartitionById(len(pending), F.col(TASK)).sortWithinPartitions(SHARD, ORDER, DOC_ID, COPY)
