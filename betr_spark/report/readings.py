"""Documents to read: the best of a selection, the last ones that it keeps, the first ones that it does not, and random ones."""

import itertools
from collections.abc import Collection, Sequence
from functools import partial, reduce
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from betr_spark import schemas
from betr_spark.config import Config
from betr_spark.pipeline.stage import RunContext
from betr_spark.report.ranked_documents import (
    N_READ,
    Known,
    RankedDocuments,
    benchmark_of,
    double_logit,
    order_of_drawn,
    ranked_documents,
)
from betr_spark.schemas import (
    BENCHMARK,
    BEST_BENCHMARK,
    BEST_COSINE,
    BEST_EXAMPLE,
    DOC_ID,
    LOGIT,
    N_TOKENS,
    RANK,
    SOURCE,
)
from betr_spark.scoring.contributions import Contribution
from betr_spark.selection.tally import DOCUMENTS, Groups, Populations, Scored
from betr_spark.storage import delta

_GROUP = "group_number"


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


def readings(context: RunContext, name: str, known: Known | None = None) -> Readings:
    """Choose documents to read; reads no text.

    If the selection is not known, three scans of the documents that it ranks, and no sort of them; if its condition uses
    carried columns, also a scan of these in the input.

    Args:
        context: for the output.
        name: of a selection that is written.
        known: of selections, from which fewer documents are read.

    Raises:
        DataError: a table does not exist or is not up to date.
    """
    spark, config = context.spark, context.config
    selected = delta.read(spark, config.table(f"selected/{name}"))
    with ranked_documents(context, name, selected, known) as ranked:
        n_kept, groups = _groups(selected, ranked)
        percentiles = percentiles_of(ranked.populations, name, {row[LOGIT] for rows in groups for row in rows})
    ids = {row[DOC_ID] for rows in groups for row in rows}
    nearest = _nearest_examples(spark, config, ids)
    rank_of = _ranks(selected, ids)

    def reading(row: Row) -> Reading:
        example = nearest.get(row[DOC_ID])
        return Reading(
            doc_id=row[DOC_ID], rank=row[RANK] or rank_of.get(row[DOC_ID]), logit=row[LOGIT],
            percentile=percentiles[row[LOGIT]], source=row[SOURCE], n_tokens=row[N_TOKENS], nearest=example,
            benchmark=row[BENCHMARK] or (example.benchmark if example else None),
        )  # fmt: skip

    return Readings(name, config.selections[name].scorer, n_kept, *([reading(row) for row in rows] for rows in groups))


def ranking_order() -> list[Column]:
    """Order of the ranking as columns, equal to that of `selection.budget.with_order`; logits are doubles without NaN."""
    return [F.desc(F.col(LOGIT) + F.lit(0.0)), F.xxhash64(DOC_ID), F.col(DOC_ID)]


def _groups(selected: DataFrame, ranked: RankedDocuments) -> tuple[int, list[list[Row]]]:
    """The number of rows; the best rows, the last ones, rejected and random documents, each group in its order."""
    kept = selected.select(RANK, DOC_ID, SOURCE, N_TOKENS, double_logit(), benchmark_of(selected))
    n_rows, last_rank = selected.agg(F.count("*"), F.coalesce(F.max(RANK), F.lit(0))).head() or (0, 0)
    near = N_READ + max(0, last_rank - n_rows)  # ranks of forgotten documents are missing
    no_rank = F.lit(None).cast(kept.schema[RANK].dataType).alias(RANK)
    columns: list[Column | str] = [no_rank, DOC_ID, SOURCE, N_TOKENS, LOGIT, BENCHMARK]
    orders = [
        (kept.where(F.col(RANK) <= near), [F.asc(RANK)]),
        (kept.where(F.col(RANK) > last_rank - near), [F.desc(RANK)]),
        (ranked.rejected().select(columns), ranking_order()),
        (ranked.rows.select(columns), [order_of_drawn(), F.col(DOC_ID)]),
    ]
    parts = [
        rows.orderBy(*order).limit(N_READ).withColumn(_GROUP, F.lit(number))
        for number, (rows, order) in enumerate(orders)
    ]
    found: list[list[Row]] = [[] for _ in orders]
    for row in reduce(DataFrame.unionAll, parts).collect():  # at most 40
        found[row[_GROUP]].append(row)
    best, last, *others = found
    return int(n_rows), [best, last[::-1], *others]


def _ranks(selected: DataFrame, ids: Collection[str]) -> dict[str, int]:
    """Find the rank of some documents: the best one of a document with several rows."""
    found = selected.where(F.col(DOC_ID).isin(*ids)).groupBy(DOC_ID).agg(F.min(RANK).alias(RANK))
    return {row[DOC_ID]: row[RANK] for row in found.collect()}  # at most one row for each id


def percentiles_of(populations: Populations, name: str, logits: Collection[float]) -> dict[float, float]:
    """Compute the percentage of a population whose logit is as given or lower. One pass.

    Args:
        populations: of documents.
        name: of one.
        logits: few of them.
    """
    ordered = np.array(sorted(logits), np.float64)
    counted = populations.tally({name: partial(_positions, ordered)}, (DOCUMENTS,))[name]
    counts = dict(zip(counted[_GROUP].to_pylist(), counted[DOCUMENTS].to_pylist(), strict=True))
    up_to = list(itertools.accumulate(counts.get(position, 0) for position in range(len(ordered) + 1)))
    return {float(value): 100 * n / max(1, up_to[-1]) for value, n in zip(ordered, up_to, strict=False)}


def _positions(ordered: NDArray[np.float64], scored: Scored) -> Groups:
    """Position of the first of some logits that is as high as a document's."""
    return Groups({_GROUP: np.searchsorted(ordered, scored.logit).astype(np.int64)})


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
