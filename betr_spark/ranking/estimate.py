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
    """Documents that have no vector yet (at most), documents a second of one worker, and workers."""

    n_documents: int
    rate: float
    workers: int

    def __str__(self) -> str:
        """Say it in words."""
        minutes = self.n_documents / self.rate / self.workers / 60
        return (
            f"at most {self.n_documents:,} documents to embed, {self.rate:.1f} a second and worker when measured just now: "
            f"about {minutes:.1f} min with {self.workers}; starting Spark and its "
            "workers, loading the model in each, the examples and the other stages come on top"
        )


def time_to_embed(spark: SparkSession, config: Config) -> Estimate:
    """Count documents that `rank` has to embed, and time the first ones of the input on one thread here.

    Vectors that are there already count in direct mode alone, for which all texts are read.
    """
    snapshot = InputSnapshot.current(spark, config)
    documents = snapshot.documents().where(F.col(REASON).isNull())
    if config.encoder.mode == "direct":
        texts_of = documents.select(DOC_ID, F.xxhash64(TEXT).alias(TEXT_HASH)).distinct()
        path = config.table(schemas.EMBEDDINGS_TABLE)
        if delta.exists(spark, path) and TEXT_HASH in delta.read(spark, path).columns:
            known = delta.read(spark, path).where(F.col(ENCODER) == encoder_key(config.encoder))
            texts_of = texts_of.join(known, on=[DOC_ID, TEXT_HASH], how="left_anti")
        wanted = texts_of.count()
    else:
        wanted = min(snapshot.ids().distinct().count(), config.sample.documents)
    rows = documents.select(F.substring(TEXT, 1, _CHARACTERS_TIMED)).limit(_TEXTS_TIMED).collect()
    texts = [row[0] for row in rows] or [""]
    on_gpu = runs_on_gpu(config.encoder)
    here = config.encoder.model_copy(update={"device": "cuda" if on_gpu else "cpu"})
    embed(texts[:1], settings=here, prompt="")  # loads the model
    start = time.perf_counter()
    embed(texts, settings=here, prompt=config.encoder.document_prompt)
    seconds = time.perf_counter() - start
    workers = 1 if on_gpu else spark.sparkContext.defaultParallelism
    return Estimate(wanted, len(texts) / seconds, workers)
