"""The input's schema held against the configuration, before any work."""

import difflib

from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from betr_spark.config import NOT_IN_DELTA, InputConfig
from betr_spark.errors import DataError, SchemaError
from betr_spark.spark.error_messages import spark_error_line
from betr_spark.storage import delta, hadoop_files

_JSON_ROWS_LOOKED_AT = 1_000
_FILES_COMPARED = 200  # after a failed merge, one by one, for a message that names the file
_ID_TYPES = (T.StringType, T.IntegralType)
_SOURCE_TYPES = (T.StringType, T.IntegralType, T.BooleanType, T.DateType)


def input_schema(spark: SparkSession, source: InputConfig) -> T.StructType:
    """Read the input's schema and hold it against the configuration.

    Every Parquet footer is read (on the executors), so that a truncated file is found before any work.

    Raises:
        DataError: nothing there, a file that cannot be read, no rows.
        SchemaError: a column that is missing or of the wrong type; names all of them.
    """
    try:
        if source.format == "delta":
            if not delta.exists(spark, source.path):
                raise DataError(f"input.path: {source.path}: no Delta table there")
            rows = delta.read(spark, source.path)
        elif source.format == "parquet":
            rows = spark.read.option("mergeSchema", "true").parquet(source.path)
        else:
            rows = spark.read.text(source.path)
        empty = not rows.select(F.lit(1)).take(1)  # no column is read
    except AnalysisException as error:
        raise DataError(f"input.path: {source.path}: {_first_line(error)}") from None
    except (PySparkException, Py4JJavaError) as error:
        line = _conflict(spark, source) if "CANNOT_MERGE" in str(error) else None
        line = line or spark_error_line(error)
        if line is None:
            raise
        raise DataError(f"input.path: {line}") from None
    if empty:
        raise DataError(f"input.path: {source.path}: the corpus is empty, no {source.format} rows found")
    if source.format == "json":
        _check_json_keys(rows, source)
    else:
        _check_columns(rows.schema, source)
    return rows.schema


def _check_json_keys(lines: DataFrame, source: InputConfig) -> None:
    head = lines.where(F.trim("value") != "").limit(_JSON_ROWS_LOOKED_AT)
    keys = head.select(F.explode(F.expr("json_object_keys(value)")).alias("key")).distinct().collect()
    found = sorted(str(row["key"]) for row in keys)
    problems = [_missing(name, column, found) for name, column in _wanted(source) if column not in found]
    if problems:
        raise SchemaError(
            "\n".join(f"{p} in the first {_JSON_ROWS_LOOKED_AT} lines of {source.path}" for p in problems)
        )


def _check_columns(schema: T.StructType, source: InputConfig) -> None:
    problems = []
    for name, column in _wanted(source):
        if column not in schema.names:
            problems.append(f"{_missing(name, column, schema.names)} in {source.path}")
            continue
        kind = schema[column].dataType
        allowed = {"text": (T.StringType,), "id": _ID_TYPES, "source": _SOURCE_TYPES}.get(name)
        if name == "columns" and (inner := _not_in_delta(kind)):
            problems.append(f"input.columns: '{column}' has a field '{inner}', a name that Delta refuses")
        if allowed and not isinstance(kind, allowed):
            wanted = " or ".join(t.__name__.removesuffix("Type").lower() for t in allowed)
            problems.append(
                f"input.{name}: column '{column}' in {source.path} is {kind.simpleString()}; {wanted} is wanted"
            )
    if problems:
        raise SchemaError("\n".join(problems))


def _not_in_delta(kind: T.DataType) -> str | None:
    """Find the first name of a nested field that Delta refuses."""
    if isinstance(kind, T.StructType):
        wrong = (f.name if set(f.name) & NOT_IN_DELTA else _not_in_delta(f.dataType) for f in kind.fields)
        return next((name for name in wrong if name), None)
    if isinstance(kind, T.ArrayType):
        return _not_in_delta(kind.elementType)
    if isinstance(kind, T.MapType):
        return _not_in_delta(kind.keyType) or _not_in_delta(kind.valueType)
    return None


def _conflict(spark: SparkSession, source: InputConfig) -> str | None:
    """Find the first Parquet file with another type for a column than those before it; None if not among the first ones."""
    seen: dict[str, tuple[T.DataType, str]] = {}
    for row in hadoop_files.listing(spark, source.path).select("file").orderBy("file").limit(_FILES_COMPARED).collect():
        for field in spark.read.parquet(row["file"]).schema:
            kind, file = seen.setdefault(field.name, (field.dataType, row["file"]))
            if kind != field.dataType:
                return (
                    f"{row['file']}: column '{field.name}' is {field.dataType.simpleString()}; "
                    f"{kind.simpleString()} as in {file} is wanted"
                )
    return None


def _wanted(source: InputConfig) -> list[tuple[str, str]]:
    named = [("text", source.text), ("id", source.id), ("source", source.source)]
    return [(n, c) for n, c in named if c is not None] + [("columns", column) for column in source.columns]


def _missing(name: str, column: str, found: list[str]) -> str:
    close = difflib.get_close_matches(column, found, n=1)
    hint = f"did you mean '{close[0]}'?" if close else f"found {', '.join(found[:20]) or 'none'}"
    return f"input.{name}: no column '{column}' ({hint})"


def _first_line(error: PySparkException) -> str:
    return " ".join(str(error).split("\n", 1)[0].split())[:300]
