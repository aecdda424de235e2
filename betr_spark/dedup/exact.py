"""Places in the ranking, and exact copies: documents of equal content hash, represented by one of them."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from betr_spark.dedup.buckets import PLACE_BYTES
from betr_spark.kernels.arrow_buffers import binary_column
from betr_spark.ordering import descending_key, unsigned
from betr_spark.schemas import CONTENT_HASH, DOC_ID

PLACE, MERIT = "place", "merit"
NEW, REMOVED = "new", "removed"
REPRESENTATIVE, COPIES = "representative", "copies"
_HASH, _TIE = "hash", "tie"


def with_place(documents: DataFrame) -> DataFrame:
    """Replace `merit` by `place`: 16 bytes that name a document and sort as the ranking does, the best document first.

    They hold whether there is a merit, the merit, xxhash64(doc_id), and 24 bits of another hash in place of the doc_id, so
    that they are unique. Being a function of the row, they need no sort of the corpus and are the same for any partitioning.

    Args:
        documents: doc_id; merit, a logit (float; null comes last) or a size in bytes (int, not null); other columns are kept.
    """
    kept = [f"`{field.name}` {field.dataType.simpleString()}" for field in documents.schema if field.name != MERIT]
    return with_hashes(documents).mapInArrow(add_place, ", ".join([*kept, f"{PLACE} binary"]))


def with_hashes(documents: DataFrame) -> DataFrame:
    """Add what `add_place` wants of a document's doc_id."""
    return documents.withColumn(_HASH, unsigned(F.xxhash64(DOC_ID))).withColumn(_TIE, F.xxhash64(F.lit(1), DOC_ID))


def add_place(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Do in Arrow what `with_place` does, on documents `with_hashes`."""
    for batch in batches:
        hashes = [batch.column(name).to_numpy(zero_copy_only=False).view(np.uint64) for name in (_HASH, _TIE)]
        rows = places(batch.column(MERIT), *hashes)
        yield batch.drop_columns([MERIT, _HASH, _TIE]).append_column(PLACE, binary_column(rows))


def places(merit: pa.Array, hash64: NDArray[np.uint64], tie: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Build places, uint8 [n, 16], from merits (float32 or int32) and two hashes of the doc_id, uint64 [n]."""
    rows = np.zeros((len(merit), PLACE_BYTES), np.uint8)
    rows[:, 0] = pc.is_null(merit).to_numpy(zero_copy_only=False)
    values = pc.fill_null(merit, 0).to_numpy(zero_copy_only=False)
    keys = descending_key(values) if pa.types.is_floating(merit.type) else 2**32 - 1 - values.astype(np.int64)
    rows[:, 1:5] = keys.astype(">u4").view(np.uint8).reshape(-1, 4)
    rows[:, 5:13] = hash64.astype(">u8").view(np.uint8).reshape(-1, 8)
    rows[:, 13:] = tie.astype(">u8").view(np.uint8).reshape(-1, 8)[:, :3]
    return rows


def copies_of(documents: DataFrame) -> DataFrame:
    """Find documents of equal content: place, representative (a place), copies (how many are equal, this one included).

    The representative is the best that is kept from an earlier run; without one, the best removed in an earlier run, where
    all its copies go; without one, the best.

    Args:
        documents: content_hash, place, new (not seen by an earlier run), removed (in an earlier run); one row a document.

    Returns:
        One row a document that is not alone.
    """
    same = Window.partitionBy(CONTENT_HASH)
    first = F.min(F.struct(NEW, REMOVED, PLACE)).over(same)
    found = documents.select(PLACE, first[PLACE].alias(REPRESENTATIVE), F.count("*").over(same).alias(COPIES))
    return found.where(F.col(COPIES) > 1)
