"""Repeats of the documents of a selection: a curve over their token-weighted position, and a total that is exact to a document.

Positions come from a histogram of the scores, so nothing is sorted: the documents of a bin share the mean of the curve over the
bin, which leaves the expected total exact. A bin has at most 1/1024 of the tokens, or one score; documents of equal score are
expected to be repeated equally often.
"""

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from betr_spark.config import CurveConfig, SigmoidConfig, SoftCapConfig
from betr_spark.ordering import ORDER_KEY, WEIGHT, before, longest_prefix
from betr_spark.schemas import LOGIT, N_TOKENS, REPEAT_COUNT
from betr_spark.scoring.logit import uniform_draw
from betr_spark.scoring.percentiles import Bins
from betr_spark.scoring.score_bins import score_bins
from betr_spark.selection.repetition_curve import (
    Curve,
    expected_repeats,
    repeat_counts,
    solve_power_curve,
    solve_sigmoid_curve,
)
from betr_spark.selection.soft_cap import solve_soft_cap

_UNIFORM, _ROUNDED_DOWN = "uniform", "rounded_down"
Shape = CurveConfig | SigmoidConfig | SoftCapConfig


def with_repeats(
    ordered: DataFrame, curve: Shape, *, available: int, target: int, where: str,
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
    bins = score_bins(ordered, {LOGIT: F.col(LOGIT)})[LOGIT]
    counted = materialise(_counted(ordered, bins, solved, seed=curve.seed))
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


def _solved(curve: Shape, available: int, target: int, where: str) -> Curve:
    if isinstance(curve, SigmoidConfig):
        settings = {"temperature": curve.temperature, "floor": curve.floor, "cap": curve.cap}
        return solve_sigmoid_curve(available, target, where=where, **settings)
    if isinstance(curve, SoftCapConfig):
        return solve_soft_cap(available, target, penalty=curve.penalty, cap=curve.cap, where=where)
    powers = {"drop": curve.drop, "cap": curve.cap, "max_exponent": curve.max_exponent}
    return solve_power_curve(available, target, where=where, **powers)


def _counted(ordered: DataFrame, bins: Bins, curve: Curve, *, seed: int) -> DataFrame:
    """Add repeat_count, and whether it was rounded down."""
    expected, first_key = expected_repeats(curve, bins.tokens[::-1])[::-1], bins.first

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
