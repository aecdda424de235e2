"""Vectors of documents in the table `_embeddings`, by id, text, encoder and preparation: made once, used again, resumed.

An embedding is the float32 vectors of a document, one after the other: one, or with `long_documents: best_chunk` one a chunk.

A task embeds one group of documents, and a commit holds as many groups, one a core at first, as take about a minute; so a run
that is killed does no more than that again.
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
from betr_spark.ranking.encoder import embed
from betr_spark.schemas import DOC_ID, EMBEDDING, ENCODER, TEXT, TEXT_HASH
from betr_spark.storage import delta
from betr_spark.storage.scratch import scratch

_TEXTS_A_GROUP = 256
_SECONDS_A_COMMIT = 60.0
_GROUP = "group"
_SCRATCH_FOLDER = "_scratch/rank"
_logger = logging.getLogger(__name__)


def encoder_key(settings: EncoderConfig) -> str:
    """Name of what documents are embedded by: the encoder's settings and the text preparation, 16 hex digits."""
    own = settings.model_dump(exclude={"mode", "example_prompt", "device"})
    return hashlib.sha256(json.dumps([own, PREPARATION], sort_keys=True).encode()).hexdigest()[:16]


def vectors_of(embeddings: pa.Array, width: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Undo the packing: all vectors, [v, width], and the place of each document's first, int64 [n + 1]."""
    packed = embeddings.to_pylist()
    first = np.concatenate([[0], np.cumsum([len(own) // (4 * width) for own in packed])]).astype(np.int64)
    return np.frombuffer(b"".join(packed), np.float32).reshape(-1, width), first


def embedded(texts: DataFrame, n_texts: int, settings: EncoderConfig, *, prompt: str) -> DataFrame:
    """Embed texts: doc_id, embedding. Texts that share a call are decided by their ids, so vectors repeat to the last bit.

    Args:
        texts: doc_id, text.
        n_texts: about how many.
        settings: of the encoder.
        prompt: is put before each text.
    """
    n_groups = max(1, math.ceil(n_texts / _TEXTS_A_GROUP))
    return _embedded_groups(_grouped(texts, n_groups), n_groups, settings, prompt)


def embeddings_of(sampled: DataFrame, n_texts: int, config: Config) -> DataFrame:
    """Give the vectors of documents, doc_id and embedding; those that `_embeddings` lacks are made and added to it.

    Where an earlier sample gave a document its vector, that is used: it may differ in the last bit from one made with this
    sample's other documents.

    Args:
        sampled: doc_id, text.
        n_texts: how many.
        config: for the encoder and the output.
    """
    spark, path, key = sampled.sparkSession, config.table(schemas.EMBEDDINGS_TABLE), encoder_key(config.encoder)
    if not delta.exists(spark, path) or TEXT_HASH not in delta.read(spark, path).columns:
        delta.overwrite(spark.createDataFrame([], schemas.EMBEDDINGS), path, user_metadata="{}")
    own = [DOC_ID, TEXT_HASH]
    wanted_texts = sampled.select(DOC_ID, F.xxhash64(TEXT).alias(TEXT_HASH), TEXT)
    known = delta.read(spark, path).where(F.col(ENCODER) == key).select(own)
    n_groups = max(1, math.ceil(n_texts / _TEXTS_A_GROUP))
    missing = _grouped(wanted_texts, n_groups).join(known, on=own, how="left_anti")
    missing = missing.repartitionByRange(_GROUP).sortWithinPartitions(_GROUP)  # a commit reads its own groups
    with scratch(spark, config.table(_SCRATCH_FOLDER)) as materialise:  # a cache would be undone by each commit
        missing = materialise(missing)
        n_missing, first = missing.agg(F.count("*"), F.min(_GROUP)).head() or (0, 0)
        n_done, n_cores = 0, spark.sparkContext.defaultParallelism
        width = n_cores
        while n_done < n_missing:
            start, last = time.monotonic(), min(first + width, n_groups) - 1
            some = missing.where(F.col(_GROUP).between(first, last))
            vectors = _embedded_groups(some, last - first + 1, config.encoder, config.encoder.document_prompt)
            hashes = some.select(own)
            rows = vectors.join(hashes, on=DOC_ID, how="inner").select(*own, F.lit(key).alias(ENCODER), EMBEDDING)
            delta.append(rows, path, user_metadata=json.dumps({"encoder": key, "groups": [first, last]}))
            n_done += some.count()
            _logger.info("rank: %d of %d documents embedded", n_done, n_missing)
            first = last + 1
            width = max(n_cores, int(width * min(2.0, _SECONDS_A_COMMIT / (time.monotonic() - start))))
    made = delta.read(spark, path).where(F.col(ENCODER) == key).join(wanted_texts.select(own), on=own, how="left_semi")
    made = made.groupBy(own).agg(F.min(EMBEDDING).alias(EMBEDDING))  # once, also where two runs at a time have added it
    return made.select(DOC_ID, EMBEDDING)


def _grouped(texts: DataFrame, n_groups: int) -> DataFrame:
    return texts.withColumn(_GROUP, F.pmod(F.xxhash64(DOC_ID, F.lit(_GROUP)), F.lit(n_groups)).cast("int"))


def _embedded_groups(grouped: DataFrame, n_groups: int, settings: EncoderConfig, prompt: str) -> DataFrame:
    """Embed one group a task; the groups are consecutive numbers."""

    def embed_group(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        parts = [batch for batch in batches if batch.num_rows]
        if not parts:
            return
        group = pa.Table.from_batches(parts).sort_by(DOC_ID).combine_chunks()
        vectors = embed(group.column(TEXT).to_pylist(), settings=settings, prompt=prompt)
        packed = pa.array([own.tobytes() for own in vectors], pa.binary())
        yield from group.select([DOC_ID]).append_column(EMBEDDING, packed).to_batches()

    rows = grouped.repartitionById(n_groups, F.col(_GROUP)).select(DOC_ID, TEXT)
    return rows.mapInArrow(embed_group, f"{DOC_ID} string, {EMBEDDING} binary")
