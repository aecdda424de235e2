"""LSH candidates: pairs that share a band, at most two a document and bucket, and their verification."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from betr_spark.dedup.exact import ranking_order
from betr_spark.features.minhash import estimated_similarity
from betr_spark.schemas import BANDS, DOC_ID, LOGIT, SIGNATURE, SIMILARITY

BETTER, WORSE = "better", "worse"


def candidate_pairs(documents: DataFrame) -> DataFrame:
    """Pair every document of a bucket with the bucket's best and with the one before it in ranking order.

    So a bucket of n gives at most 2 (n - 1) pairs, whatever its size, and none is skipped.

    Args:
        documents: doc_id, bands, logit; one row a document.

    Returns:
        better, worse (doc_ids, in ranking order), each pair once.
    """
    members = documents.select(DOC_ID, LOGIT, F.explode(BANDS).alias("band"))
    bucket = Window.partitionBy("band").orderBy(*ranking_order())
    best, previous = F.first(DOC_ID).over(bucket), F.lag(DOC_ID).over(bucket)
    linked = members.select(F.array(best, previous).alias("others"), F.col(DOC_ID).alias(WORSE))
    pairs = linked.select(F.explode("others").alias(BETTER), WORSE)
    return pairs.where(F.col(BETTER).isNotNull() & (F.col(BETTER) != F.col(WORSE))).distinct()


def with_similarity(pairs: DataFrame, signatures: DataFrame, *, left: str, right: str) -> DataFrame:
    """Add the estimated Jaccard similarity of two columns of doc_ids, from their signatures.

    Args:
        pairs: rows with the two doc_id columns; other columns are kept.
        signatures: doc_id, signature (never null for the ids in `pairs`).
        left: name of the first column.
        right: name of the second.
    """
    names = pairs.columns
    one = signatures.select(F.col(DOC_ID).alias(left), F.col(SIGNATURE).alias("left_signature"))
    other = signatures.select(F.col(DOC_ID).alias(right), F.col(SIGNATURE).alias("right_signature"))
    joined = pairs.join(one, on=left, how="inner").join(other, on=right, how="inner")
    schema = ", ".join([*(f"`{n}` {pairs.schema[n].dataType.simpleString()}" for n in names), f"{SIMILARITY} float"])
    return joined.select(*names, "left_signature", "right_signature").mapInArrow(_estimate, schema)


def _estimate(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        similarity = estimated_similarity(
            _matrix(batch.column("left_signature")), _matrix(batch.column("right_signature"))
        )
        kept = batch.drop_columns(["left_signature", "right_signature"])
        yield kept.append_column(SIMILARITY, pa.array(similarity, pa.float32()))


def _matrix(signatures: pa.Array) -> NDArray[np.uint32]:
    packed = b"".join(signatures.to_pylist())
    return np.frombuffer(packed, np.uint32).reshape(len(signatures), -1)
