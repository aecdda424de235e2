"""The survivor rule: which documents stay.

The rule visits the documents in the order of their rank keys, previously kept documents first. It removes a document if and
only if the document is similar to one that stays. So every removed document is similar to the document that is kept for it. In
a chain A~B~C where A and C are not similar, only B is removed. Two documents that are known to be similar do not both stay,
unless an earlier run kept both.
"""

from collections.abc import Callable, Iterator

import pyarrow as pa
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from betr_spark.dedup.buckets import RANK_KEY_BYTES
from betr_spark.dedup.columns import CANDIDATE, KEEPER, KEEPER_PREVIOUSLY_KEPT
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
    """Apply the rule to each component, in one pass over its pairs.

    A document is removed for the first of its neighbours that stay: a previously kept one, or the best one. One task decides a
    component, in bounded memory; see `GreedyRemoval`.

    Args:
        edges: keeper, keeper_previously_kept, candidate, similarity, evidence; each similar pair once.
        components: node, root; for every node of `edges`.

    Returns:
        rank_key, kept (a rank key), similarity, evidence.
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
    with_copies = copies.where(F.col(RANK_KEY) == F.col(REPRESENTATIVE)).select(F.col(RANK_KEY).alias(NODE), COPIES)
    size = F.sum(F.coalesce(COPIES, F.lit(1))).over(Window.partitionBy(ROOT)).alias(COMPONENT_SIZE)
    return components.join(with_copies, on=NODE, how="left").select(NODE, ROOT, size)


def duplicates(
    documents: DataFrame,
    copies: DataFrame,
    near: DataFrame,
    components: DataFrame,
    *,
    materialise: Callable[[DataFrame], DataFrame],
) -> DataFrame:
    """Join exact copies and near-duplicates into the rows of the `duplicates` table, with their source.

    If a representative is removed, its copies are removed for the same document. `component_id` is the best document of the
    component.

    Args:
        documents: doc_id, source, rank_key; one row for each document.
        copies: as `exact.copies_of` gives it.
        near: rank_key (of a representative), kept (a rank key), similarity, evidence.
        components: node (a representative), root, component_size; for every rank_key in `near`.
        materialise: computes a frame and cuts its lineage.
    """
    nodes = components.join(near.withColumnRenamed(RANK_KEY, NODE), on=NODE, how="left")
    joined = nodes.withColumnRenamed(NODE, REPRESENTATIVE).join(copies, on=REPRESENTATIVE, how="full")
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
    names = documents.select(RANK_KEY, DOC_ID, SOURCE)
    names = materialise(names.join(rank_keys.hint("shuffle_hash"), on=RANK_KEY, how="left_semi"))
    rows = removed.join(names, on=RANK_KEY, how="inner")
    for key, doc_id in ((KEPT, KEPT_DOC_ID), (ROOT, COMPONENT_ID)):
        rows = rows.join(names.select(F.col(RANK_KEY).alias(key), F.col(DOC_ID).alias(doc_id)), on=key, how="inner")
    return rows.select(DOC_ID, SOURCE, KEPT_DOC_ID, KIND, SIMILARITY, EVIDENCE, COMPONENT_ID, COMPONENT_SIZE)
