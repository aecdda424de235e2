"""Exact copies: documents of equal content hash, represented by the best of them in ranking order."""

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from betr_spark.schemas import CONTENT_HASH, DOC_ID, LOGIT

REPRESENTATIVE, COPIES = "representative", "copies"


def ranking_order(prefix: str = "") -> list[Column]:
    """Ranking order as sort columns: logit descending (no logit last), then xxhash64(doc_id), then doc_id."""
    doc_id = F.col(f"{prefix}{DOC_ID}")
    return [F.desc_nulls_last(f"{prefix}{LOGIT}"), F.xxhash64(doc_id).asc(), doc_id.asc()]


def with_representative(documents: DataFrame) -> DataFrame:
    """Add `representative` (the doc_id of the best document of equal content) and `copies` (how many are equal).

    Args:
        documents: doc_id, content_hash, logit; one row a document.
    """
    same = Window.partitionBy(CONTENT_HASH)
    best = F.first(DOC_ID).over(same.orderBy(*ranking_order()))
    return documents.withColumn(REPRESENTATIVE, best).withColumn(COPIES, F.count("*").over(same))
