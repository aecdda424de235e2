"""The tables that have texts, each as a view of documents with an order; and what a list of documents shows."""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from betr_spark import schemas
from betr_spark.config import Config
from betr_spark.errors import DataError
from betr_spark.schemas import (
    BEST_BENCHMARK,
    BEST_COSINE,
    CHOSEN_FOR,
    DOC_ID,
    LOGIT,
    PHASE,
    RANK,
    SCORE,
    SOURCE,
    TARGET_SCORE,
)
from betr_spark.storage import delta

SAMPLE = "sample"
BEST, WORST, RANDOM = "best", "worst", "random"  # orders
UNMARKED = "none"
LABELS = {"positive": 1, "negative": 0, "neither": None}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Filters:
    """What a list shows; an empty value is no filter.

    Attributes:
        view: key of a view.
        source: exactly this source.
        scorer: whose score orders and limits; empty: the order and the score of the view.
        low: smallest score.
        high: largest score.
        benchmark: the best benchmark.
        text: part of the text, in any case.
        mark: `good`, `bad` or `none`.
        label: of the sample: `positive`, `negative` or `neither`.
        kept: of the sample: `+NAME` documents that selection NAME has, `-NAME` those that it does not have.
        order: `best`, `worst` or `random`.
    """

    view: str
    source: str = ""
    scorer: str = ""
    low: float | None = None
    high: float | None = None
    benchmark: str = ""
    text: str = ""
    mark: str = ""
    label: str = ""
    kept: str = ""
    order: str = BEST


class Hit(NamedTuple):
    """A document of a list."""

    doc_id: str
    rank: int | None = None
    phase: str | None = None
    score: float | None = None


class View(NamedTuple):
    """Documents of one table.

    Attributes:
        key: `selected/NAME` or `sample`.
        documents: all columns, one row a document (of a selection with phases, one for each phase that has it).
        best: order, the best first.
        worst: order, the worst first.
        score: what `best` goes by, for people; None where there is none.
        benchmark: column with the best benchmark; None where there is none.
    """

    key: str
    documents: DataFrame
    best: list[Column]
    worst: list[Column]
    score: Column | None
    benchmark: str | None


def open_views(spark: SparkSession, config: Config) -> dict[str, View]:
    """The views of an output as it is now, by key; a run that ends later does not change them.

    Raises:
        DataError: no table with texts exists, or one is damaged.
    """
    views = {view.key: view for view in [*_selections(spark, config), *_sample(spark, config)]}
    if not views:
        raise DataError(f"output: {config.output}: no table with texts; create them with `betr-spark run`")
    return views


def pinned(spark: SparkSession, path: str) -> DataFrame | None:
    """A table as it is now, whatever is committed later; None where there is none."""
    if not delta.exists(spark, path):
        return None
    return delta.read(spark, path, version=delta.newest_version(spark, path))


def _selections(spark: SparkSession, config: Config) -> Iterator[View]:
    for name, selection in config.selections.items():
        key = f"selected/{name}"
        documents = pinned(spark, config.table(key))
        if documents is None:
            continue
        score = F.col(LOGIT if selection.scorer in config.expressions() else SCORE)
        benchmark = next((column for column in (BEST_BENCHMARK, CHOSEN_FOR) if column in documents.columns), None)
        ties = [F.col(column) for column in (PHASE, DOC_ID) if column in documents.columns]
        yield View(key, documents, [F.asc(RANK), *ties], [F.desc(RANK), *ties], score, benchmark)


def _sample(spark: SparkSession, config: Config) -> Iterator[View]:
    """The sample, with its ranking where it is ranked: it also has the documents that no selection keeps."""
    documents = pinned(spark, config.table(schemas.SAMPLE_TABLE))
    ranked = pinned(spark, config.table(schemas.RANKED_SAMPLE_TABLE))
    if documents is None:
        return
    ties = [F.xxhash64(DOC_ID), F.col(DOC_ID)]
    if ranked is None:
        yield View(SAMPLE, documents, ties, ties, None, None)
        return
    best = [F.desc(TARGET_SCORE), F.desc(BEST_COSINE), *ties]
    worst = [F.asc(TARGET_SCORE), F.asc(BEST_COSINE), *ties]
    both = documents.join(ranked.drop(SOURCE), on=DOC_ID, how="left")
    yield View(SAMPLE, both, best, worst, F.col(TARGET_SCORE), BEST_BENCHMARK)
