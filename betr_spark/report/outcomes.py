"""One row for each document of `features` with what became of it, computed once for all sections and selections."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from typing import NamedTuple

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from betr_spark import schemas
from betr_spark.config import Config
from betr_spark.contamination.detection import contamination_rows
from betr_spark.features.token_unit import counted_if_configured
from betr_spark.schemas import DOC_ID, N_TOKENS, N_WORDS, REPEAT_COUNT, SOURCE
from betr_spark.scoring.combination import with_combined_logits
from betr_spark.scoring.logit import logit_of
from betr_spark.storage import delta, runs

HAS_TEXT, REMOVED, LEFT_OUT = "has_text", "removed", "left_out"
_MARK, _TIMES = "mark", "times"
_COMPRESSION = "spark.sql.inMemoryColumnarStorage.compressed"
_HASHED_ROWS = 2**19  # of a part of a join, about 100 MB
_DUPLICATE, _CONTAMINATED = -1, -2  # values of the mark; those of selections are their positions


class Outcomes(NamedTuple):
    """Every document, and what became of it.

    Attributes:
        rows: persisted; doc_id, source, n_tokens, has_text, removed (a duplicate), left_out (with a test item), and the columns
            of the selections' logits and of their repeats: how often a selection has the document, 0 if it does not.
        unit: what tokens are.
        selections: names of the finished selections.
        logits: columns of `rows`, by scorer; without the scorers that `features` does not have.
    """

    rows: DataFrame
    unit: str
    selections: tuple[str, ...]
    logits: dict[str, str]

    def survivors(self) -> DataFrame:
        """Documents that selections may rank: no duplicates, and without test items if these are dropped."""
        return self.rows.where(~F.col(REMOVED) & ~F.col(LEFT_OUT))

    def repeats(self, selection: str) -> Column:
        """How often a selection has a document."""
        return F.col(f"times_{self.selections.index(selection)}")


@contextmanager
def outcomes(spark: SparkSession, config: Config, selections: Sequence[str]) -> Iterator[Outcomes]:
    """Join `features` with `duplicates`, `contamination` and the ids of the selections, in one join; no text is read.

    Args:
        spark: the session.
        config: of the output; `features` exists.
        selections: names of finished selections.
    """
    features = delta.read(spark, config.table(schemas.FEATURES_TABLE))
    scorers = list(dict.fromkeys(config.selections[name].scorer for name in selections))
    known = [name for name in scorers if _has_logit(features, config, name)]
    features = with_combined_logits(features, config, known)  # before n_tokens changes: percentiles are of words
    features, unit = counted_if_configured(features, config)
    logits = {name: f"logit_{number}" for number, name in enumerate(known)}
    columns = [
        F.col(DOC_ID), F.col(SOURCE), F.col(N_TOKENS).cast("bigint").alias(N_TOKENS),
        (F.col(N_WORDS) > 0).alias(HAS_TEXT), *[logit_of(config, name).cast("double").alias(logits[name]) for name in known],
    ]  # fmt: skip
    marks = reduce(DataFrame.unionByName, _marks(spark, config, selections), _none(spark))

    def times(mark: int) -> Column:
        return F.sum(F.when(F.col(_MARK) == mark, F.col(_TIMES)).otherwise(0))

    names = [f"times_{number}" for number in range(len(selections))]
    marked = marks.groupBy(DOC_ID).agg(
        (times(_DUPLICATE) > 0).alias(REMOVED),
        (times(_CONTAMINATED) > 0).alias(LEFT_OUT),
        *[times(number).alias(name) for number, name in enumerate(names)],
    )
    n_parts = int(spark.conf.get("spark.sql.shuffle.partitions") or 1)
    if _n_marks(spark, config, selections) <= _HASHED_ROWS * n_parts:
        marked = marked.hint("shuffle_hash")  # it spares a sort of all documents, but cannot spill
    joined = features.select(*columns).join(marked, on=DOC_ID, how="left")
    rows = joined.fillna(False, [REMOVED, LEFT_OUT]).fillna(0, names)
    with delta.session_conf(spark, _COMPRESSION, "false"):  # it takes longer than the sections take to read the rows
        rows = rows.persist()  # in memory, and what does not fit on disk
    try:
        yield Outcomes(rows, unit, tuple(selections), logits)
    finally:
        rows.unpersist()


def _has_logit(features: DataFrame, config: Config, scorer: str) -> bool:
    parts = config.combinations().get(scorer, (scorer,))
    return all(schemas.logit_column(part) in features.columns for part in parts if part in config.scored())


def _none(spark: SparkSession) -> DataFrame:
    return spark.createDataFrame([], f"{DOC_ID} string, {_MARK} int, {_TIMES} bigint")


def _n_marks(spark: SparkSession, config: Config, selections: Sequence[str]) -> float:
    """About as many rows as `_marks` gives, by the records of the runs that wrote the tables; inf if there is none."""
    names = [schemas.DUPLICATES_TABLE, *[f"selected/{name}" for name in selections]]
    tables = [path for path in map(config.table, names) if delta.exists(spark, path)]
    found = [runs.made_by(spark, path) for path in tables]
    return sum(math.inf if run is None else run.rows_out for run in found)


def _marks(spark: SparkSession, config: Config, selections: Sequence[str]) -> Iterator[DataFrame]:
    """Rows of (doc_id, mark, times) of every table that says what became of a document."""

    def marked(rows: DataFrame, mark: int, times: Column | None = None) -> DataFrame:
        count = F.lit(1) if times is None else times
        return rows.select(DOC_ID, F.lit(mark).alias(_MARK), count.cast("bigint").alias(_TIMES))

    if delta.exists(spark, config.table(schemas.DUPLICATES_TABLE)):
        yield marked(delta.read(spark, config.table(schemas.DUPLICATES_TABLE)), _DUPLICATE)
    if config.drops_contaminated() and delta.exists(spark, config.table(schemas.CONTAMINATION_TABLE)):
        yield marked(contamination_rows(spark, config), _CONTAMINATED)
    for number, name in enumerate(selections):
        rows = delta.read(spark, config.table(f"selected/{name}"))
        yield marked(rows, number, F.col(REPEAT_COUNT) if REPEAT_COUNT in rows.columns else None)
