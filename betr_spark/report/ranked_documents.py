"""The documents that a selection ranks, with what the report reads of each."""

from collections.abc import Iterator
from contextlib import contextmanager

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from betr_spark.config import Config
from betr_spark.pipeline.stage import RunContext
from betr_spark.report.outcomes import Outcomes
from betr_spark.schemas import BENCHMARK, BEST_BENCHMARK, CHOSEN_FOR, DOC_ID, LOGIT, N_TOKENS, SOURCE
from betr_spark.selection.conditions import IS_ELIGIBLE, Conditions
from betr_spark.selection.population import RankedTables, marked_survivors

IS_REJECTED, _IS_KEPT = "is_rejected", "is_kept"


@contextmanager
def ranked_documents(
    context: RunContext, name: str, selected: DataFrame, documents: Outcomes | None
) -> Iterator[DataFrame]:
    """The documents that a selection ranks: doc_id, source, n_tokens, logit, is_rejected (eligible and not kept), benchmark.

    They are those of `documents`, if the selection ranks all survivors by a logit of `features`; else they are computed and
    kept in memory.

    Args:
        context: for the output.
        name: of the selection.
        selected: its table.
        documents: what became of all documents, if it is known.

    Raises:
        DataError: a table does not exist or is not up to date.
    """
    if documents is not None and ranks_all(context.config, name, documents):
        yield _known(context.config, name, documents)
        return
    rows = _computed(context, name, selected).persist()
    try:
        yield rows
    finally:
        rows.unpersist()


def ranks_all(config: Config, name: str, documents: Outcomes) -> bool:
    """Whether a selection ranks all survivors by a logit that `documents` has: it has no rules of its own."""
    selection, scorer = config.selections[name], config.selections[name].scorer
    has_rules = selection.where is not None or selection.balanced_by() is not None or selection.balance is not None
    return not has_rules and not config.benchmark_scorers(scorer) and scorer in documents.logits


def _known(config: Config, name: str, documents: Outcomes) -> DataFrame:
    """As `ranked_documents`, of a selection that `ranks_all`."""
    logit = F.col(documents.logits[config.selections[name].scorer])
    return documents.survivors().where(logit.isNotNull()).select(
        DOC_ID, SOURCE, N_TOKENS, logit.alias(LOGIT), (documents.repeats(name) == 0).alias(IS_REJECTED),
        F.lit(None).cast("string").alias(BENCHMARK),
    )  # fmt: skip


def _computed(context: RunContext, name: str, selected: DataFrame) -> DataFrame:
    """As `ranked_documents`, by the conditions of the selection."""
    conditions = Conditions(name, context.config.selections[name], context)
    conditions.check_unique()
    rows = marked_survivors(RankedTables.of(context, [conditions.selection.scorer]), conditions)
    kept = selected.select(DOC_ID, F.lit(True).alias(_IS_KEPT)).dropDuplicates([DOC_ID])
    is_rejected = (F.col(IS_ELIGIBLE) & F.col(_IS_KEPT).isNull()).alias(IS_REJECTED)
    rows = rows.join(kept, on=DOC_ID, how="left")
    return rows.select(DOC_ID, SOURCE, N_TOKENS, double_logit(), is_rejected, benchmark_of(rows))


def double_logit() -> Column:
    """The column `logit` as a double."""
    return F.col(LOGIT).cast("double").alias(LOGIT)


def benchmark_of(rows: DataFrame) -> Column:
    """The target that the selection names for a document."""
    named = next((column for column in (CHOSEN_FOR, BEST_BENCHMARK) if column in rows.columns), None)
    return (F.lit(None).cast("string") if named is None else F.col(named)).alias(BENCHMARK)
