"""Which documents stay.

The rule: documents are looked at in ranking order, those that an earlier run kept first. A document is removed if and only if
it is similar to one that stays. So every removed document is similar to the one that is kept for it; of a chain A~B~C with A
unlike C, B alone goes; and no two documents that were found similar both stay, unless an earlier run kept both.
"""

from collections.abc import Callable, Iterator

import pyarrow as pa
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from betr_spark.dedup.candidates import BETTER, BETTER_PUBLISHED, WORSE
from betr_spark.dedup.components import NODE, ROOT
from betr_spark.dedup.exact import COPIES, PLACE, REPRESENTATIVE
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

KEPT = "kept"


def removed_near(edges: DataFrame, components: DataFrame) -> DataFrame:
    """Apply the rule to each component, its documents one after the other, in one pass.

    A removed document goes to the first of its neighbours that stay: a published one, or the best. Memory grows with the
    documents removed of one component, on the executor that has it.

    Args:
        edges: better, better_published, worse, similarity, evidence; verified pairs, once each.
        components: node, root; of every node of `edges`.

    Returns:
        place, kept (a place), similarity, evidence.
    """
    rooted = edges.join(components.select(F.col(NODE).alias(WORSE), ROOT), on=WORSE, how="inner")
    order: list[str | Column] = [ROOT, WORSE, F.desc(BETTER_PUBLISHED), BETTER]
    columns = f"{PLACE} binary, {KEPT} binary, {SIMILARITY} float, {EVIDENCE} string"
    rows = rooted.select(ROOT, BETTER, BETTER_PUBLISHED, WORSE, SIMILARITY, EVIDENCE)
    return rows.repartition(ROOT).sortWithinPartitions(*order).mapInArrow(_decide, columns)


def _decide(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    root: bytes | None = None
    removed: set[bytes] = set()
    for batch in batches:
        names = (ROOT, BETTER, BETTER_PUBLISHED, WORSE)
        chosen = []
        for i, (own, better, stays, worse) in enumerate(
            zip(*(batch.column(n).to_pylist() for n in names), strict=True)
        ):
            if own != root:
                root, removed = own, set()
            if worse not in removed and (stays or better not in removed):
                removed.add(worse)
                chosen.append(i)
        rows = batch.select([WORSE, BETTER, SIMILARITY, EVIDENCE]).take(pa.array(chosen, pa.int64()))
        yield rows.rename_columns([PLACE, KEPT, SIMILARITY, EVIDENCE])


def with_sizes(components: DataFrame, copies: DataFrame) -> DataFrame:
    """Add `component_size`, the number of documents of a component, exact copies and kept ones included.

    Args:
        components: node, root.
        copies: as `exact.copies_of` gives it.
    """
    own = copies.where(F.col(PLACE) == F.col(REPRESENTATIVE)).select(F.col(PLACE).alias(NODE), COPIES)
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
        documents: doc_id, source, place; one row a document.
        copies: as `exact.copies_of` gives it.
        near: place (of a representative), kept (a place), similarity, evidence.
        components: node (a representative), root, component_size; of every place in `near`.
        materialise: computes a frame and cuts its lineage.
    """
    moved = components.join(near.withColumnRenamed(PLACE, NODE), on=NODE, how="left")
    joined = moved.withColumnRenamed(NODE, REPRESENTATIVE).join(copies, on=REPRESENTATIVE, how="full")
    place = F.coalesce(PLACE, REPRESENTATIVE)
    kept = F.coalesce(KEPT, REPRESENTATIVE)
    is_exact = F.col(KEPT).isNull()
    removed = joined.where(kept != place).select(
        place.alias(PLACE),
        kept.alias(KEPT),
        F.when(is_exact, EXACT).otherwise(NEAR).alias(KIND),
        F.when(is_exact, F.lit(1.0)).otherwise(F.col(SIMILARITY)).cast("float").alias(SIMILARITY),
        F.when(is_exact, CONTENT).otherwise(F.col(EVIDENCE)).alias(EVIDENCE),
        F.coalesce(ROOT, REPRESENTATIVE).alias(ROOT),
        F.coalesce(COMPONENT_SIZE, COPIES).alias(COMPONENT_SIZE),
    )
    removed = materialise(removed)
    places = removed.select(F.explode(F.array(PLACE, KEPT, ROOT)).alias(PLACE)).distinct()
    named = documents.select(PLACE, DOC_ID, SOURCE).join(places.hint("shuffle_hash"), on=PLACE, how="left_semi")
    named = materialise(named)
    rows = removed.join(named, on=PLACE, how="inner")
    for of, name in ((KEPT, KEPT_DOC_ID), (ROOT, COMPONENT_ID)):
        rows = rows.join(named.select(F.col(PLACE).alias(of), F.col(DOC_ID).alias(name)), on=of, how="inner")
    return rows.select(DOC_ID, SOURCE, KEPT_DOC_ID, KIND, SIMILARITY, EVIDENCE, COMPONENT_ID, COMPONENT_SIZE)
