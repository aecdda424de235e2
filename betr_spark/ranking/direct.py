"""`encoder.mode: direct`: the ranking of all documents is itself the score, and how long it takes to embed them."""

import time
from typing import NamedTuple

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from betr_spark import schemas, tables
from betr_spark.config import Config
from betr_spark.corpus.documents import read_documents, read_ids
from betr_spark.errors import DataError
from betr_spark.ranking import stage
from betr_spark.ranking.embeddings import encoder_key
from betr_spark.ranking.encoder import embed, runs_on_gpu
from betr_spark.schemas import (
    BEST_COSINE,
    BY_BENCHMARK,
    DOC_ID,
    ENCODER,
    REASON,
    SCORE,
    TEACHER_SCORE,
    TEXT,
    TEXT_HASH,
    logit_column,
)

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


def direct_versions(spark: SparkSession, config: Config) -> dict[str, str]:
    """Version of the ranking behind each scorer that is the teacher's own order, for keys.

    Raises:
        DataError: there is none of this input and these settings.
    """
    if not config.direct():
        return {}
    path = config.table(schemas.RANKED_SAMPLE_TABLE)
    made = tables.made_by(spark, path)
    if made is None or made.key != stage.key(spark, config).key:
        raise DataError(f"{path}: not the ranking of this input and configuration; `betr-spark rank` makes it")
    return dict.fromkeys(config.direct(), f"all of ranked_sample {tables.input_version(spark, path)}")


def with_direct_logits(documents: DataFrame, config: Config) -> DataFrame:
    """Add the logit columns of scorers that are the teacher's own order; null where `ranked_sample` lacks a document.

    With place i of N documents, i = 1 the best and equal ones sharing the best place of them, p = (N - i + 0.5) / N, and the
    logit is ln(p / (1 - p)) as float32: the score is the share of the corpus that a document is ahead of. One task sorts
    doc_id, score and cosine of all ranked documents.

    Args:
        documents: doc_id and others.
        config: names the scorers and heads.
    """
    if not config.direct():
        return documents
    ranked = tables.read(documents.sparkSession, config.table(schemas.RANKED_SAMPLE_TABLE))
    count, logits = ranked.count(), []
    for name, benchmark in config.direct().items():
        own = F.col(BY_BENCHMARK)[benchmark] if benchmark else None
        order = [TEACHER_SCORE, BEST_COSINE] if own is None else [own[SCORE], own["cosine"]]
        place = F.rank().over(Window.orderBy(*[F.desc(key) for key in order]))
        ahead = (F.lit(count) - place + 0.5) / F.lit(count)
        logits.append(F.log(ahead / (1 - ahead)).cast("float").alias(logit_column(name)))
    return documents.join(ranked.select(DOC_ID, *logits), on=DOC_ID, how="left")


def time_to_embed(spark: SparkSession, config: Config) -> Estimate:
    """Count documents that `rank` has to embed, and time the first ones of the input on one thread here.

    Vectors that are there already count in direct mode alone, for which all texts are read.
    """
    documents = read_documents(spark, config.input).where(F.col(REASON).isNull())
    if config.encoder.mode == "direct":
        texts_of = documents.select(DOC_ID, F.xxhash64(TEXT).alias(TEXT_HASH)).distinct()
        path = config.table(schemas.EMBEDDINGS_TABLE)
        if tables.exists(spark, path) and TEXT_HASH in tables.read(spark, path).columns:
            known = tables.read(spark, path).where(F.col(ENCODER) == encoder_key(config.encoder))
            texts_of = texts_of.join(known, on=[DOC_ID, TEXT_HASH], how="left_anti")
        wanted = texts_of.count()
    else:
        wanted = min(read_ids(spark, config.input).distinct().count(), config.sample.documents)
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
