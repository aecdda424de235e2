"""Whether a stream has read every file: Spark leaves out, without a word, files that are deleted before a batch opens them."""

import json
import re
from collections.abc import Iterator

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from betr_spark.config import Config
from betr_spark.corpus.listing import FILE, Listing
from betr_spark.errors import DataError
from betr_spark.features.checkpoint import CHECKPOINTS
from betr_spark.storage import hadoop_files

_ENTRY = "path string, batchId bigint"
_NO_AUTHORITY = "^([^:/]+):///"  # the log has file:///name where rows have file:/name


def files_of_batch(spark: SparkSession, config: Config, checkpoint: str, batch: int) -> DataFrame:
    """Files that Spark planned a batch with: file.

    Args:
        spark: the session.
        config: of the run.
        checkpoint: its name.
        batch: number of the batch.
    """
    paths, numbers = _log_of_batch(spark, config, checkpoint, batch)
    return _entries(spark, *paths).where(F.col("batchId").between(numbers[0], numbers[-1])).select(FILE)


def names_of_batch(spark: SparkSession, config: Config, checkpoint: str, batch: int) -> set[str]:
    """As `files_of_batch`, of few files, without a job of Spark."""
    paths, numbers = _log_of_batch(spark, config, checkpoint, batch)
    return {name for path in paths for name, number in _names_in(spark, path) if number in numbers}


def names_in_log(spark: SparkSession, config: Config, checkpoint: str) -> set[str]:
    """The files of all batches, if they are few, without a job of Spark."""
    log = _log(config, checkpoint)
    files = [name for name in hadoop_files.children(spark, log) if name.removesuffix(".compact").isdigit()]
    return {name for file in files for name, _ in _names_in(spark, f"{log}/{file}")}


def plain_name(uri: str) -> str:
    """A file's URI as rows have it."""
    return re.sub(_NO_AUTHORITY, r"\1:/", uri)


def check_batch_read(in_batch: DataFrame, read: DataFrame, config: Config) -> None:
    """Check that the files of a batch that have no row in `features` exist; then they have no such row.

    A file with copies or rows for `quarantine` alone that is deleted after it was read is an error too.

    Args:
        in_batch: file; those of the batch.
        read: file; those with rows in `features`.
        config: of the run.

    Raises:
        DataError: a file of the batch was deleted before it was read.
    """
    without_rows = in_batch.join(_names(read), on=FILE, how="left_anti")
    if without_rows.take(1):
        existing = _names(Listing.of(read.sparkSession, config.input.path).files)
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
    entries = _entries(listed.sparkSession, _log(config, checkpoint)).select(FILE)
    _require_none(_names(listed).join(entries, on=FILE, how="left_anti"), config)


def _log(config: Config, checkpoint: str) -> str:
    return config.table(f"{CHECKPOINTS}/{checkpoint}/sources/0")


def _log_offset(spark: SparkSession, config: Config, checkpoint: str, batch: int) -> int:
    """Number of the last file of the log that is in a batch; -1 before the first batch."""
    if batch < 0:
        return -1
    content = hadoop_files.read_bytes(spark, config.table(f"{CHECKPOINTS}/{checkpoint}/offsets/{batch}")).decode()
    offsets = (json.loads(line) for line in content.splitlines() if line.startswith("{"))
    return next(int(offset["logOffset"]) for offset in offsets if "logOffset" in offset)


def _log_of_batch(spark: SparkSession, config: Config, checkpoint: str, batch: int) -> tuple[list[str], range]:
    """The files of the log that a batch is in, and its numbers there."""
    log = _log(config, checkpoint)
    first, last = (_log_offset(spark, config, checkpoint, number) for number in (batch - 1, batch))
    names = [f"{log}/{number}" for number in range(first + 1, last + 1)]  # usually one
    paths = [name if hadoop_files.exists(spark, name) else f"{name}.compact" for name in names]
    return paths, range(first + 1, last + 1)


def _names_in(spark: SparkSession, path: str) -> Iterator[tuple[str, int]]:
    """Name of each entry in a file of the log, and its number."""
    for line in hadoop_files.read_bytes(spark, path).decode().splitlines():
        if line.startswith("{"):
            entry = json.loads(line)
            yield plain_name(entry["path"]), int(entry["batchId"])


def _entries(spark: SparkSession, *paths: str) -> DataFrame:
    """Entries in files of the log: file, batchId. Every tenth file, `N.compact`, repeats all earlier entries."""
    lines = spark.read.text([*paths]).where(F.col("value").startswith("{"))
    entries = lines.select(F.from_json("value", _ENTRY).alias("entry"))
    return entries.select(_name("entry.path"), "entry.batchId")


def _names(files: DataFrame) -> DataFrame:
    return files.select(_name(FILE))


def _name(uri: str) -> Column:
    return F.regexp_replace(uri, _NO_AUTHORITY, "$1:/").alias(FILE)


def _require_none(deleted: DataFrame, config: Config) -> None:
    if deleted.take(1):
        names, count = Listing.names_and_count(deleted.distinct())
        what = "file was" if count == 1 else "files were"
        raise DataError(
            f"input.path: {config.input.path}: {count} {what} deleted while `features` read the input: {names}; "
            "run `betr-spark features` again"
        )
