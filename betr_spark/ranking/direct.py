"""`encoder.mode: direct`: the target ranking of all documents is itself the score, so no model is trained."""

from pyspark.sql import DataFrame

from betr_spark import schemas
from betr_spark.config import Config
from betr_spark.errors import DataError
from betr_spark.pipeline.stage import RunContext
from betr_spark.ranking import stage
from betr_spark.schemas import DOC_ID, logit_column
from betr_spark.storage import delta, runs


def direct_versions(context: RunContext) -> dict[str, str]:
    """Version of the ranking that gives the logits of each direct scorer, for keys.

    Raises:
        DataError: `ranked_sample` has another input or other settings.
    """
    spark, config = context.spark, context.config
    if not config.direct():
        return {}
    path = config.table(schemas.RANKED_SAMPLE_TABLE)
    ranking = runs.made_by(spark, path)
    if ranking is None or ranking.key != stage.key(context).key:
        raise DataError(
            f"{path}: not the ranking of the current input and configuration; rank again with `betr-spark rank`"
        )
    return dict.fromkeys(config.direct(), f"all of ranked_sample {runs.input_version(spark, path)}")


def with_direct_logits(documents: DataFrame, config: Config) -> DataFrame:
    """Add the logit columns of the direct scorers; null for a document that is not in `ranked_sample`.

    The logits were computed when the documents were ranked; nothing is sorted here.

    Args:
        documents: doc_id and other columns.
        config: names the scorers and the output.
    """
    if not config.direct():
        return documents
    ranked = delta.read(documents.sparkSession, config.table(schemas.RANKED_SAMPLE_TABLE))
    logits = ranked.select(DOC_ID, *[logit_column(name) for name in config.direct()])
    return documents.join(logits, on=DOC_ID, how="left")
