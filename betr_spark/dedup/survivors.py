"""Which documents stay.

The rule: documents are looked at in ranking order, those that an earlier run kept first. A document is removed if and only if
it is similar to one that stays. So every removed document is similar to the one that is kept for it; of a chain A~B~C with A
unlike C, B alone goes; and no two documents that were found similar both stay, unless an earlier run kept both.
"""

from collections.abc import Callable, Iterator

import pyarrow as pa
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from betr_spark.dedup.buckets import RANK_KEY_BYTES
from betr_spark.dedup.candidates import CANDIDATE, KEEPER, KEEPER_PREVIOUSLY_KEPT
from betr_spark.dedup.components import NODE, ROOT
from betr_spark.dedup.exact import COPIES, RANK_KEY, REPRESENTATIVE
from betr_spark.dedup.greedy_removal import Edges, GreedyRemoval
from betr_spark.kernels.arrow_buffers import binary_rows
from betr_spark.schemas import (
    COMPONENT_ID,
    COMPONENT_SIZE,
    CONTENT,
    DOC_ID,
    EVIDENCE,
    EXACT,
    KEPT_DOC_ID,
    KIND,
    NEAR,
    SIMILARITY,
    SOURCE,
)
from betr_spark.storage.scratch import spill_file

KEPT = "kept"


def removed_near(edges: DataFrame, components: DataFrame) -> DataFrame:
    """Apply the rule to each component, its documents one after the other, in one pass.

    A document is removed for the first of its neighbours that stay: a previously kept one, or the best one. One task decides a
    component, in bounded memory; see `GreedyRemoval`.

    Args:
        edges: keeper, keeper_previously_kept, candidate, similarity, evidence; verified pairs, once each.
        components: node, root; of every node of `edges`.

    Returns:
        rank_key, kept (a rank_key), similarity, evidence.
    """
    rooted = edges.join(components.select(F.col(NODE).alias(CANDIDATE), ROOT), on=CANDIDATE, how="inner")
    order: list[str | Column] = [ROOT, CANDIDATE, F.desc(KEEPER_PREVIOUSLY_KEPT), KEEPER]
    columns = f"{RANK_KEY} binary, {KEPT} binary, {SIMILARITY} float, {EVIDENCE} string"
    rows = rooted.select(ROOT, KEEPER, KEEPER_PREVIOUSLY_KEPT, CANDIDATE, SIMILARITY, EVIDENCE)
    return rows.repartition(ROOT).sortWithinPartitions(*order).mapInArrow(_decide, columns)


def _decide(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    removal = GreedyRemoval(spill_file)
    for batch in batches:
        edges = Edges(
            binary_rows(batch.column(ROOT), RANK_KEY_BYTES),
            binary_rows(batch.column(KEEPER), RANK_KEY_BYTES),
            batch.column(KEEPER_PREVIOUSLY_KEPT).to_numpy(zero_copy_only=False),
            binary_rows(batch.column(CANDIDATE), RANK_KEY_BYTES),
        )
        removed = batch.select([CANDIDATE, KEEPER, SIMILARITY, EVIDENCE]).take(pa.array(removal.decide(edges)))
        yield removed.rename_columns([RANK_KEY, KEPT, SIMILARITY, EVIDENCE])


def with_sizes(components: DataFrame, copies: DataFrame) -> DataFrame:
    """Add `component_size`, the number of documents of a component, exact copies and kept ones included.

    Args:
        components: node, root.
        copies: as `exact.copies_of` gives it.
    """
    own = copies.where(F.col(RANK_KEY) == F.col(REPRESENTATIVE)).select(F.col(RANK_KEY).alias(NODE), COPIES)
    size = F.sum(F.coalesce(COPIES, F.lit(1))).over(Window.partitionBy(ROOT)).alias(COMPONENT_SIZE)
    return components.join(own, on=NODE, how="left").select(NODE, ROOT, size)


def duplicates(
    documents: DataFrame,
    copies: DataFrame,
    near: DataFrame,
    components: DataFrame,
    *,
    materialise: Callable[[DataFrame], DataFrame],
) -> DataFrame:
    """Join exact and near removals into the rows of the `duplicates` table, with their source.

    An exact copy goes where its representative goes. `component_id` is the best document of the component, in ranking order.

    Args:
        documents: doc_id, source, rank_key; one row a document.
        copies: as `exact.copies_of` gives it.
        near: rank_key (of a representative), kept (a rank_key), similarity, evidence.
        components: node (a representative), root, component_size; of every rank_key in `near`.
        materialise: computes a frame and cuts its lineage.
    """
    moved = components.join(near.withColumnRenamed(RANK_KEY, NODE), on=NODE, how="left")
    joined = moved.withColumnRenamed(NODE, REPRESENTATIVE).join(copies, on=REPRESENTATIVE, how="full")
    rank_key = F.coalesce(RANK_KEY, REPRESENTATIVE)
    kept = F.coalesce(KEPT, REPRESENTATIVE)
    is_exact = F.col(KEPT).isNull()
    removed = joined.where(kept != rank_key).select(
        rank_key.alias(RANK_KEY),
        kept.alias(KEPT),
        F.when(is_exact, EXACT).otherwise(NEAR).alias(KIND),
        F.when(is_exact, F.lit(1.0)).otherwise(F.col(SIMILARITY)).cast("float").alias(SIMILARITY),
        F.when(is_exact, CONTENT).otherwise(F.col(EVIDENCE)).alias(EVIDENCE),
        F.coalesce(ROOT, REPRESENTATIVE).alias(ROOT),
        F.coalesce(COMPONENT_SIZE, COPIES).alias(COMPONENT_SIZE),
    )
    removed = materialise(removed)
    rank_keys = removed.select(F.explode(F.array(RANK_KEY, KEPT, ROOT)).alias(RANK_KEY)).distinct()
    named = documents.select(RANK_KEY, DOC_ID, SOURCE).join(
        rank_keys.hint("shuffle_hash"), on=RANK_KEY, how="left_semi"
    )
    named = materialise(named)
    rows = removed.join(named, on=RANK_KEY, how="inner")
    for of, name in ((KEPT, KEPT_DOC_ID), (ROOT, COMPONENT_ID)):
        rows = rows.join(named.select(F.col(RANK_KEY).alias(of), F.col(DOC_ID).alias(name)), on=of, how="inner")
    return rows.select(DOC_ID, SOURCE, KEPT_DOC_ID, KIND, SIMILARITY, EVIDENCE, COMPONENT_ID, COMPONENT_SIZE)
