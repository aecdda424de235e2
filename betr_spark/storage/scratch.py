"""Intermediate results of a stage, and unnamed files on a worker's local disk."""

import io
import itertools
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from py4j.protocol import Py4JError, Py4JJavaError
from pyspark.sql import Column, DataFrame, Observation, SparkSession
from pyspark.sql.types import BinaryType

from betr_spark.storage.hadoop_files import children, delete

Materialise = Callable[[DataFrame], DataFrame]


def scratch_folder(output: str) -> str:
    """Folder of all intermediate results of an output; each run has a folder with its id in it."""
    return f"{output.rstrip('/')}/_scratch"


def delete_scratch(spark: SparkSession, output: str) -> None:
    """Delete the intermediate results of all runs; the caller holds the lease, so no other run uses any."""
    delete(spark, scratch_folder(output))


def delete_scratch_of(spark: SparkSession, output: str, run_id: str) -> None:
    """Delete the intermediate results of one run."""
    folder = scratch_folder(output)
    delete(spark, folder if children(spark, folder) == [run_id] else f"{folder}/{run_id}")


@contextmanager
def scratch(spark: SparkSession, folder: str) -> Iterator[Materialise]:
    """Yield a function that computes a frame once and returns its rows; they are deleted at the end.

    On a cluster, the rows are Parquet files in `folder`, on the output's file system, because what an executor has in memory or
    on its disk is lost with it. In local mode the driver is the executor: the rows stay in memory or, where that is full, in
    Spark's local folders. This saves the conversion to Parquet and back.
    """
    if _is_local(spark):
        kept: list[Any] = []
        try:
            yield partial(_kept_here, kept=kept)
        finally:
            for rows in kept:
                rows.unpersist(False)
        return
    number = itertools.count()

    def materialise(frame: DataFrame) -> DataFrame:
        path = f"{folder}/{next(number)}"
        distinct = [field.name for field in frame.schema if field.dataType == BinaryType()]  # keys, hashes, packed rows
        options = {f"parquet.enable.dictionary#{name}": "false" for name in distinct}
        frame.write.options(**options, **{"parquet.column.statistics.enabled": "false"}).parquet(path)
        return spark.read.schema(frame.schema).parquet(path)

    try:
        yield materialise
    finally:
        delete(spark, folder)


def _is_local(spark: SparkSession) -> bool:
    """Whether driver and executor are one process; `local-cluster` has others."""
    return str(spark.sparkContext.master).partition("[")[0] == "local"


def _kept_here(frame: DataFrame, *, kept: list[Any]) -> DataFrame:
    """Compute a frame and append its rows, an RDD of the JVM, to `kept`.

    The result is a frame of these rows without the partitioning that Spark knows of them: with it, Spark does not see that two
    shuffles of the same rows are one. The methods for this are not public: a Spark without them shuffles twice, and deletes
    the rows when nothing refers to them.
    """
    spark, checkpoint = frame.sparkSession, frame.localCheckpoint()
    try:
        rows = checkpoint._jdf.queryExecution().logical().rdd()  # noqa: SLF001
        bare = spark._jsparkSession.internalCreateDataFrame(rows, checkpoint._jdf.schema(), False)  # noqa: SLF001
    except (TypeError, Py4JError) as error:
        if isinstance(error, Py4JJavaError):
            raise
        return checkpoint
    kept.append(rows)
    return DataFrame(bare, spark)


def counted(
    materialise: Materialise, frame: DataFrame, counts: Mapping[str, Column]
) -> tuple[DataFrame, Mapping[str, int]]:
    """Materialise a frame and aggregate its rows on the way, without another job.

    Args:
        materialise: computes a frame and cuts its lineage.
        frame: its rows are computed once.
        counts: aggregates by name; null counts as 0.

    Returns:
        The materialised rows, and the value of each aggregate.
    """
    observation = Observation()
    columns = [column.alias(name) for name, column in counts.items()]
    rows = materialise(frame.observe(observation, *columns))
    values = observation.get
    return rows, {name: int(values.get(name) or 0) for name in counts}


def spill_file() -> io.BufferedRandom:
    """Open an empty file that has no name, so that it is gone when it is closed or its process ends.

    In a Python worker it is in one of Spark's local folders (`spark.local.dir`), elsewhere in the system's temporary folder.
    """
    folders = [Path(name) for name in os.environ.get("SPARK_LOCAL_DIRS", "").split(",") if name]
    return tempfile.TemporaryFile(dir=folders[os.getpid() % len(folders)] if folders else None)
