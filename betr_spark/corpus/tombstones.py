"""Documents that were asked to be forgotten: table `tombstones`, which every later read of the input honours."""

from pyspark.sql import DataFrame

from betr_spark import schemas
from betr_spark.config import Config
from betr_spark.schemas import DOC_ID
from betr_spark.storage import delta


def tombstones(documents: DataFrame, config: Config) -> DataFrame | None:
    """Read the ids of forgotten documents (doc_id), with the session of `documents`; None where none was ever forgotten."""
    spark, path = documents.sparkSession, config.table(schemas.TOMBSTONES_TABLE)
    return delta.read(spark, path).select(DOC_ID) if delta.exists(spark, path) else None


def without_forgotten(documents: DataFrame, config: Config) -> DataFrame:
    """Leave out forgotten documents. `documents` has doc_id; a row without an id stays."""
    forgotten = tombstones(documents, config)
    return documents if forgotten is None else documents.join(forgotten, on=DOC_ID, how="left_anti")
