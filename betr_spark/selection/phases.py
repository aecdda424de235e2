"""Phases of a training run: several sets of documents of one ranking, each repeated evenly until it fills its tokens."""

from collections.abc import Callable, Sequence
from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from betr_spark.config import PhaseConfig, SelectionConfig
from betr_spark.errors import DataError
from betr_spark.ordering import ORDER_HASH, ORDER_KEY, WEIGHT, before, longest_prefix
from betr_spark.schemas import DOC_ID, N_TOKENS, PHASE, REPEAT_COUNT

_KEPT_KEY, _KEPT_HASH = "kept_order_key", "kept_order_hash"


def split_into_phases(
    ordered: DataFrame,
    selection: SelectionConfig,
    keep: Callable[[DataFrame, PhaseConfig], DataFrame],
    *,
    where: str,
    materialise: Callable[[DataFrame], DataFrame],
) -> list[DataFrame]:
    """Keep the documents of each phase, with `phase` and `repeat_count` (int, at least 1).

    In a phase of T tokens whose documents have K tokens, each document is repeated floor(T / K) times. The rest of T is filled
    with documents in the order of a hash of (seed, phase, doc_id): the longest prefix of this order that fits. So a phase is
    exact to one document. With `disjoint`, a document of a later phase is in no earlier one.

    Args:
        ordered: as `with_order` gives it, with n_tokens; one row a document.
        selection: with phases.
        keep: keeps the documents of a phase, before repeats.
        where: key of the configuration, for messages.
        materialise: computes a frame and cuts its lineage.

    Raises:
        DataError: a phase has no documents, or a document is repeated more than `max_repeats` times over all phases.
    """
    phases: list[DataFrame] = []
    eligible = ordered
    for phase in reversed(selection.phases):
        kept = materialise(keep(eligible, phase))
        repeated = materialise(_repeated(kept, phase, selection.max_repeats, where=where))
        phases.insert(0, repeated.withColumn(PHASE, F.lit(phase.name)))
        if selection.disjoint:
            eligible = eligible.join(repeated.select(DOC_ID), on=DOC_ID, how="left_anti")
    _check_repeats(phases, selection.max_repeats, where=where)
    return phases


def _repeated(kept: DataFrame, phase: PhaseConfig, max_repeats: int, *, where: str) -> DataFrame:
    weight = F.col(N_TOKENS).cast("bigint")
    available = int((kept.agg(F.sum(weight)).head() or (0,))[0] or 0)
    if not available:
        raise DataError(f"{where}.{phase.name}: no document is left for this phase, {phase.tokens} tokens are required")
    whole, rest = divmod(phase.tokens, available)
    if whole > max_repeats:
        raise _too_often(whole, max_repeats, where)
    by_hash = {
        ORDER_KEY: F.xxhash64(F.lit(f"phase {phase.seed} {phase.name}"), DOC_ID),
        ORDER_HASH: F.xxhash64(DOC_ID),
        _KEPT_KEY: F.col(ORDER_KEY),
        _KEPT_HASH: F.col(ORDER_HASH),
    }
    drawn = kept.withColumns(by_hash)
    end = longest_prefix(drawn.withColumn(WEIGHT, weight), budget=rest)
    once_more = F.lit(1) if end is None else before(end).cast("int")
    counted = drawn.withColumn(REPEAT_COUNT, (F.lit(whole) + once_more).cast("int"))
    back = counted.withColumns({ORDER_KEY: F.col(_KEPT_KEY), ORDER_HASH: F.col(_KEPT_HASH)})
    return back.where(F.col(REPEAT_COUNT) > 0).drop(_KEPT_KEY, _KEPT_HASH)


def _check_repeats(phases: Sequence[DataFrame], max_repeats: int, *, where: str) -> None:
    rows = reduce(DataFrame.unionByName, [rows.select(DOC_ID, REPEAT_COUNT) for rows in phases])
    counts = rows.groupBy(DOC_ID).agg(F.sum(REPEAT_COUNT).alias(REPEAT_COUNT))
    most = int((counts.agg(F.max(REPEAT_COUNT)).head() or (0,))[0] or 0)
    if most > max_repeats:
        raise _too_often(most, max_repeats, where)


def _too_often(times: int, max_repeats: int, where: str) -> DataError:
    return DataError(
        f"{where}: a document would be repeated {times} times over all phases, max_repeats is {max_repeats}; keep more "
        "documents, or train on fewer tokens"
    )
