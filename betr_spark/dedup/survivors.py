"""Which documents stay. The rule: a document is removed if and only if it is similar to a better one that stays."""

from collections.abc import Callable
from typing import NamedTuple

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from betr_spark.dedup.candidates import BETTER, WORSE
from betr_spark.dedup.components import NODE, ROOT
from betr_spark.dedup.exact import COPIES, REPRESENTATIVE, ranking_order
from betr_spark.schemas import (
    COMPONENT_ID,
    COMPONENT_SIZE,
    DOC_ID,
    EXACT,
    KEPT_DOC_ID,
    KIND,
    LOGIT,
    NEAR,
    SIMILARITY,
)

_POSITION = "position"


class Removed(NamedTuple):
    """Near-duplicates among the representatives, and how many rounds it took to decide."""

    rows: DataFrame
    rounds: int


def removed_near(edges: DataFrame, logits: DataFrame, *, materialise: Callable[[DataFrame], DataFrame]) -> Removed:
    """Decide each document of the similarity graph, best first, so a chain A~B~C with A unlike C loses B alone.

    Each round keeps the documents that no undecided better one is similar to, and removes what is similar to them; the
    end is that of going through the documents one by one in ranking order. A removed document goes to the best of its
    kept neighbours.

    Args:
        edges: better, worse, similarity; verified pairs, once each.
        logits: doc_id, logit of every document in `edges`.
        materialise: computes a frame and cuts its lineage.

    Returns:
        doc_id, kept_doc_id, similarity of the pair; and the number of rounds.
    """
    left = materialise(edges.select(BETTER, WORSE, SIMILARITY))
    removed, rounds = None, 0
    while left.take(1):
        rounds += 1
        kept = left.select(BETTER).distinct().join(left.select(F.col(WORSE).alias(BETTER)), on=BETTER, how="left_anti")
        hit = left.join(kept, on=BETTER, how="left_semi")
        found = materialise(_to_best_neighbour(hit, logits))
        removed = found if removed is None else removed.unionByName(found)
        gone = found.select(DOC_ID)
        left = materialise(
            left.join(kept, on=BETTER, how="left_anti")
            .join(gone.withColumnRenamed(DOC_ID, BETTER), on=BETTER, how="left_anti")
            .join(gone.withColumnRenamed(DOC_ID, WORSE), on=WORSE, how="left_anti")
        )
    if removed is None:
        removed = _to_best_neighbour(left, logits)
    return Removed(removed, rounds)


def _to_best_neighbour(hit: DataFrame, logits: DataFrame) -> DataFrame:
    scored = hit.join(logits.select(F.col(DOC_ID).alias(BETTER), LOGIT), on=BETTER, how="inner")
    order = Window.partitionBy(WORSE).orderBy(*ranking_order_of(BETTER))
    best = scored.withColumn(_POSITION, F.row_number().over(order)).where(F.col(_POSITION) == 1)
    return best.select(F.col(WORSE).alias(DOC_ID), F.col(BETTER).alias(KEPT_DOC_ID), SIMILARITY)


def ranking_order_of(column: str) -> list[Column]:
    """Ranking order where the ids stand in another column than doc_id."""
    return [F.desc_nulls_last(LOGIT), F.xxhash64(column).asc(), F.col(column).asc()]


def duplicates(documents: DataFrame, near: DataFrame, components: DataFrame) -> DataFrame:
    """Join exact and near removals into the rows of the `duplicates` table.

    An exact copy goes where its representative goes. `component_id` is the best document of the component, and
    `component_size` counts all its documents, exact copies and the kept ones included.

    Args:
        documents: doc_id, representative, copies, logit; one row a document.
        near: doc_id (a representative), kept_doc_id, similarity.
        components: node (a representative), root.
    """
    representatives = documents.where(F.col(DOC_ID) == F.col(REPRESENTATIVE))
    members = components.join(representatives, on=F.col(NODE) == F.col(DOC_ID), how="inner")
    order = Window.partitionBy(ROOT).orderBy(*ranking_order())
    named = members.select(
        F.col(NODE).alias(REPRESENTATIVE),
        F.first(DOC_ID).over(order).alias(COMPONENT_ID),
        F.sum(COPIES).over(Window.partitionBy(ROOT)).alias(COMPONENT_SIZE),
    )
    moved = near.withColumnRenamed(DOC_ID, REPRESENTATIVE).select(REPRESENTATIVE, KEPT_DOC_ID, SIMILARITY)
    joined = documents.join(moved, on=REPRESENTATIVE, how="left").join(named, on=REPRESENTATIVE, how="left")
    kept = F.coalesce(F.col(KEPT_DOC_ID), F.col(REPRESENTATIVE))
    is_copy = F.col(DOC_ID) != F.col(REPRESENTATIVE)
    return joined.where(kept != F.col(DOC_ID)).select(
        DOC_ID,
        kept.alias(KEPT_DOC_ID),
        F.when(is_copy & (kept == F.col(REPRESENTATIVE)), EXACT).otherwise(NEAR).alias(KIND),
        F.coalesce(F.col(SIMILARITY), F.lit(1.0)).cast("float").alias(SIMILARITY),
        F.coalesce(F.col(COMPONENT_ID), F.col(REPRESENTATIVE)).alias(COMPONENT_ID),
        F.coalesce(F.col(COMPONENT_SIZE), F.col(COPIES)).alias(COMPONENT_SIZE),
    )
