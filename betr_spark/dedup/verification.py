"""Verification of candidate pairs: by signature where it decides, by the true Jaccard similarity of the shingles elsewhere."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from betr_spark.config import MinHashConfig
from betr_spark.corpus.listing import files_of
from betr_spark.dedup.candidates import CANDIDATE, EQUAL, KEEPER, KEEPER_PREVIOUSLY_KEPT, Thresholds
from betr_spark.dedup.exact import RANK_KEY
from betr_spark.errors import DataError
from betr_spark.kernels.arrow_buffers import binary_column, binary_pieces, string_buffers
from betr_spark.kernels.minhash import similarity_at
from betr_spark.kernels.murmur3 import content_hashes
from betr_spark.kernels.shingles import jaccard, shingle_sets
from betr_spark.pipeline.stage import RunContext
from betr_spark.schemas import CONTENT_HASH, DOC_ID, EVIDENCE, REASON, SHINGLES, SIMILARITY, SKETCH, TEXT

_MAX_BROADCAST = 200_000  # documents
_HASH_NOW = "content_hash_now"
_LEFT, _RIGHT = "left_shingles", "right_shingles"
_EDGE = f"{KEEPER} binary, {KEEPER_PREVIOUSLY_KEPT} boolean, {CANDIDATE} binary"


def similar_by_signature(pairs: DataFrame, thresholds: Thresholds) -> DataFrame:
    """Keep pairs with at least `thresholds.sure` equal values; replace `equal` by the estimated `similarity` and `evidence`."""
    similarity = similarity_at(F.col(EQUAL) / F.lit(thresholds.n_values)).cast("float").alias(SIMILARITY)
    sure = pairs.where(F.col(EQUAL) >= thresholds.sure)
    return sure.select(KEEPER, KEEPER_PREVIOUSLY_KEPT, CANDIDATE, similarity, F.lit(SKETCH).alias(EVIDENCE))


def similar_by_shingles(unsure: DataFrame, sets: DataFrame, *, similarity: float) -> DataFrame:
    """Keep pairs whose true Jaccard similarity is at least `similarity`; add `similarity` and `evidence`.

    Args:
        unsure: keeper, keeper_previously_kept, candidate.
        sets: rank_key, shingles; for every document in `unsure`.
        similarity: the threshold.
    """
    pairs = unsure.select(KEEPER, KEEPER_PREVIOUSLY_KEPT, CANDIDATE)
    for side, column in ((KEEPER, _LEFT), (CANDIDATE, _RIGHT)):
        pairs = pairs.join(
            sets.select(F.col(RANK_KEY).alias(side), F.col(SHINGLES).alias(column)), on=side, how="inner"
        )
    compared = pairs.mapInArrow(partial(_with_jaccard, least=similarity), f"{_EDGE}, {SIMILARITY} float")
    return compared.withColumn(EVIDENCE, F.lit(SHINGLES))


def texts_of(documents: DataFrame, context: RunContext) -> DataFrame:
    """Read the texts of some documents: doc_id, text, rank_key. Only their input files are read (Delta: the whole table).

    Args:
        documents: doc_id, rank_key, input_file; few, compared with the corpus.
        context: for the input.
    """
    scored = context.scored_input().documents(only_files=files_of(documents, context.config.input))
    texts = scored.where(F.col(REASON).isNull()).select(DOC_ID, TEXT)
    keys = documents.select(DOC_ID, RANK_KEY)
    few = keys.limit(_MAX_BROADCAST + 1).count() <= _MAX_BROADCAST
    return texts.join(F.broadcast(keys) if few else keys, on=DOC_ID, how="inner")


def shingles_of(
    documents: DataFrame, context: RunContext, *, materialise: Callable[[DataFrame], DataFrame]
) -> DataFrame:
    """Return the shingles of some documents: rank_key, shingles (uint64 hashes, ascending and distinct, as binary).

    Args:
        documents: doc_id, rank_key, input_file, content_hash; few, compared with the corpus.
        context: for the input and minhash.
        materialise: computes a frame and cuts its lineage.

    Raises:
        DataError: the input does not have the text that was scored any more; the error names a document.
    """
    config = context.config
    texts = texts_of(documents, context).select(RANK_KEY, TEXT)
    schema = f"{RANK_KEY} binary, {SHINGLES} binary, {_HASH_NOW} binary"
    sets = texts.mapInArrow(partial(_shingled, minhash=config.minhash), schema)
    if config.input.id is None:  # every copy of a text has the same id and the same shingles
        sets = sets.dropDuplicates([RANK_KEY])
    sets = materialise(sets)
    with_hashes = documents.join(sets.select(RANK_KEY, _HASH_NOW), on=RANK_KEY, how="left")
    changed = with_hashes.where(~F.col(CONTENT_HASH).eqNullSafe(F.col(_HASH_NOW))).select(DOC_ID).limit(1).collect()
    if changed:
        raise DataError(
            f"input.path: {config.input.path}: the text of document '{changed[0][DOC_ID]}' changed since it was scored, "
            "or is gone; run `betr-spark features`"
        )
    return sets.drop(_HASH_NOW)


def _shingled(batches: Iterator[pa.RecordBatch], *, minhash: MinHashConfig) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        text = string_buffers(batch.column(TEXT))
        hashes, bounds = shingle_sets(*text, ngram=minhash.ngram, seed=minhash.seed)
        pieces = binary_pieces(hashes.view(np.uint8), bounds * 8)
        hash_now = binary_column(content_hashes(*text))
        columns = [batch.column(RANK_KEY), pieces, hash_now]
        yield pa.RecordBatch.from_arrays(columns, [RANK_KEY, SHINGLES, _HASH_NOW])


def _with_jaccard(batches: Iterator[pa.RecordBatch], *, least: float) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        similarity = jaccard(*_hashes(batch.column(_LEFT)), *_hashes(batch.column(_RIGHT)))
        pairs = batch.select([KEEPER, KEEPER_PREVIOUSLY_KEPT, CANDIDATE])
        yield pairs.append_column(SIMILARITY, pa.array(similarity, pa.float32())).filter(pa.array(similarity >= least))


def _hashes(sets: pa.Array) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    data, offsets = string_buffers(sets)
    start, end = int(offsets[0]), int(offsets[-1])
    return np.frombuffer(data[start:end].tobytes(), np.uint64), (offsets - start) // 8
