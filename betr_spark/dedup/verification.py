"""Verification of candidate pairs: by signature where it decides, by the true Jaccard similarity of the shingles elsewhere."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from betr_spark.config import MinHashConfig
from betr_spark.corpus.listing import files_of
from betr_spark.dedup.columns import CANDIDATE, EQUAL, KEEPER, KEEPER_PREVIOUSLY_KEPT
from betr_spark.dedup.exact import RANK_KEY
from betr_spark.dedup.thresholds import Thresholds
from betr_spark.errors import DataError
from betr_spark.kernels.arrow_buffers import binary_column, binary_pieces, string_buffers
from betr_spark.kernels.minhash import similarity_at
from betr_spark.kernels.murmur3 import content_hashes
from betr_spark.kernels.shingles import jaccard, shingle_sets
from betr_spark.pipeline.stage import RunContext
from betr_spark.schemas import CONTENT_HASH, DOC_ID, EVIDENCE, REASON, SHINGLES, SIMILARITY, SKETCH, TEXT
from betr_spark.storage.scratch import Materialise, counted

_MAX_BROADCAST = 200_000  # documents
_CHANGED, _READ = "changed", "read"
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


def texts_of(documents: DataFrame, context: RunContext, *columns: str, n_documents: int | None = None) -> DataFrame:
    """Read the texts of some documents: doc_id, text, `columns`. Only their input files are read (Delta: the whole table).

    Args:
        documents: doc_id, input_file, `columns`; few, compared with the corpus.
        context: for the input.
        *columns: of `documents`, kept.
        n_documents: rows of `documents`, if the number is known.
    """
    scored = context.scored_input().documents(only_files=files_of(documents, context.config.input))
    texts = scored.where(F.col(REASON).isNull()).select(DOC_ID, TEXT)
    keys = documents.select(DOC_ID, *columns)
    n = n_documents if n_documents is not None else keys.limit(_MAX_BROADCAST + 1).count()
    return texts.join(F.broadcast(keys) if n <= _MAX_BROADCAST else keys, on=DOC_ID, how="inner")


def shingles_of(
    documents: DataFrame, context: RunContext, *, n_documents: int | None = None, materialise: Materialise
) -> DataFrame:
    """Return the shingles of some documents: rank_key, shingles (uint64 hashes, ascending and distinct, as binary).

    Args:
        documents: doc_id, rank_key, input_file, content_hash; few, compared with the corpus.
        context: for the input and minhash.
        n_documents: rows of `documents`, if the number is known.
        materialise: computes a frame and cuts its lineage.

    Raises:
        DataError: the input does not have the text that was scored any more; the error names a document.
    """
    config = context.config
    if n_documents is None:
        n_documents = documents.count()
    texts = texts_of(documents, context, RANK_KEY, CONTENT_HASH, n_documents=n_documents)
    schema = f"{RANK_KEY} binary, {SHINGLES} binary, {_CHANGED} boolean"
    texts = texts.select(RANK_KEY, CONTENT_HASH, TEXT)
    sets = texts.mapInArrow(partial(_shingled, minhash=config.minhash), schema)
    if config.input.id is None:  # every copy of a text has the same id and the same shingles
        sets = sets.dropDuplicates([RANK_KEY])
    sets, n = counted(materialise, sets, {_READ: F.count("*"), _CHANGED: F.count_if(_CHANGED)})
    if n[_CHANGED] or n[_READ] != n_documents:
        unchanged = sets.where(~F.col(_CHANGED))
        changed = documents.join(unchanged, on=RANK_KEY, how="left_anti").select(DOC_ID).limit(1).collect()
        for row in changed:
            raise DataError(
                f"input.path: {config.input.path}: the text of document '{row[DOC_ID]}' changed since it was scored, "
                "or is gone; run `betr-spark features`"
            )
    return sets.drop(_CHANGED)


def _shingled(batches: Iterator[pa.RecordBatch], *, minhash: MinHashConfig) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        text = string_buffers(batch.column(TEXT))
        hashes, bounds = shingle_sets(*text, ngram=minhash.ngram, seed=minhash.seed)
        pieces = binary_pieces(hashes.view(np.uint8), bounds * 8)
        hash_now = binary_column(content_hashes(*text))
        same = pc.fill_null(pc.equal(batch.column(CONTENT_HASH), hash_now), fill_value=False)
        yield pa.RecordBatch.from_arrays(
            [batch.column(RANK_KEY), pieces, pc.invert(same)], [RANK_KEY, SHINGLES, _CHANGED]
        )


def _with_jaccard(batches: Iterator[pa.RecordBatch], *, least: float) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        similarity = jaccard(*_hashes(batch.column(_LEFT)), *_hashes(batch.column(_RIGHT)))
        pairs = batch.select([KEEPER, KEEPER_PREVIOUSLY_KEPT, CANDIDATE])
        yield pairs.append_column(SIMILARITY, pa.array(similarity, pa.float32())).filter(pa.array(similarity >= least))


def _hashes(sets: pa.Array) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    data, offsets = string_buffers(sets)
    start, end = int(offsets[0]), int(offsets[-1])
    return np.frombuffer(data[start:end].tobytes(), np.uint64), (offsets - start) // 8
