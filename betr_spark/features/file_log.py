"""Whether a stream has read every file: Spark leaves out, without a word, files that are deleted before a batch opens them."""

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from betr_spark.config import Config
from betr_spark.corpus.listing import FILE, Listing
from betr_spark.errors import DataError
from betr_spark.features.checkpoint import CHECKPOINTS

_ENTRY = "path string, batchId bigint"
_NO_AUTHORITY = "^([^:/]+):///"  # the log has file:///name where rows have file:/name


def check_batch_read(config: Config, checkpoint: str, batch: int, read: DataFrame) -> None:
    """Check that the files of a batch that gave no rows exist; then they have none.

    Args:
        config: of the run.
        checkpoint: its name.
        batch: number of the batch.
        read: file; those that gave rows.

    Raises:
        DataError: a file of the batch was deleted before it was read.
    """
    spark = read.sparkSession
    without_rows = _entries(spark, config, checkpoint).where(F.col("batchId") == batch).select(FILE)
    without_rows = without_rows.join(_names(read), on=FILE, how="left_anti")
    if without_rows.take(1):
        existing = _names(Listing.of(spark, config.input.path).files)
        _require_none(without_rows.join(existing, on=FILE, how="left_anti"), config)


def check_all_read(config: Config, checkpoint: str, listed: DataFrame) -> None:
    """Check that each listed file was in one of the batches.

    Args:
        config: of the run.
        checkpoint: its name.
        listed: file, and others; the files that the query was started for.

    Raises:
        DataError: a file was deleted before the query listed the input.
    """
    entries = _entries(listed.sparkSession, config, checkpoint).select(FILE)
    _require_none(_names(listed).join(entries, on=FILE, how="left_anti"), config)


def _entries(spark: SparkSession, config: Config, checkpoint: str) -> DataFrame:
    """The log of Spark's file source: file, batchId. From time to time a file of the log repeats all earlier entries."""
    lines = spark.read.text(config.table(f"{CHECKPOINTS}/{checkpoint}/sources/0")).where(F.col("value").startswith("{"))
    entries = lines.select(F.from_json("value", _ENTRY).alias("entry"))
    return entries.select(_name("entry.path"), "entry.batchId").distinct()


def _names(files: DataFrame) -> DataFrame:
    return files.select(_name(FILE))


def _name(uri: str) -> Column:
    return F.regexp_replace(uri, _NO_AUTHORITY, "$1:/").alias(FILE)


def _require_none(deleted: DataFrame, config: Config) -> None:
    names, count = Listing.names_and_count(deleted)
    if count:
        what = "file was" if count == 1 else "files were"
        raise DataError(
            f"input.path: {config.input.path}: {count} {what} deleted while `features` read the input: {names}; "
            "run `betr-spark features` again"
        )
