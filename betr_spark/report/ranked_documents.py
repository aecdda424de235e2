"""The documents that a selection ranks, with what the report reads of each."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import reduce
from operator import or_
from typing import NamedTuple

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from betr_spark.config import Config
from betr_spark.corpus.sampling import has_small_hash
from betr_spark.pipeline.stage import RunContext
from betr_spark.report.outcomes import Outcomes
from betr_spark.schemas import BENCHMARK, BEST_BENCHMARK, CHOSEN_FOR, DOC_ID, LOGIT, N_TOKENS, SOURCE
from betr_spark.selection.conditions import IS_ELIGIBLE, Conditions
from betr_spark.selection.population import RankedTables, marked_survivors
from betr_spark.selection.score_histogram import Histogram
from betr_spark.selection.tally import ALL, Part, Populations

N_READ = 10  # documents of a group
_SALT = "report"


class RankedDocuments(NamedTuple):
    """The documents that a selection ranks.

    Attributes:
        rows: doc_id, source, n_tokens, logit, is_eligible, and the benchmark that the selection names; all, or at least those
            of them that can be among the `N_READ` best that are not kept or have the `N_READ` smallest hashes.
        near_cut: of which of `rows` the best that are not kept are.
        kept: doc_id and logit of those that the selection has.
        populations: all of them, by the name of the selection.
    """

    rows: DataFrame
    near_cut: Column
    kept: DataFrame
    populations: Populations

    def rejected(self) -> DataFrame:
        """Those of `rows` that are eligible, near the cut, and not kept."""
        kept = self.kept.where(self.near_cut).select(DOC_ID)
        return self.rows.where(self.near_cut & F.col(IS_ELIGIBLE)).join(kept, on=DOC_ID, how="left_anti")


class Known(NamedTuple):
    """What is known of the selections that rank all survivors by a logit of `features`.

    Attributes:
        documents: what became of all.
        bins: of the scores of the documents that a selection ranks, by selection.
        near: survivors with a small hash or near the cut of one of the selections: doc_id, source, n_tokens, logits. Persisted.
    """

    documents: Outcomes
    bins: Mapping[str, Histogram]
    near: DataFrame


@contextmanager
def known_documents(config: Config, documents: Outcomes, histograms: Mapping[str, Histogram]) -> Iterator[Known]:
    """Find the documents from which those of several selections are chosen, in one scan of `features`.

    Args:
        config: for the output.
        documents: what became of each.
        histograms: of the scores that selections rank by, by name.
    """
    bins = {name: of for name, of in histograms.items() if _ranks_all(config, name, documents)}
    n_rows = max([int(of.documents.sum()) for of in bins.values()], default=0)
    near = [_near_cut(of, F.col(documents.logits[config.selections[name].scorer])) for name, of in bins.items()]
    is_near = reduce(or_, near, has_small_hash(order_of_drawn(), n=N_READ, n_rows=n_rows))
    once = F.inline(
        F.array(F.struct(*documents.logits.values()))
    )  # a condition would compute a logit for each comparison
    rows = documents.documents.select(DOC_ID, SOURCE, N_TOKENS, once).where(is_near)
    if documents.dropped is not None:
        rows = rows.join(documents.dropped.where(is_near).select(DOC_ID), on=DOC_ID, how="left_anti")
    rows = rows.persist()
    try:
        yield Known(documents, bins, rows)
    finally:
        rows.unpersist()


@contextmanager
def ranked_documents(
    context: RunContext, name: str, selected: DataFrame, known: Known | None = None
) -> Iterator[RankedDocuments]:
    """The documents that a selection ranks; if it is not among the known ones, they are computed and kept in memory.

    Args:
        context: for the output.
        name: of the selection.
        selected: its table.
        known: of selections, if they are.

    Raises:
        DataError: a table does not exist or is not up to date.
    """
    if known is not None and name in known.bins:
        yield _known(context.config, name, known)
        return
    rows = _computed(context, name).persist()
    try:
        with Populations([Part(ALL, rows.select(N_TOKENS, LOGIT), {name: LOGIT})], in_memory=False) as populations:
            yield RankedDocuments(rows, F.lit(True), selected.select(DOC_ID, double_logit()), populations)
    finally:
        rows.unpersist()


def order_of_drawn() -> Column:
    """The hash by which documents are drawn."""
    return F.xxhash64(F.lit(_SALT), DOC_ID)


def _near_cut(bins: Histogram, logit: Column) -> Column:
    return bins.is_in(bins.best_others(N_READ), logit)


def _ranks_all(config: Config, name: str, documents: Outcomes) -> bool:
    """Whether a selection ranks all survivors by a logit that `documents` has: it has no rules of its own."""
    selection, scorer = config.selections[name], config.selections[name].scorer
    has_rules = selection.where is not None or selection.balanced_by() is not None or selection.balance is not None
    return not has_rules and not config.benchmark_scorers(scorer) and scorer in documents.logits


def _known(config: Config, name: str, known: Known) -> RankedDocuments:
    """As `ranked_documents`, of a selection that is known."""
    documents, scorer = known.documents, config.selections[name].scorer
    logit = F.col(documents.logits[scorer])
    is_eligible, benchmark = F.lit(True).alias(IS_ELIGIBLE), F.lit(None).cast("string").alias(BENCHMARK)
    rows = known.near.where(logit.isNotNull())
    return RankedDocuments(
        rows=rows.select(DOC_ID, SOURCE, N_TOKENS, logit.alias(LOGIT), is_eligible, benchmark),
        near_cut=_near_cut(known.bins[name], F.col(LOGIT)),
        kept=documents.kept[name],
        populations=documents.populations,
    )


def _computed(context: RunContext, name: str) -> DataFrame:
    """The documents that a selection ranks, by its conditions."""
    conditions = Conditions(name, context.config.selections[name], context)
    conditions.check_unique()
    rows = marked_survivors(RankedTables.of(context, [conditions.selection.scorer]), conditions)
    return rows.select(DOC_ID, SOURCE, N_TOKENS, double_logit(), IS_ELIGIBLE, benchmark_of(rows))


def double_logit() -> Column:
    """The column `logit` as a double."""
    return F.col(LOGIT).cast("double").alias(LOGIT)


def benchmark_of(rows: DataFrame) -> Column:
    """The target that the selection names for a document."""
    named = next((column for column in (CHOSEN_FOR, BEST_BENCHMARK) if column in rows.columns), None)
    return (F.lit(None).cast("string") if named is None else F.col(named)).alias(BENCHMARK)
