"""The kept documents of one selection with their ranks, without their text."""

import logging
from collections.abc import Callable, Iterable
from typing import NamedTuple, Self

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from betr_spark.config import PhaseConfig
from betr_spark.ordering import GROUP
from betr_spark.pipeline.stage import RunContext
from betr_spark.schemas import (
    DOC_ID,
    N_TOKENS,
    REPEAT_COUNT,
)
from betr_spark.selection.budget import (
    Budget,
    with_order,
    within_amounts,
    within_budget,
    within_maximum,
    within_shares,
)
from betr_spark.selection.conditions import IS_ELIGIBLE, Conditions
from betr_spark.selection.keep_rate import VALID_FLOPS, keep_rate
from betr_spark.selection.kept import Kept
from betr_spark.selection.phases import split_into_phases
from betr_spark.selection.population import RankedTables, marked_survivors
from betr_spark.selection.reference import Reference
from betr_spark.selection.repetition import with_repeats

_logger = logging.getLogger(__name__)


class SelectionInput(NamedTuple):
    """What all selections rank, and how much it is.

    Attributes:
        tables: features and duplicates.
        n_documents: rows of `features`.
        n_duplicates: rows of `duplicates`.
        n_contaminated: documents that are no duplicates and that `decontaminate` drops; `tables.features` does not have them.
    """

    tables: RankedTables
    n_documents: int
    n_duplicates: int
    n_contaminated: int = 0

    @classmethod
    def of(cls, context: RunContext, scorers: Iterable[str]) -> Self:
        """Read the tables of the output and count their rows; see `RankedTables.of`."""
        tables = RankedTables.of(context, scorers)
        n_documents, n_duplicates = tables.documents.count(), tables.duplicates.count()
        if tables.features is tables.documents:
            return cls(tables, n_documents, n_duplicates)
        n_clean = tables.features.join(tables.duplicates.select(DOC_ID), on=DOC_ID, how="left_anti").count()
        return cls(tables, n_documents, n_duplicates, n_documents - n_duplicates - n_clean)


class Ranking(NamedTuple):
    """Kept documents: doc_id, rank, source, n_tokens, content_hash, input_file, logit, and optional columns.

    The optional ones are those of `schemas.OPTIONAL_COLUMNS`.
    `n_documents` are in `features`, `n_duplicates` of them were removed, `n_contaminated` of the others are dropped for
    a test item, `n_survivors` of the rest have a score, of which `n_eligible` meet the condition `where`; survivor_tokens are
    those of these, bytes those of the kept texts.
    A document that is in several phases has as many rows, but counts once in `n_distinct` and `kept_tokens`. `repeated_tokens`
    are the kept tokens after repetition; None without repeats.
    """

    rows: DataFrame
    n_documents: int
    n_duplicates: int
    n_survivors: int
    n_eligible: int
    n_kept: int
    n_distinct: int
    survivor_tokens: int
    kept_tokens: int
    kept_bytes: int
    repeated_tokens: int | None = None
    n_contaminated: int = 0


