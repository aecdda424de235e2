"""The survivor rule: which documents stay.

The rule visits the documents in the order of their rank keys, previously kept documents first. It removes a document if and
only if the document is similar to one that stays. So every removed document is similar to the document that is kept for it. In
a chain A~B~C where A and C are not similar, only B is removed. Two documents that are known to be similar do not both stay,
unless an earlier run kept both.
"""

from collections.abc import Iterator

import pyarrow as pa
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from betr_spark.dedup.buckets import RANK_KEY_BYTES
from betr_spark.dedup.columns import CANDIDATE, KEEPER, KEEPER_PREVIOUSLY_KEPT
from betr_spark.dedup.components import NODE, ROOT
from betr_spark.dedup.exact import COPIES, REPRESENTATIVE, REPRESENTATIVE_ID
from betr_spark.dedup.greedy_removal import Edges, GreedyRemoval
from betr_spark.dedup.rank_keys import RANK_KEY
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
_NODE_ID, _NODE_SOURCE = "node_id", "node_source"


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


def named_components(components: DataFrame, documents: DataFrame) -> DataFrame:
    """Add the ids of documents and of components, and `component_size`.

    The size is the number of documents of a component, exact copies and kept ones included. The `component_id` is its best
    document.

    Args:
        components: node, root.
        documents: as `exact.with_copies` gives them.

    Returns:
        node, root, component_size, doc_id, source, component_id.
    """
    names = documents.select(F.col(RANK_KEY).alias(NODE), DOC_ID, SOURCE, COPIES)
    named = names.join(components, on=NODE, how="inner")
    component = Window.partitionBy(ROOT)
    size = F.sum(COPIES).over(component).alias(COMPONENT_SIZE)
    root_id = F.max(F.when(F.col(NODE) == F.col(ROOT), F.col(DOC_ID))).over(component).alias(COMPONENT_ID)
    return named.select(NODE, ROOT, size, DOC_ID, SOURCE, root_id)


def duplicates(copies: DataFrame, near: DataFrame, components: DataFrame) -> DataFrame:
    """Join exact copies and near-duplicates into the rows of the `duplicates` table, with their source.

    If a representative is removed, its copies are removed for the same document.

    Args:
        copies: as `exact.copies_of` gives it.
        near: rank_key (of a representative), kept (a rank key), similarity, evidence.
        components: as `named_components` gives them; for every document in `near`.
    """
    kept = components.select(F.col(NODE).alias(KEPT), F.col(DOC_ID).alias(KEPT_DOC_ID))
    near = near.withColumnRenamed(RANK_KEY, NODE).join(kept, on=KEPT, how="inner")
    nodes = components.withColumnsRenamed({DOC_ID: _NODE_ID, SOURCE: _NODE_SOURCE}).join(near, on=NODE, how="left")
    joined = nodes.withColumnRenamed(NODE, REPRESENTATIVE).join(copies, on=REPRESENTATIVE, how="full")
    is_copy = F.col(RANK_KEY).isNotNull()
    is_exact = F.col(KEPT).isNull()
    is_representative = ~is_copy | (F.col(RANK_KEY) == F.col(REPRESENTATIVE))
    return joined.where(~(is_exact & is_representative)).select(
        F.when(is_copy, F.col(DOC_ID)).otherwise(F.col(_NODE_ID)).alias(DOC_ID),
        F.when(is_copy, F.col(SOURCE)).otherwise(F.col(_NODE_SOURCE)).alias(SOURCE),
        F.coalesce(KEPT_DOC_ID, REPRESENTATIVE_ID).alias(KEPT_DOC_ID),
        F.when(is_exact, EXACT).otherwise(NEAR).alias(KIND),
        F.when(is_exact, F.lit(1.0)).otherwise(F.col(SIMILARITY)).cast("float").alias(SIMILARITY),
        F.when(is_exact, CONTENT).otherwise(F.col(EVIDENCE)).alias(EVIDENCE),
        F.coalesce(COMPONENT_ID, REPRESENTATIVE_ID).alias(COMPONENT_ID),
        F.coalesce(COMPONENT_SIZE, COPIES).alias(COMPONENT_SIZE),
    )
