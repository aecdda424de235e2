"""How long embedding takes, measured on a few documents."""

import time
from typing import NamedTuple

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from betr_spark import schemas
from betr_spark.config import Config
from betr_spark.corpus.snapshot import InputSnapshot
from betr_spark.ranking.embeddings import encoder_key
from betr_spark.ranking.encoder import embed, runs_on_gpu
from betr_spark.schemas import DOC_ID, ENCODER, REASON, TEXT, TEXT_HASH
from betr_spark.storage import delta

_TEXTS_TIMED, _CHARACTERS_TIMED = 128, 100_000


class Estimate(NamedTuple):
    """Number of documents without a vector (at most), documents per second of one worker, and number of workers."""

    n_documents: int
    rate: float
    workers: int

    def __str__(self) -> str:
        """Give the time in minutes, and what it does not include."""
        minutes = self.n_documents / self.rate / self.workers / 60
        return (
            f"at most {self.n_documents:,} documents to embed; {self.rate:.1f} per second and worker, measured now: about "
            f"{minutes:.1f} min with {self.workers} workers; the start of Spark and its workers, loading the model in each "
            "worker, the examples and the other stages take additional time"
        )


def time_to_embed(spark: SparkSession, config: Config) -> Estimate:
    """Count the documents that `rank` embeds, and time the first documents of the input on one thread of the driver.

    In direct mode documents that have a vector already are not counted, for which all texts are read; otherwise the number is
    that of the sample.
    """
    snapshot = InputSnapshot.current(spark, config)
    documents = snapshot.documents().where(F.col(REASON).isNull())
    if config.direct():
        unembedded = documents.select(DOC_ID, F.xxhash64(TEXT).alias(TEXT_HASH)).distinct()
        path = config.table(schemas.EMBEDDINGS_TABLE)
        if delta.exists(spark, path) and TEXT_HASH in delta.read(spark, path).columns:
            embedded = delta.read(spark, path).where(F.col(ENCODER) == encoder_key(config.encoder))
            unembedded = unembedded.join(embedded, on=[DOC_ID, TEXT_HASH], how="left_anti")
        n_documents = unembedded.count()
    else:
        n_documents = min(snapshot.ids().distinct().count(), config.sample.documents)
    rows = documents.select(F.substring(TEXT, 1, _CHARACTERS_TIMED)).limit(_TEXTS_TIMED).collect()
    texts = [row[0] for row in rows] or [""]
    on_gpu = runs_on_gpu(config.encoder)
    settings = config.encoder.model_copy(update={"device": "cuda" if on_gpu else "cpu"})
    embed(texts[:1], settings=settings, prompt="")  # loads the model
    start = time.perf_counter()
    embed(texts, settings=settings, prompt=config.encoder.document_prompt)
    seconds = time.perf_counter() - start
    workers = 1 if on_gpu else spark.sparkContext.defaultParallelism
    return Estimate(n_documents, len(texts) / seconds, workers)
