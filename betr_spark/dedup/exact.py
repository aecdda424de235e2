"""Rank keys, and exact copies: documents of equal content hash, represented by one of them."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from betr_spark.dedup.buckets import RANK_KEY_BYTES
from betr_spark.kernels.arrow_buffers import binary_column
from betr_spark.ordering import descending_key, unsigned
from betr_spark.schemas import CONTENT_HASH, DOC_ID, SIGNATURE, SOURCE

RANK_KEY, SURVIVOR_SCORE = "rank_key", "survivor_score"
NEW, REMOVED = "new", "removed"
REPRESENTATIVE, REPRESENTATIVE_ID, COPIES = "representative", "representative_id", "copies"
_FIRST = "first"
_SIGN_64 = np.uint64(2**63)


def with_rank_key(documents: DataFrame) -> DataFrame:
    """Replace `survivor_score` by `rank_key`: 20 bytes that name a document; the best document has the smallest rank key.

    The bytes are: 1 whether the score is null, 8 of the score, 8 of xxhash64(doc_id), 3 of another hash of the doc_id, so that
    rank keys are unique. A rank key depends on its row alone: it needs no sort of the corpus and is the same for any
    partitioning.

    Args:
        documents: doc_id; survivor_score, double (null comes last); other columns are kept.
    """

    def keys(score: pa.Array, hash64: pa.Array, tie: pa.Array) -> pa.Array:
        hashes = [column.to_numpy(zero_copy_only=False).view(np.uint64) for column in (hash64, tie)]
        return binary_column(rank_keys(score, *hashes))

    hash64, tie = unsigned(F.xxhash64(DOC_ID)), F.xxhash64(F.lit(1), DOC_ID)
    rank_key = F.arrow_udf(keys, "binary")(SURVIVOR_SCORE, hash64, tie)  # type: ignore[attr-defined] # not in its stubs
    return documents.withColumn(RANK_KEY, rank_key).drop(SURVIVOR_SCORE)


def rank_keys(survivor_score: pa.Array, hash64: NDArray[np.uint64], tie: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Build rank keys, uint8 [n, 20], from survivor scores (float64 or null) and two hashes of the doc_id, uint64 [n]."""
    rows = np.zeros((len(survivor_score), RANK_KEY_BYTES), np.uint8)
    rows[:, 0] = pc.is_null(survivor_score).to_numpy(zero_copy_only=False)
    scores = pc.fill_null(survivor_score, 0.0).to_numpy(zero_copy_only=False)
    keys = descending_key(scores).view(np.uint64) ^ _SIGN_64  # bytes compare as unsigned numbers do
    rows[:, 1:9] = keys.astype(">u8").view(np.uint8).reshape(-1, 8)
    rows[:, 9:17] = hash64.astype(">u8").view(np.uint8).reshape(-1, 8)
    rows[:, 17:] = tie.astype(">u8").view(np.uint8).reshape(-1, 8)[:, :3]
    return rows


def with_copies(documents: DataFrame) -> DataFrame:
    """Find documents of equal content, in one shuffle.

    The representative is the best document that an earlier run kept; without one, the best document that an earlier run
    removed, so that its copies are removed for the same document; without one, the best document.

    Args:
        documents: doc_id, content_hash, rank_key, new (not seen by an earlier run), removed (by an earlier run), signature;
            one row a document; other columns are kept.

    Returns:
        The rows of `documents` with representative (a rank key) and representative_id (its doc_id), both null on a document
        that is the only one of its content, and copies (documents of equal content, this one included). `signature` is null
        on a document that takes no part in the search for near-duplicates: one that has none, that an earlier run removed,
        or that is not the representative.
    """
    same = Window.partitionBy(CONTENT_HASH)
    first = F.min(F.struct(NEW, REMOVED, RANK_KEY, DOC_ID)).over(same)
    grouped = documents.withColumns({_FIRST: first, COPIES: F.count("*").over(same)})
    takes_part = (F.col(RANK_KEY) == F.col(_FIRST)[RANK_KEY]) & ~F.col(REMOVED)
    has_copies = F.col(COPIES) > 1
    return grouped.withColumns(
        {
            SIGNATURE: F.when(takes_part, F.col(SIGNATURE)),
            REPRESENTATIVE: F.when(has_copies, F.col(_FIRST)[RANK_KEY]),
            REPRESENTATIVE_ID: F.when(has_copies, F.col(_FIRST)[DOC_ID]),
        }
    ).drop(_FIRST)


def copies_of(documents: DataFrame) -> DataFrame:
    """Select the documents that are not the only ones of their content.

    Args:
        documents: as `with_copies` gives them.

    Returns:
        doc_id, source, rank_key, representative, representative_id, copies.
    """
    columns = [DOC_ID, SOURCE, RANK_KEY, REPRESENTATIVE, REPRESENTATIVE_ID, COPIES]
    return documents.where(F.col(COPIES) > 1).select(*columns)
