"""`encoder.mode: direct`: the ranking of all documents is itself the score, and how long it takes to embed them."""

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from betr_spark import schemas
from betr_spark.config import Config
from betr_spark.errors import DataError
from betr_spark.pipeline.stage import RunContext
from betr_spark.ranking import stage
from betr_spark.schemas import (
    BEST_COSINE,
    BY_BENCHMARK,
    DOC_ID,
    SCORE,
    TARGET_SCORE,
    logit_column,
)
from betr_spark.storage import delta, runs

_TEXTS_TIMED, _CHARACTERS_TIMED = 128, 100_000


def direct_versions(context: RunContext) -> dict[str, str]:
    """Version of the ranking behind each scorer that is the teacher's own order, for keys.

    Raises:
        DataError: there is none of this input and these settings.
    """
    spark, config = context.spark, context.config
    if not config.direct():
        return {}
    path = config.table(schemas.RANKED_SAMPLE_TABLE)
    made = runs.made_by(spark, path)
    if made is None or made.key != stage.key(context).key:
        raise DataError(f"{path}: not the ranking of this input and configuration; `betr-spark rank` makes it")
    return dict.fromkeys(config.direct(), f"all of ranked_sample {runs.input_version(spark, path)}")


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
    ranked = delta.read(documents.sparkSession, config.table(schemas.RANKED_SAMPLE_TABLE))
    count, logits = ranked.count(), []
    for name, benchmark in config.direct().items():
        own = F.col(BY_BENCHMARK)[benchmark] if benchmark else None
        order = [TARGET_SCORE, BEST_COSINE] if own is None else [own[SCORE], own["cosine"]]
        place = F.rank().over(Window.orderBy(*[F.desc(key) for key in order]))
        ahead = (F.lit(count) - place + 0.5) / F.lit(count)
        logits.append(F.log(ahead / (1 - ahead)).cast("float").alias(logit_column(name)))
    return documents.join(ranked.select(DOC_ID, *logits), on=DOC_ID, how="left")
