"""Intermediate results on the output's file system."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pyspark.sql import DataFrame, SparkSession

from betr_spark.storage.hadoop_files import delete


@contextmanager
def scratch(spark: SparkSession, folder: str) -> Iterator[Callable[[DataFrame], DataFrame]]:
    """Yield a function that writes a frame as Parquet and returns the written rows; the folder is deleted before and after."""
    delete(spark, folder)
    number = itertools.count()

    def materialise(frame: DataFrame) -> DataFrame:
        path = f"{folder}/{next(number)}"
        frame.write.parquet(path)
        return spark.read.schema(frame.schema).parquet(path)

    try:
        yield materialise
    finally:
        delete(spark, folder)
