"""Places in the ranking, and exact copies: documents of equal content hash, represented by one of them."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from betr_spark.dedup.buckets import RANK_KEY_BYTES
from betr_spark.kernels.arrow_buffers import binary_column
from betr_spark.ordering import unsigned
from betr_spark.schemas import CONTENT_HASH, DOC_ID

RANK_KEY, SURVIVOR_SCORE = "rank_key", "survivor_score"
NEW, REMOVED = "new", "removed"
REPRESENTATIVE, COPIES = "representative", "copies"
_HASH, _TIE = "hash", "tie"


def with_rank_key(documents: DataFrame) -> DataFrame:
    """Replace `survivor_score` by `rank_key`: 16 bytes that name a document, the best document first.

    They hold whether there is a score, the score, xxhash64(doc_id), and 24 bits of another hash in place of the doc_id,
    so that they are unique. Being a function of the row, they need no sort of the corpus and are the same for any partitioning.

    Args:
        documents: doc_id; survivor_score, a logit (float; null comes last) or a size in bytes (int, not null); other
        columns are kept.
    """
    kept = [
        f"`{field.name}` {field.dataType.simpleString()}" for field in documents.schema if field.name != SURVIVOR_SCORE
    ]
    return with_hashes(documents).mapInArrow(add_rank_key, ", ".join([*kept, f"{RANK_KEY} binary"]))


def with_hashes(documents: DataFrame) -> DataFrame:
    """Add what `add_rank_key` wants of a document's doc_id."""
    return documents.withColumn(_HASH, unsigned(F.xxhash64(DOC_ID))).withColumn(_TIE, F.xxhash64(F.lit(1), DOC_ID))


def add_rank_key(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Do in Arrow what `with_rank_key` does, on documents `with_hashes`."""
    for batch in batches:
        hashes = [batch.column(name).to_numpy(zero_copy_only=False).view(np.uint64) for name in (_HASH, _TIE)]
        rows = rank_keys(batch.column(SURVIVOR_SCORE), *hashes)
        yield batch.drop_columns([SURVIVOR_SCORE, _HASH, _TIE]).append_column(RANK_KEY, binary_column(rows))


def rank_keys(survivor_score: pa.Array, hash64: NDArray[np.uint64], tie: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Build rank_keys, uint8 [n, 16], from merits (float32 or int32) and two hashes of the doc_id, uint64 [n]."""
    rows = np.zeros((len(survivor_score), RANK_KEY_BYTES), np.uint8)
    rows[:, 0] = pc.is_null(survivor_score).to_numpy(zero_copy_only=False)
    values = pc.fill_null(survivor_score, 0).to_numpy(zero_copy_only=False)
    keys = _float_key(values) if pa.types.is_floating(survivor_score.type) else 2**32 - 1 - values.astype(np.int64)
    rows[:, 1:5] = keys.astype(">u4").view(np.uint8).reshape(-1, 4)
    rows[:, 5:13] = hash64.astype(">u8").view(np.uint8).reshape(-1, 8)
    rows[:, 13:] = tie.astype(">u8").view(np.uint8).reshape(-1, 8)[:, :3]
    return rows


def copies_of(documents: DataFrame) -> DataFrame:
    """Find documents of equal content: rank_key, representative (a rank_key), copies (how many are equal, this one included).

    The representative is the best that is kept from an earlier run; without one, the best removed in an earlier run, where
    all its copies go; without one, the best.

    Args:
        documents: content_hash, rank_key, new (not seen by an earlier run), removed (in an earlier run); one row a document.

    Returns:
        One row a document that is not alone.
    """
    same = Window.partitionBy(CONTENT_HASH)
    first = F.min(F.struct(NEW, REMOVED, RANK_KEY)).over(same)
    found = documents.select(RANK_KEY, first[RANK_KEY].alias(REPRESENTATIVE), F.count("*").over(same).alias(COPIES))
    return found.where(F.col(COPIES) > 1)


def _float_key(values: NDArray[np.float32]) -> NDArray[np.int64]:
    """Order-preserving key of float32 in [0, 2^32): the highest value first."""
    bits = (values + np.float32(0.0)).view(np.uint32)
    ascending = np.where(bits & np.uint32(1 << 31), ~bits, bits | np.uint32(1 << 31))
    return (np.uint32(2**32 - 1) - ascending).astype(np.int64)
