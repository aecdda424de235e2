"""The kept documents of one selection with their ranks, without their text."""

from collections.abc import Callable
from typing import NamedTuple, Self

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from betr_spark import schemas
from betr_spark.config import Config, SelectionConfig
from betr_spark.ordering import ORDER_HASH, ORDER_KEY, with_rank
from betr_spark.pipeline.stage import RunContext
from betr_spark.schemas import BEST_BENCHMARK, CONTENT_HASH, DOC_ID, INPUT_FILE, LOGIT, N_BYTES, N_TOKENS, SOURCE
from betr_spark.scoring.logit import logit_of
from betr_spark.selection.budget import with_order, within_budget
from betr_spark.storage import delta


class SelectionInput(NamedTuple):
    """What all selections rank: `features` and `duplicates`, and their numbers of rows."""

    features: DataFrame
    duplicates: DataFrame
    n_documents: int
    n_duplicates: int

    @classmethod
    def of(cls, context: RunContext) -> Self:
        """Read the tables of the output."""
        names = (schemas.FEATURES_TABLE, schemas.DUPLICATES_TABLE)
        features, duplicates = (delta.read(context.spark, context.config.table(name)) for name in names)
        return cls(features, duplicates, features.count(), duplicates.count())


class Ranking(NamedTuple):
    """Kept documents: doc_id, rank, source, n_tokens, content_hash, input_file, logit, with benchmark scorers best_benchmark.

    `n_documents` are in `features`, `n_duplicates` of them were removed, `n_survivors` of the others have a score; bytes
    are those of the kept texts.
    """

    rows: DataFrame
    n_documents: int
    n_duplicates: int
    n_survivors: int
    n_kept: int
    survivor_tokens: int
    kept_tokens: int
    kept_bytes: int


def scored_survivors(features: DataFrame, duplicates: DataFrame, config: Config, scorer: str) -> DataFrame:
    """Documents that were not removed and have a score: doc_id, source, n_bytes, n_tokens, content_hash, input_file, logit.

    With benchmark scorers also best_benchmark, that of the highest one (the first of equals).
    """
    survivors = features.join(duplicates.select(DOC_ID), on=DOC_ID, how="left_anti")
    logits = {name: F.col(schemas.logit_column(own)) for name, own in config.benchmark_scorers(scorer).items()}
    highest = F.array_max(F.array(*logits.values()))
    best = F.coalesce(*[F.when(logit == highest, F.lit(name)) for name, logit in logits.items()])
    columns = [logit_of(config, scorer).alias(LOGIT), *([best.alias(BEST_BENCHMARK)] if logits else [])]
    rows = survivors.select(DOC_ID, SOURCE, N_BYTES, N_TOKENS, CONTENT_HASH, INPUT_FILE, *columns)
    return rows.where(F.col(LOGIT).isNotNull())


def rank_survivors(
    ranked: SelectionInput, config: Config, selection: SelectionConfig, *, materialise: Callable[[DataFrame], DataFrame]
) -> Ranking:
    """Rank the survivors by the selection's scorer and keep its budget. Reads no text.

    Args:
        ranked: the tables and their sizes.
        config: for the scorers.
        selection: scorer and budget.
        materialise: computes a frame and cuts its lineage.
    """
    survivors = scored_survivors(ranked.features, ranked.duplicates, config, selection.scorer)
    ordered = with_order(survivors).persist()  # read for the totals, for each histogram, and for the kept rows
    try:
        size = [F.count("*"), F.coalesce(F.sum(N_TOKENS), F.lit(0)), F.coalesce(F.sum(N_BYTES), F.lit(0))]
        n_survivors, survivor_tokens, _ = ordered.agg(*size).head() or (0, 0, 0)
        by_value = selection.scorer in config.expressions()
        sizes = {"n_tokens": survivor_tokens, "n_rows": n_survivors}
        kept = within_budget(ordered, selection.keep, by_value=by_value, **sizes).persist()
        try:  # read for the totals and by the sort
            n_kept, kept_tokens, kept_bytes = kept.agg(*size).head() or (0, 0, 0)
            rows = with_rank(kept, n_rows=n_kept, materialise=materialise).drop(ORDER_KEY, ORDER_HASH)
        finally:
            kept.unpersist()
    finally:
        ordered.unpersist()
    return Ranking(
        rows=rows, n_documents=ranked.n_documents, n_duplicates=ranked.n_duplicates, n_survivors=n_survivors,
        n_kept=n_kept, survivor_tokens=survivor_tokens, kept_tokens=kept_tokens, kept_bytes=kept_bytes,
    )  # fmt: skip
