"""Rank keys, and exact copies: documents of equal content hash, represented by one of them."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from betr_spark.dedup.buckets import RANK_KEY_BYTES
from betr_spark.kernels.arrow_buffers import binary_column, binary_pieces
from betr_spark.ordering import descending_key, unsigned
from betr_spark.schemas import BANDS, CONTENT_HASH, DOC_ID, SOURCE

RANK_KEY, SURVIVOR_SCORE = "rank_key", "survivor_score"
NEW, REMOVED = "new", "removed"
REPRESENTATIVE, REPRESENTATIVE_ID, COPIES = "representative", "representative_id", "copies"
_HASH, _TIE, _FIRST = "hash", "tie", "first"
_SIGN_64 = np.uint64(2**63)


def with_rank_key(documents: DataFrame) -> DataFrame:
    """Replace `survivor_score` by `rank_key`: 20 bytes that name a document; the best document has the smallest rank key.

    The bytes are: 1 whether the score is null, 8 of the score, 8 of xxhash64(doc_id), 3 of another hash of the doc_id, so that
    rank keys are unique. A rank key depends on its row alone: it needs no sort of the corpus and is the same for any
    partitioning.

    Args:
        documents: doc_id; survivor_score, double (null comes last); other columns are kept, `bands` as 8 bytes a band, null
            where there are none.
    """
    columns = [
        f"`{field.name}` {'binary' if field.name == BANDS else field.dataType.simpleString()}"
        for field in documents.schema
        if field.name != SURVIVOR_SCORE
    ]
    hash64, tie = _hashes(F.col(DOC_ID))
    with_hashes = documents.withColumns({_HASH: hash64, _TIE: tie})
    return with_hashes.mapInArrow(_add_rank_key, ", ".join([*columns, f"{RANK_KEY} binary"]))


def _hashes(doc_id: Column) -> tuple[Column, Column]:
    return unsigned(F.xxhash64(doc_id)), F.xxhash64(F.lit(1), doc_id)


def _add_rank_key(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        hashes = [batch.column(name).to_numpy(zero_copy_only=False).view(np.uint64) for name in (_HASH, _TIE)]
        rows = rank_keys(batch.column(SURVIVOR_SCORE), *hashes)
        keyed = batch.drop_columns([SURVIVOR_SCORE, _HASH, _TIE]).append_column(RANK_KEY, binary_column(rows))
        if BANDS in keyed.schema.names:
            keyed = keyed.set_column(keyed.schema.get_field_index(BANDS), BANDS, _as_binary(keyed.column(BANDS)))
        yield keyed


def _as_binary(bands: pa.Array) -> pa.Array:
    """Return the numbers of each list as bytes, null where there are none: one value is cheaper to move than a list."""
    sizes = pc.fill_null(pc.list_value_length(bands), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    pieces = binary_pieces(bands.flatten().to_numpy().view(np.uint8), np.append(0, np.cumsum(sizes)) * 8)
    return pc.if_else(pa.array(sizes > 0), pieces, pa.scalar(None, pa.binary()))


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


def id_key(rank_key: Column) -> Column:
    """The bytes of a rank key that come from the doc_id alone, 11 bytes; equal to `id_key_of` of the document."""
    return F.substring(rank_key, 10, RANK_KEY_BYTES - 9)


def id_key_of(doc_id: Column) -> Column:
    """Build the id key of a document from its doc_id, in the JVM."""
    hash64, tie = (F.unhex(F.lpad(F.hex(value), 16, "0")) for value in _hashes(doc_id))
    return F.coalesce(F.concat(hash64, F.substring(tie, 1, 3)), F.lit(b""))  # never null, which spares a filter


def with_copies(documents: DataFrame) -> DataFrame:
    """Find documents of equal content, in one shuffle.

    The representative is the best document that an earlier run kept; without one, the best document that an earlier run
    removed, so that its copies are removed for the same document; without one, the best document.

    Args:
        documents: doc_id, content_hash, rank_key, new (not seen by an earlier run), removed (by an earlier run), bands;
            one row a document; other columns are kept.

    Returns:
        The rows of `documents` with representative (a rank key) and representative_id (its doc_id), both null on a document
        that is the only one of its content, and copies (documents of equal content, this one included). `bands` is null on a
        document that takes no part in the search for near-duplicates: one that has none, that an earlier run removed, or that
        is not the representative.
    """
    same = Window.partitionBy(CONTENT_HASH)
    first = F.min(F.struct(NEW, REMOVED, RANK_KEY, DOC_ID)).over(same)
    grouped = documents.withColumns({_FIRST: first, COPIES: F.count("*").over(same)})
    takes_part = (F.col(RANK_KEY) == F.col(_FIRST)[RANK_KEY]) & ~F.col(REMOVED)
    has_copies = F.col(COPIES) > 1
    return grouped.withColumns(
        {
            BANDS: F.when(takes_part, F.col(BANDS)),
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
