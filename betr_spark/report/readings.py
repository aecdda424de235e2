"""Documents to read: the best of a selection, the last ones that it keeps, the first ones that it does not, and random ones."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from pyspark.sql import Column, DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from betr_spark import schemas
from betr_spark.config import Config
from betr_spark.pipeline.stage import RunContext
from betr_spark.schemas import (
    BENCHMARK,
    BEST_BENCHMARK,
    BEST_COSINE,
    BEST_EXAMPLE,
    CHOSEN_FOR,
    DOC_ID,
    LOGIT,
    N_TOKENS,
    RANK,
    SOURCE,
)
from betr_spark.scoring.contributions import Contribution
from betr_spark.selection.conditions import IS_ELIGIBLE, Conditions
from betr_spark.selection.ranking import SelectionInput, marked_survivors
from betr_spark.storage import delta

_DOCUMENTS = 10  # of a group
_SALT = "report"


class NearestExample(NamedTuple):
    """The example, or with another `labels.granularity` the centroid, whose order ranks a sampled document best.

    Attributes:
        benchmark: the target.
        row: of the example in its file, from 0, or the number of the centroid.
        cosine: the document's cosine with it.
        is_centroid: whether it is a centroid.
        text: start of the example; None for a centroid, or if the target's file has no such example any more.
    """

    benchmark: str
    row: int
    cosine: float
    text: str | None
    is_centroid: bool = False


class Reading(NamedTuple):
    """A document to read.

    Attributes:
        doc_id: its id.
        rank: in the selection; None if it is not selected.
        logit: that the selection ranks by.
        percentile: of the documents that the selection ranks (eligible or not), the percentage with the same logit or a
            lower one.
        source: None if it has none.
        n_tokens: its length.
        benchmark: the target that the selection names for it, or that of the nearest example; None if neither is known.
        nearest: None if the document is not in the ranked sample.
        text: start of the text; None before `reading_texts.with_texts`, and if the text could not be read.
        is_whole: whether `text` is the whole text.
        raised: n-grams that raise the logit of the scorer most; None if the scorer has no weights of n-grams, or was trained
            again since.
        lowered: n-grams that lower it most.
    """

    doc_id: str
    rank: int | None
    logit: float
    percentile: float
    source: str | None
    n_tokens: int
    benchmark: str | None
    nearest: NearestExample | None
    text: str | None = None
    is_whole: bool = False
    raised: Sequence[Contribution] | None = None
    lowered: Sequence[Contribution] | None = None


class Readings(NamedTuple):
    """Documents of one selection to read, at most ten of each kind.

    Attributes:
        name: of the selection.
        scorer: of the selection.
        n_kept: rows of the selection.
        best: the first ranks.
        at_cut: the last ranks, the best first.
        rejected: the best eligible documents that are not kept, the best first.
        random: documents that the selection ranks, chosen by a hash of the id; eligible or not, kept or not.
    """

    name: str
    scorer: str
    n_kept: int
    best: list[Reading]
    at_cut: list[Reading]
    rejected: list[Reading]
    random: list[Reading]

    def all(self) -> list[Reading]:
        """The documents of all kinds."""
        return [*self.best, *self.at_cut, *self.rejected, *self.random]

    def ids(self) -> list[str]:
        """Documents whose texts `with_texts` needs."""
        return list(dict.fromkeys(reading.doc_id for reading in self.all()))


def readings(context: RunContext, name: str) -> Readings:
    """Choose documents to read; reads no text.

    One scan of the documents that the selection ranks, which are kept in memory without their texts, and no sort of them. If
    the selection's condition uses carried columns, also a scan of these in the input.

    Args:
        context: for the output.
        name: of a selection that is written.

    Raises:
        DataError: a table does not exist or is not up to date.
    """
    spark, config = context.spark, context.config
    selected = delta.read(spark, config.table(f"selected/{name}"))
    conditions = Conditions(name, config.selections[name], context)
    scorer = conditions.selection.scorer
    conditions.check_unique()
    population = marked_survivors(SelectionInput.of(context, [scorer]), conditions)
    population = population.select(DOC_ID, SOURCE, N_TOKENS, _logit(), IS_ELIGIBLE, _benchmark(population))
    population = population.persist()  # read for the rejected documents, for the random ones and for the percentiles
    try:
        best, at_cut = _ends(selected)
        not_kept = population.where(IS_ELIGIBLE).join(selected.select(DOC_ID), on=DOC_ID, how="left_anti")
        rejected = not_kept.orderBy(*ranking_order()).limit(_DOCUMENTS).drop(IS_ELIGIBLE).collect()
        random = (
            population.orderBy(F.xxhash64(F.lit(_SALT), DOC_ID), DOC_ID).limit(_DOCUMENTS).drop(IS_ELIGIBLE).collect()
        )
        groups = [best, at_cut, rejected, random]
        percentiles = percentiles_of(population, {row[LOGIT] for rows in groups for row in rows})
    finally:
        population.unpersist()
    ids = {row[DOC_ID] for rows in groups for row in rows}
    nearest = _nearest_examples(spark, config, ids)
    ranks = (
        selected.where(F.col(DOC_ID).isin([row[DOC_ID] for row in random])).groupBy(DOC_ID).agg(F.min(RANK)).collect()
    )
    rank_of = {row[DOC_ID]: row[RANK] for row in [*best, *at_cut]} | {row[0]: row[1] for row in ranks}

    def reading(row: Row) -> Reading:
        example = nearest.get(row[DOC_ID])
        return Reading(
            doc_id=row[DOC_ID], rank=rank_of.get(row[DOC_ID]), logit=row[LOGIT], percentile=percentiles[row[LOGIT]],
            source=row[SOURCE], n_tokens=row[N_TOKENS], nearest=example,
            benchmark=row[BENCHMARK] or (example.benchmark if example else None),
        )  # fmt: skip

    return Readings(name, scorer, selected.count(), *([reading(row) for row in rows] for rows in groups))


def ranking_order() -> list[Column]:
    """Order of the ranking as columns, equal to that of `selection.budget.with_order`; logits are doubles without NaN."""
    return [F.desc(F.col(LOGIT) + F.lit(0.0)), F.xxhash64(DOC_ID), F.col(DOC_ID)]


def _logit() -> Column:
    return F.col(LOGIT).cast("double").alias(LOGIT)


def _benchmark(rows: DataFrame) -> Column:
    """The target that the selection names for a document."""
    named = next((column for column in (CHOSEN_FOR, BEST_BENCHMARK) if column in rows.columns), None)
    return (F.lit(None).cast("string") if named is None else F.col(named)).alias(BENCHMARK)


def _ends(selected: DataFrame) -> tuple[list[Row], list[Row]]:
    """The first and the last rows of a selection; `forget` leaves gaps in the ranks."""
    first, last = ([row[RANK] for row in selected.select(RANK).orderBy(order).limit(_DOCUMENTS).collect()]
                   for order in (F.asc(RANK), F.desc(RANK)))  # fmt: skip
    columns: list[Column | str] = [RANK, DOC_ID, SOURCE, N_TOKENS, _logit(), _benchmark(selected)]
    rows = {row[RANK]: row for row in selected.where(F.col(RANK).isin(first + last)).select(*columns).collect()}
    return [rows[rank] for rank in first], [rows[rank] for rank in reversed(last)]


def percentiles_of(population: DataFrame, logits: Collection[float]) -> dict[float, float]:
    """Compute the percentage of the population whose logit is as given or lower. One aggregation.

    Args:
        population: logit, not null; one row a document.
        logits: few of them.
    """
    ordered = sorted(logits)
    counts = [F.count_if(F.col(LOGIT) <= F.lit(value)) for value in ordered]
    total, *parts = population.agg(F.count("*"), *counts).head() or (0,) * (1 + len(ordered))
    return {value: 100 * int(part) / max(1, int(total)) for value, part in zip(ordered, parts, strict=True)}


def _nearest_examples(spark: SparkSession, config: Config, ids: Collection[str]) -> dict[str, NearestExample]:
    """Of the documents that are in the ranked sample."""
    path = config.table(schemas.RANKED_SAMPLE_TABLE)
    if not config.needs_target_ranking() or not delta.exists(spark, path):
        return {}
    ranked = delta.read(spark, path).where(F.col(DOC_ID).isin(*ids))
    rows = ranked.select(
        DOC_ID, BEST_BENCHMARK, BEST_EXAMPLE, F.col(BEST_COSINE).cast("double").alias(BEST_COSINE)
    ).collect()
    centroids = config.labels.granularity != "example"
    return {
        row[DOC_ID]: NearestExample(row[BEST_BENCHMARK], row[BEST_EXAMPLE], row[BEST_COSINE], None, centroids)
        for row in rows
    }
