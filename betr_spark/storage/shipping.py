"""Files that the driver sends to the executors."""

from collections.abc import Callable
from pathlib import Path

from pyspark import SparkFiles
from pyspark.sql import SparkSession


def shipping_folder(spark: SparkSession) -> Path:
    """Folder on the driver's disk for files that executors fetch; Spark deletes it at exit, also when it is killed."""
    return Path(spark.sparkContext._temp_dir)  # noqa: SLF001


def ship(spark: SparkSession, name: str) -> Callable[[], Path]:
    """Send a file of `shipping_folder` to every executor once; the returned function gives its path in a Python worker."""
    spark.sparkContext.addFile(str(shipping_folder(spark) / name))
    return lambda: Path(SparkFiles.get(name))
