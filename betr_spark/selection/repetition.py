"""Repeats of the documents of a selection: a curve over their token-weighted position, and a total that is exact to a document.

Positions come from a histogram of the order key, so nothing is sorted: the documents of a bin share the mean of the curve over
the bin, which leaves the expected total exact. Bins of more than 1/1024 of the tokens are split, down to single values of the
key; documents of equal score are expected to be repeated equally often.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from betr_spark.config import CurveConfig, SigmoidConfig
from betr_spark.ordering import ORDER_KEY, WEIGHT, before, longest_prefix, unsigned
from betr_spark.schemas import N_TOKENS, REPEAT_COUNT
from betr_spark.scoring.logit import uniform_draw
from betr_spark.selection.repetition_curve import (
    Curve,
    expected_repeats,
    repeat_counts,
    solve_power_curve,
    solve_sigmoid_curve,
)

_SHIFTS = (44, 34, 24, 14, 4, 0)  # low bits of a key that the bins leave out, coarse to fine
_FINEST_SHARE = 1024  # a bin of more than one in so many tokens is split
_BIN, _TOKENS, _FIRST, _LAST = "bin", "tokens", "first_key", "last_key"
_UNIFORM, _ROUNDED_DOWN = "uniform", "rounded_down"


class KeyBins(NamedTuple):
    """Bins of the ranking, the best first: the lowest key of each and its tokens; int64 [n] both."""

    first_key: NDArray[np.int64]
    tokens: NDArray[np.int64]

    def expected(self, curve: Curve) -> NDArray[np.float64]:
        """Expected repeats of the documents of each bin, float64 [n]."""
        return expected_repeats(curve, self.tokens[::-1])[::-1]


def with_repeats(
    ordered: DataFrame, curve: CurveConfig | SigmoidConfig, *, available: int, target: int, where: str,
    materialise: Callable[[DataFrame], DataFrame],
) -> DataFrame:  # fmt: skip
    """Keep the documents that are repeated at least once, with `repeat_count` (int), for a total of `target` tokens.

    The counts are drawn from a hash of (seed, doc_id), so they do not depend on partitions. Then the total is brought to the
    largest one that is at most `target`: if it is more, documents lose one repeat, the last in the order first; if it is less,
    documents whose count was rounded down gain one, the first in the order first.

    Args:
        ordered: as `with_order` gives it, with n_tokens; one row a document. It is read several times, so persist it.
        curve: how repeats depend on the rank.
        available: tokens of `ordered`.
        target: tokens after repetition.
        where: key of the configuration, for messages.
        materialise: computes a frame and cuts its lineage.

    Raises:
        DataError: the target is not within what the curve's drop, floor and cap allow.
    """
    solved = _solved(curve, available, target, where)
    counted = materialise(_counted(ordered, key_bins(ordered, available), solved, seed=curve.seed))
    weight = F.col(N_TOKENS).cast("bigint")
    is_used = F.col(REPEAT_COUNT) > 0
    sums = [F.sum(weight * F.col(REPEAT_COUNT)), F.sum(F.when(is_used, weight))]
    total, once = (int(value or 0) for value in counted.agg(*sums).head() or (0, 0))
    if total > target:
        end = longest_prefix(counted.where(is_used).withColumn(WEIGHT, weight), budget=once - (total - target))
        change = F.lit(0) if end is None else -(is_used & ~before(end)).cast("int")
    else:
        short = F.col(_ROUNDED_DOWN)
        end = longest_prefix(counted.where(short).withColumn(WEIGHT, weight), budget=target - total)
        change = (short if end is None else short & before(end)).cast("int")
    adjusted = counted.withColumn(REPEAT_COUNT, (F.col(REPEAT_COUNT) + change).cast("int")).drop(_ROUNDED_DOWN)
    return adjusted.where(F.col(REPEAT_COUNT) > 0)


def _solved(curve: CurveConfig | SigmoidConfig, available: int, target: int, where: str) -> Curve:
    if isinstance(curve, SigmoidConfig):
        settings = {"temperature": curve.temperature, "floor": curve.floor, "cap": curve.cap}
        return solve_sigmoid_curve(available, target, where=where, **settings)
    powers = {"drop": curve.drop, "cap": curve.cap, "max_exponent": curve.max_exponent}
    return solve_power_curve(available, target, where=where, **powers)


def _counted(ordered: DataFrame, bins: KeyBins, curve: Curve, *, seed: int) -> DataFrame:
    """Add repeat_count, and whether it was rounded down."""
    expected, first_key = bins.expected(curve), bins.first_key

    def add(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            keys, uniform = (batch.column(name).to_numpy(zero_copy_only=False) for name in (ORDER_KEY, _UNIFORM))
            of_row = expected[np.searchsorted(first_key, keys, side="right") - 1]
            counts = repeat_counts(of_row, uniform)
            counted = batch.drop_columns([_UNIFORM]).append_column(REPEAT_COUNT, pa.array(counts, pa.int32()))
            yield counted.append_column(_ROUNDED_DOWN, pa.array(counts < of_row))

    schema = ", ".join(f"`{field.name}` {field.dataType.simpleString()}" for field in ordered.schema)
    drawn = ordered.withColumn(_UNIFORM, uniform_draw("repeat", seed))
    return drawn.mapInArrow(add, f"{schema}, {REPEAT_COUNT} int, {_ROUNDED_DOWN} boolean")


def key_bins(ordered: DataFrame, available: int) -> KeyBins:
    """Histogram of the order key, at most 2**20 coarse bins and 1024 for each one that is split.

    Args:
        ordered: order_key and n_tokens.
        available: tokens of all rows.
    """
    key, parts = unsigned(F.col(ORDER_KEY)), list[KeyBins]()
    rows, largest = ordered.select(ORDER_KEY, N_TOKENS), available // _FINEST_SHARE
    for shift in _SHIFTS:
        number = F.shiftrightunsigned(key, shift) if shift else key
        bins = _histogram(rows, number)
        tokens, first, last = (bins.column(name).to_numpy() for name in (_TOKENS, _FIRST, _LAST))
        heavy = (tokens > largest) & (first < last)
        parts.append(KeyBins(first[~heavy], tokens[~heavy]))
        if not heavy.any():
            break
        rows = rows.where(number.isin(*bins.column(_BIN).to_numpy()[heavy].tolist()))
    first_key, tokens = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    order = np.argsort(first_key)
    return KeyBins(first_key[order], tokens[order])


def _histogram(rows: DataFrame, number: Column) -> pa.Table:
    """Tokens, lowest and highest key of each bin."""
    sums = [F.coalesce(F.sum(N_TOKENS), F.lit(0)).cast("bigint").alias(_TOKENS)]
    keys = [F.min(ORDER_KEY).alias(_FIRST), F.max(ORDER_KEY).alias(_LAST)]
    return rows.groupBy(number.alias(_BIN)).agg(*sums, *keys).toArrow()
