"""Guards against a source or a component that collapses: the stage writes nothing and shows sample pairs."""

import json
from collections.abc import Iterator
from typing import NamedTuple

from pyspark.sql import DataFrame, Observation, Row
from pyspark.sql import functions as F

from betr_spark.dedup.verification import texts_of
from betr_spark.errors import DataError
from betr_spark.pipeline.stage import RunContext
from betr_spark.schemas import (
    COMPONENT_ID,
    COMPONENT_SIZE,
    DOC_ID,
    EXACT,
    INPUT_FILE,
    KEPT_DOC_ID,
    KIND,
    NEAR,
    SIMILARITY,
    SOURCE,
    TEXT,
)

_SHOWN = 5  # sources; components
_PAIRS_SHOWN = 3  # of each source or component
_TEXT_SHOWN = 100  # characters


class Totals(NamedTuple):
    """Numbers of documents.

    Attributes:
        documents: of the corpus.
        exact: removed as exact copies.
        near: removed as near-duplicates.
        largest_component: documents of the largest component.
        largest_source_loss: the largest fraction of its documents that a source loses.
    """

    documents: int
    exact: int
    near: int
    largest_component: int
    largest_source_loss: float


def check(rows: DataFrame, documents: DataFrame, context: RunContext) -> Totals:
    """Compare the documents to remove with `dedup.max_source_loss` and `dedup.max_component`.

    Args:
        rows: of `duplicates`, with `source`.
        documents: doc_id, source, input_file; one row for each document.
        context: for the guards and, for sample texts, the input.

    Raises:
        DataError: a guard is exceeded; one line for each source or component, each followed by lines of sample pairs.
    """
    settings = context.config.dedup
    source = F.to_json(F.struct(SOURCE)).alias(SOURCE)  # null differs from every name
    kinds = [F.count_if(F.col(KIND) == kind).alias(kind) for kind in (EXACT, NEAR)]
    removed = rows.groupBy(source).agg(*kinds, F.max(COMPONENT_SIZE).alias(COMPONENT_SIZE))
    losses = (
        documents.groupBy(source)
        .agg(F.count("*").alias("n"))
        .join(removed, on=SOURCE, how="left")
        .fillna(0, [EXACT, NEAR])
        .withColumn("removed", F.col(EXACT) + F.col(NEAR))
        .withColumn("loss", F.col("removed") / F.col("n"))
    )
    totals = Observation()
    sums = [F.sum(name).alias(name) for name in ("n", EXACT, NEAR)]
    losses = losses.observe(totals, *sums, F.max(COMPONENT_SIZE).alias(COMPONENT_SIZE))
    sources = losses.orderBy(F.desc("loss"), F.desc("n"), SOURCE).limit(_SHOWN).collect()
    n, exact, near, largest = (int(totals.get[name] or 0) for name in ("n", EXACT, NEAR, COMPONENT_SIZE))
    lines: list[str] = []
    for row in sources:
        if settings.max_source_loss is not None and row["loss"] > settings.max_source_loss:
            lines.append(
                f"dedup: {_named(row[SOURCE])} would lose {row['removed']} of {row['n']} documents ({row['loss']:.1%}); "
                f"dedup.max_source_loss is {settings.max_source_loss:g}"
            )
            lines += _samples(rows.where(source == row[SOURCE]), documents, context)
    if settings.max_component is not None and largest > settings.max_component:
        for row in _largest_components(rows, more_than=settings.max_component):
            lines.append(
                f"dedup: the component of document '{row[COMPONENT_ID]}' has {row['n']} documents; "
                f"dedup.max_component is {settings.max_component}"
            )
            lines += _samples(rows.where(F.col(COMPONENT_ID) == row[COMPONENT_ID]), documents, context)
    if lines:
        lines.append("dedup: nothing was written; if these removals are correct, raise the limit with --set")
        raise DataError(*lines)
    return Totals(n, exact, near, largest, float(sources[0]["loss"]) if sources else 0.0)


def _largest_components(rows: DataFrame, *, more_than: int) -> list[Row]:
    n = F.max(COMPONENT_SIZE).alias("n")
    components = rows.groupBy(COMPONENT_ID).agg(n).where(F.col("n") > more_than)
    return components.orderBy(F.desc("n"), COMPONENT_ID).limit(_SHOWN).collect()


def _named(source: str) -> str:
    name = json.loads(source).get(SOURCE)
    return "documents without a source" if name is None else f"source '{name}'"


def _samples(rows: DataFrame, documents: DataFrame, context: RunContext) -> Iterator[str]:
    """Show pairs of a removed and a kept document: the least similar pairs, one for each kept document."""
    least = F.min(F.struct(SIMILARITY, DOC_ID, KIND)).alias("least")
    pairs_of_each = rows.groupBy(KEPT_DOC_ID).agg(least).select(KEPT_DOC_ID, "least.*")
    pairs = pairs_of_each.orderBy(SIMILARITY, DOC_ID).limit(_PAIRS_SHOWN).collect()
    ids = sorted({row[name] for row in pairs for name in (DOC_ID, KEPT_DOC_ID)})
    shown = documents.where(F.col(DOC_ID).isin(ids)).select(DOC_ID, INPUT_FILE)
    text = F.substring(TEXT, 1, 4 * _TEXT_SHOWN).alias(TEXT)
    texts = {row[DOC_ID]: row[TEXT] for row in texts_of(shown, context).select(DOC_ID, text).collect()}
    for row in pairs:
        yield f"  {row[KIND]}, similarity {row[SIMILARITY]:.3f}:"
        for label, column in (("removed", DOC_ID), ("kept", KEPT_DOC_ID)):
            start = " ".join(texts.get(row[column], "").split())[:_TEXT_SHOWN]
            yield f"    {label} '{row[column]}': {start}"
