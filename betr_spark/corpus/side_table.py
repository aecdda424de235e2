"""A table of the user's that is joined with the documents by their ids."""

import dataclasses
from collections.abc import Iterator
from typing import Literal

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from betr_spark.errors import DataError
from betr_spark.spark.error_messages import problems_of, spark_error_line
from betr_spark.storage import delta, hadoop_files, runs


@dataclasses.dataclass(frozen=True)
class SideTable:
    """A Delta or Parquet table.

    Attributes:
        spark: the session.
        path: of the table.
        key: of the configuration that names the table, for messages.
        format: as configured; None: Delta where there is a Delta table, else Parquet.
    """

    spark: SparkSession
    path: str
    key: str
    format: Literal["parquet", "delta"] | None = None

    @property
    def where(self) -> str:
        """What messages about the table begin with."""
        return f"{self.key}: {self.path}"

    def read(self) -> DataFrame:
        """All columns.

        Raises:
            DataError: there is no such table, or it cannot be read.
        """
        is_delta = delta.exists(self.spark, self.path)
        if is_delta and self.format == "parquet":
            raise DataError(f"{self.where}: is a Delta table; set `format: delta`")
        if is_delta:
            return delta.read(self.spark, self.path)
        if self.format == "delta":
            raise DataError(f"{self.where}: Delta table not found")
        try:
            return self.spark.read.parquet(self.path)
        except (PySparkException, Py4JJavaError) as error:
            raise self._unreadable(error) from error

    def problems(self) -> Iterator[str]:
        """A table that does not exist, or a file that cannot be read; reads the footer of every file, and no column."""
        yield from problems_of(self._count)

    def version(self) -> str:
        """For stage keys: version of the Delta table, or a digest of the files' names, sizes and times."""
        if delta.exists(self.spark, self.path):
            return f"{delta.table_id(self.spark, self.path)}:{runs.input_version(self.spark, self.path)}"
        return hadoop_files.fingerprint(hadoop_files.listing(self.spark, self.path))

    def _count(self) -> None:
        table = self.read()
        try:
            table.select(F.lit(1)).count()
        except (PySparkException, Py4JJavaError) as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> DataError:
        if line := spark_error_line(error):
            return DataError(f"{self.key}: {line}")
        reason = " ".join(str(error).split())[:200]
        return DataError(f"{self.where}: cannot be read as {self.format or 'parquet'} ({reason})")
