"""Frames of rows of the driver, without a Python worker: Spark would start one to read rows of Python objects."""

from collections.abc import Sequence
from typing import Any, cast

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import to_arrow_type
from pyspark.sql.types import StructType

_BATCH_ROWS = "spark.sql.execution.arrow.maxRecordsPerBatch"


def small_frame(spark: SparkSession, rows: Sequence[Sequence[Any]], schema: str | StructType) -> DataFrame:
    """Create a frame; timestamps have a time zone, maps are dictionaries.

    Args:
        spark: the session.
        rows: values in the order of the schema.
        schema: DDL, or a type.
    """
    kind = schema if isinstance(schema, StructType) else cast(StructType, StructType.fromDDL(schema))
    columns = [*zip(*rows, strict=True)] or [()] * len(kind.fields)
    arrays = [
        pa.array([_plain(value) for value in values], to_arrow_type(field.dataType, timezone="UTC"))
        for field, values in zip(kind.fields, columns, strict=True)
    ]
    return frame_of(spark, pa.Table.from_arrays(arrays, kind.names), kind)


def frame_of(spark: SparkSession, table: pa.Table, schema: str | StructType | None = None) -> DataFrame:
    """Create a frame of an Arrow table, also if Arrow batches have no limit of rows, where `createDataFrame` fails.

    Args:
        spark: the session.
        table: its rows are sent to the JVM.
        schema: DDL, or a type; by default that of the table.
    """
    limit = spark.conf.get(_BATCH_ROWS) or "0"
    if int(limit) > 0:
        return spark.createDataFrame(table, schema)
    spark.conf.set(_BATCH_ROWS, "10000")
    try:
        return spark.createDataFrame(table, schema)
    finally:
        spark.conf.set(_BATCH_ROWS, limit)


def _plain(value: Any) -> Any:
    return [*value.items()] if isinstance(value, dict) else value
