"""How Spark's jobs are described."""

from collections.abc import Iterator
from contextlib import contextmanager

from pyspark.sql import SparkSession


def describe(spark: SparkSession, description: str) -> None:
    """Describe the jobs that this thread starts from now on."""
    spark.sparkContext.setLocalProperty("spark.job.description", description)


@contextmanager
def described(spark: SparkSession, description: str, *, group: str) -> Iterator[None]:
    """Give Spark's jobs the group of a run and a description."""
    context = spark.sparkContext
    context.setJobGroup(group, description)
    try:
        yield
    finally:
        context.setLocalProperty("spark.jobGroup.id", None)  # type: ignore[arg-type]
        context.setLocalProperty("spark.job.description", None)  # type: ignore[arg-type]
