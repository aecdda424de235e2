"""Vectors of documents in the table `_embeddings`, by id, text, encoder and preparation; computed once and reused.

An embedding is the concatenated float32 vectors of a document: one vector, or with `long_documents: best_chunk` one per chunk.

A task embeds one group of documents. A commit holds as many groups, first one per core, as take about a minute; so a run that
is killed repeats at most one commit.
"""

import hashlib
import json
import logging
import math
import time
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from betr_spark import schemas
from betr_spark.config import Config
from betr_spark.config.ranking import EncoderConfig
from betr_spark.kernels.text_preparation import PREPARATION
from betr_spark.ranking.encoder import embed, on_workers
from betr_spark.schemas import DOC_ID, EMBEDDING, ENCODER, TEXT, TEXT_HASH
from betr_spark.storage import delta
from betr_spark.storage.scratch import Materialise

_TEXTS_PER_GROUP = 256
_SECONDS_PER_COMMIT = 60.0
_GROUP = "group"
_logger = logging.getLogger(__name__)


def encoder_key(settings: EncoderConfig) -> str:
    """Digest of the encoder's settings and the text preparation, 16 hex digits; equal keys, equal vectors."""
    settings_of_vectors = settings.model_dump(exclude={"mode", "example_prompt", "device"})
    packed = json.dumps([settings_of_vectors, PREPARATION], sort_keys=True)
    return hashlib.sha256(packed.encode()).hexdigest()[:16]


def vectors_of(embeddings: pa.Array, width: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Unpack embeddings: all vectors, [v, width], and the index of the first vector of each document and v, int64 [n + 1]."""
    packed = embeddings.to_pylist()
    first = np.concatenate([[0], np.cumsum([len(embedding) // (4 * width) for embedding in packed])]).astype(np.int64)
    return np.frombuffer(b"".join(packed), np.float32).reshape(-1, width), first


def embedded(texts: DataFrame, n_texts: int, settings: EncoderConfig, *, prompt: str) -> DataFrame:
    """Embed texts: doc_id, embedding. The ids decide which texts share a call, so vectors repeat to the last bit.

    Args:
        texts: doc_id, text.
        n_texts: approximate number of texts.
        settings: of the encoder.
        prompt: text before each text.
    """
    n_groups = max(1, math.ceil(n_texts / _TEXTS_PER_GROUP))
    return _embedded_groups(_grouped(texts, n_groups), n_groups, settings, prompt)


def embeddings_of(sampled: DataFrame, n_texts: int, config: Config, *, materialise: Materialise) -> DataFrame:
    """Return the vectors of documents, doc_id and embedding; vectors that `_embeddings` lacks are computed and added to it.

    A vector that an earlier sample added is reused. It may differ in the last bit from a vector that is computed together with
    the other documents of this sample.

    Args:
        sampled: doc_id, text.
        n_texts: number of texts.
        config: for the encoder and the output.
        materialise: stores a frame and returns what was stored.
    """
    spark, path, key = sampled.sparkSession, config.table(schemas.EMBEDDINGS_TABLE), encoder_key(config.encoder)
    if not delta.exists(spark, path) or TEXT_HASH not in delta.read(spark, path).columns:
        delta.overwrite(spark.createDataFrame([], schemas.EMBEDDINGS), path, user_metadata="{}")
    text_key = [DOC_ID, TEXT_HASH]
    texts = sampled.select(DOC_ID, F.xxhash64(TEXT).alias(TEXT_HASH), TEXT)
    embedded_before = delta.read(spark, path).where(F.col(ENCODER) == key).select(text_key)
    n_groups = max(1, math.ceil(n_texts / _TEXTS_PER_GROUP))
    missing = _grouped(texts, n_groups).join(embedded_before, on=text_key, how="left_anti")
    missing = missing.repartitionByRange(_GROUP).sortWithinPartitions(_GROUP)  # a commit reads only its groups
    missing = materialise(missing)  # each commit would invalidate a cache
    n_missing, first = missing.agg(F.count("*"), F.min(_GROUP)).head() or (0, 0)
    n_done, n_cores = 0, spark.sparkContext.defaultParallelism
    width = n_cores
    while n_done < n_missing:
        start, last = time.monotonic(), min(first + width, n_groups) - 1
        batch = missing.where(F.col(_GROUP).between(first, last))
        vectors = _embedded_groups(batch, last - first + 1, config.encoder, config.encoder.document_prompt)
        rows = vectors.join(batch.select(text_key), on=DOC_ID, how="inner")
        rows = rows.select(*text_key, F.lit(key).alias(ENCODER), EMBEDDING)
        delta.append(rows, path, user_metadata=json.dumps({"encoder": key, "groups": [first, last]}))
        n_done += batch.count()
        _logger.info("rank: %d of %d documents embedded", n_done, n_missing)
        first = last + 1
        width = max(n_cores, int(width * min(2.0, _SECONDS_PER_COMMIT / (time.monotonic() - start))))
    return _stored(texts, config)


def stored_embeddings(sampled: DataFrame, config: Config) -> DataFrame | None:
    """Return the vectors of documents that `_embeddings` has, doc_id and embedding; None if the table does not exist.

    Args:
        sampled: doc_id, text; with another text, a document has no vector.
        config: for the encoder and the output.
    """
    spark, path = sampled.sparkSession, config.table(schemas.EMBEDDINGS_TABLE)
    if not delta.exists(spark, path) or TEXT_HASH not in delta.read(spark, path).columns:
        return None
    return _stored(sampled.select(DOC_ID, F.xxhash64(TEXT).alias(TEXT_HASH)), config)


def _stored(texts: DataFrame, config: Config) -> DataFrame:
    """The vectors of the configured encoder for the doc_id and text_hash of `texts`."""
    text_key = [DOC_ID, TEXT_HASH]
    vectors = delta.read(texts.sparkSession, config.table(schemas.EMBEDDINGS_TABLE))
    vectors = vectors.where(F.col(ENCODER) == encoder_key(config.encoder))
    vectors = vectors.join(texts.select(text_key), on=text_key, how="left_semi")
    vectors = vectors.groupBy(text_key).agg(
        F.min(EMBEDDING).alias(EMBEDDING)
    )  # two runs at a time may both have added it
    return vectors.select(DOC_ID, EMBEDDING)


def _grouped(texts: DataFrame, n_groups: int) -> DataFrame:
    return texts.withColumn(_GROUP, F.pmod(F.xxhash64(DOC_ID, F.lit(_GROUP)), F.lit(n_groups)).cast("int"))


def _embedded_groups(grouped: DataFrame, n_groups: int, settings: EncoderConfig, prompt: str) -> DataFrame:
    """Embed one group per task; the groups are consecutive numbers."""
    settings = on_workers(settings)

    def embed_group(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        parts = [batch for batch in batches if batch.num_rows]
        if not parts:
            return
        group = pa.Table.from_batches(parts).sort_by(DOC_ID).combine_chunks()
        vectors = embed(group.column(TEXT).to_pylist(), settings=settings, prompt=prompt)
        packed = pa.array([chunks.tobytes() for chunks in vectors], pa.binary())
        yield from group.select([DOC_ID]).append_column(EMBEDDING, packed).to_batches()

    rows = grouped.repartitionById(n_groups, F.col(_GROUP)).select(DOC_ID, TEXT)
    return rows.mapInArrow(embed_group, f"{DOC_ID} string, {EMBEDDING} binary")
