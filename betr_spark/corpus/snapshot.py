"""The input as one run reads it: resolved once, the same rows for every stage."""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Self

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T

from betr_spark.config import Config, InputConfig
from betr_spark.corpus.documents import input_fingerprint, read_documents, read_ids, stream_documents
from betr_spark.corpus.input_schema import input_schema
from betr_spark.schemas import logit_column


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class InputSnapshot:
    """One state of the input: its configuration, the schema of the columns that are used, and its files or Delta version."""

    spark: SparkSession
    source: InputConfig
    numbers: Mapping[str, str]
    schema: T.StructType

    @classmethod
    def resolve(cls, spark: SparkSession, source: InputConfig, *, numbers: Mapping[str, str] | None = None) -> Self:
        """List and check the input.

        Args:
            spark: the session.
            source: where the documents are.
            numbers: expression scorers: name, and column of the input.

        Raises:
            DataError: the input is missing, empty or cannot be read; one line for each problem.
            SchemaError: a column is missing or has the wrong type; one line for each problem.
        """
        return cls(spark=spark, source=source, numbers=dict(numbers or {}), schema=input_schema(spark, source))

    @classmethod
    def current(cls, spark: SparkSession, config: Config) -> Self:
        """Resolve the input of a configuration as it is now."""
        return cls.resolve(spark, config.input, numbers=config.expressions())

    @classmethod
    def scored(cls, spark: SparkSession, config: Config) -> Self:
        """Return the snapshot that `features` scored."""
        return cls.current(spark, config)

    @cached_property
    def version(self) -> str:
        """What stage keys hold: the Delta table's id and version, or a digest of the files' sizes and times."""
        return input_fingerprint(self.spark, self.source)

    def documents(
        self, *, leave_utf8: bool = False, only_files: Sequence[str] | None = None, carried: bool = False
    ) -> DataFrame:
        """Read doc_id, source, text, carried columns with `carried`, reason, detail, row, input_file."""
        documents = read_documents(self.spark, self.source, leave_utf8=leave_utf8, only_files=only_files)
        return documents if carried else documents.drop(*self.source.columns)

    def ids(self) -> DataFrame:
        """Read doc_id of the rows that have one."""
        return read_ids(self.spark, self.source)

    def stream(self) -> DataFrame:
        """Follow the input: the shape of `documents`, with the logit column of each expression scorer."""
        numbers = {logit_column(name): column for name, column in self.numbers.items()}
        return stream_documents(self.spark, self.source, self.schema, numbers=numbers)