def rank_survivors(
    ranked: SelectionInput,
    conditions: Conditions,
    *,
    materialise: Callable[[DataFrame], DataFrame],
    reference: DataFrame | None = None,
) -> Ranking:
    """Rank the survivors by the selection's scorer and keep its budget.

    Reads no text, unless a condition uses a carried column and the ids are hashes of the texts.

    Args:
        ranked: the tables and their sizes.
        conditions: the selection, and what its settings refer to.
        materialise: computes a frame and cuts its lineage.
        reference: source and n_tokens of the selection that `keep.tokens_of` names.

    Raises:
        DataError: several annotations for a document, or a quota of more than the budget.
    """
    selection = conditions.selection
    training = selection.keep.training
    if training and not keep_rate(training).in_range:
        where, flops = f"selections.{conditions.name}.keep.training", training.compute()
        _logger.warning("%s: the law was fitted to %g to %g FLOPs, this run has %g", where, *VALID_FLOPS, flops)
    conditions.check_unique()
    where = f"selections.{conditions.name}.stratified"
    of = Reference.of(reference, by_source=selection.stratified, where=where) if reference is not None else None
    survivors = marked_survivors(ranked.tables, conditions, sources=of.sources if of is not None else {})
    with_all = with_order(survivors).persist()  # read for the totals, for each histogram, and for the kept rows
    try:
        is_eligible = F.col(IS_ELIGIBLE)
        count, tokens = F.count_if(is_eligible), F.coalesce(F.sum(F.when(is_eligible, F.col(N_TOKENS))), F.lit(0))
        n_survivors, n_eligible, survivor_tokens = with_all.agg(F.count("*"), count, tokens).head() or (0, 0, 0)
        ordered = with_all if n_survivors == n_eligible else with_all.where(is_eligible)
        budget = Budget.of(
            selection.keep, n_tokens=survivor_tokens, reference_tokens=of.n_tokens if of is not None else 0
        )
        if selection.stratified and of is not None and of.sources:
            parts = [within_amounts(ordered, budget, of.sources, n_rows=n_eligible, where=where)]
        elif selection.phases:
            parts = _phases(ordered, conditions, n_rows=n_eligible, n_tokens=survivor_tokens, materialise=materialise)
        else:
            parts = [
                _kept(ordered, budget, conditions, n_rows=n_eligible, n_tokens=survivor_tokens, materialise=materialise)
            ]
        kept = Kept.none()
        for part in parts:
            kept = kept.followed_by(part.drop(IS_ELIGIBLE, GROUP), materialise=materialise)
    finally:
        with_all.unpersist()
    assert kept.rows is not None
    n_distinct, kept_tokens = kept.distinct() if selection.phases else (kept.n_rows, kept.n_tokens)
    return Ranking(
        rows=kept.rows, n_documents=ranked.n_documents, n_duplicates=ranked.n_duplicates, n_survivors=n_survivors,
        n_eligible=n_eligible, n_kept=kept.n_rows, n_distinct=n_distinct, survivor_tokens=survivor_tokens,
        kept_tokens=kept_tokens,
        kept_bytes=kept.n_bytes,
        repeated_tokens=kept.repeated_tokens if REPEAT_COUNT in kept.rows.columns else None,
        n_contaminated=ranked.n_contaminated,
    )  # fmt: skip


def _phases(
    ordered: DataFrame, conditions: Conditions, *, n_rows: int, n_tokens: int,
    materialise: Callable[[DataFrame], DataFrame],
) -> list[DataFrame]:  # fmt: skip
    selection = conditions.selection

    def keep(eligible: DataFrame, phase: PhaseConfig) -> DataFrame:
        budget = Budget.of(phase.keep or selection.keep, n_tokens=n_tokens)
        return _kept(eligible, budget, conditions, n_rows=n_rows, n_tokens=n_tokens, materialise=materialise)

    where = f"selections.{conditions.name}.phases"
    return split_into_phases(ordered, selection, keep, where=where, materialise=materialise)


def _kept(
    ordered: DataFrame, budget: Budget, conditions: Conditions, *, n_rows: int, n_tokens: int,
    materialise: Callable[[DataFrame], DataFrame],
) -> DataFrame:  # fmt: skip
    selection = conditions.selection
    if selection.sample is not None:
        where = f"selections.{conditions.name}.sample"
        return with_repeats(
            ordered, selection.sample.shape(), available=n_tokens, target=budget.amount, where=where,
            materialise=materialise,
        )  # fmt: skip
    for column, shares in selection.quota.items():
        where = f"selections.{conditions.name}.quota.{column}"
        return within_shares(ordered, budget, shares, n_rows=n_rows, where=where)
    for maximum in selection.max_fraction.values():
        return within_maximum(ordered, budget, maximum, n_rows=n_rows)
    by_value = selection.scorer in conditions.context.config.expressions()
    return within_budget(ordered, budget, n_rows=n_rows, by_value=by_value)
