"""Documents in: Parquet, Delta and JSON Lines, one shape for all, with a reason on every row that cannot be used."""

import difflib

from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from betr_spark import files, tables
from betr_spark.config import NOT_IN_DELTA, InputConfig
from betr_spark.errors import DataError, SchemaError
from betr_spark.schemas import DETAIL, DOC_ID, INPUT_FILE, REASON, ROW, SOURCE, TEXT
from betr_spark.session import spark_error_line

_ROW_BYTES = 10_000
_REASON = "_betr_spark_reason"  # while the input's own columns, of any name, are still there
_NEVER_TOO_OLD = "36500d"
_JSON_BYTES = 20_000_000  # a longer string is no JSON to Spark's parser
_JSON_ROWS_LOOKED_AT = 1_000
_ID_TYPES = (T.StringType, T.IntegralType)
_SOURCE_TYPES = (T.StringType, T.IntegralType, T.BooleanType, T.DateType)


def input_fingerprint(spark: SparkSession, source: InputConfig) -> str:
    """Version of the input as stage keys name it: the Delta version, or a digest of the files' sizes and times."""
    if source.format == "delta":
        return f"{tables.table_id(spark, source.path)}:{tables.input_version(spark, source.path)}"
    return files.fingerprint(files.listing(spark, source.path))


def input_schema(spark: SparkSession, source: InputConfig) -> T.StructType:
    """Read the input's schema and hold it against the configuration.

    Every Parquet footer is read (on the executors), so that a truncated file is found before any work.

    Raises:
        DataError: nothing there, a file that cannot be read, no rows.
        SchemaError: a column that is missing or of the wrong type; names all of them.
    """
    try:
        if source.format == "delta":
            if not tables.exists(spark, source.path):
                raise DataError(f"input.path: {source.path}: no Delta table there")
            rows = tables.read(spark, source.path)
        elif source.format == "parquet":
            rows = spark.read.option("mergeSchema", "true").parquet(source.path)
        else:
            rows = spark.read.text(source.path)
        empty = not rows.take(1)
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


def read_documents(spark: SparkSession, source: InputConfig) -> DataFrame:
    """Read the corpus: doc_id, source, text, carried columns, reason, detail, row, input_file.

    `reason` is null on a row that can be used; otherwise it says why not (null_id, null_text, text_not_a_string,
    invalid_json, invalid_utf8, text_too_long), `row` holds the row as JSON, cut at 10 kB, and its text is null.
    """
    if source.format == "delta":
        return _with_reasons(tables.read(spark, source.path), source)
    if source.format == "parquet":
        return _with_reasons(spark.read.option("mergeSchema", "true").parquet(source.path), source)
    return _with_reasons(spark.read.text(source.path), source)


def stream_documents(spark: SparkSession, source: InputConfig, schema: T.StructType) -> DataFrame:
    """Follow the corpus as a stream of the same shape as `read_documents`: new files (or Delta appends) only."""
    if source.format == "delta":
        return _with_reasons(tables.input_stream(spark, source.path, max_bytes=source.max_batch_bytes), source)
    kind = "text" if source.format == "json" else source.format
    reader = spark.readStream.format(kind).schema(schema).option("maxBytesPerTrigger", str(source.max_batch_bytes))
    reader = reader.option("maxFileAge", _NEVER_TOO_OLD)  # or Spark passes over a new file with an old time, for good
    # A streaming source takes folders and globs; a pattern that fits one file alone makes a file a glob.
    path = f"{source.path[:-1]}[{source.path[-1]}]" if files.is_file(spark, source.path) else source.path
    return _with_reasons(reader.load(path), source)


def read_ids(spark: SparkSession, source: InputConfig) -> DataFrame:
    """Read doc_id alone, of rows that have one; touches no text where the input has an id column of its own."""
    return read_documents(spark, source).select(DOC_ID).where(F.col(DOC_ID) != "")


def check_unique(ids: DataFrame, where: str) -> None:
    """Raise DataError that names examples if a doc_id stands twice."""
    twice = ids.groupBy(DOC_ID).count().where("count > 1").orderBy(F.desc("count"), DOC_ID).limit(3).collect()
    if twice:
        examples = ", ".join(f"'{row[DOC_ID]}' ({row['count']} times)" for row in twice)
        raise DataError(f"{where}: duplicate ids, for example {examples}; ids must be unique")


def _with_reasons(rows: DataFrame, source: InputConfig) -> DataFrame:
    if source.format == "json":
        parsed = rows.where(F.trim("value") != "").withColumn("json", F.expr("try_parse_json(value)"))
        found, text_type = (
            _json_column,
            F.expr(f"schema_of_variant(try_variant_get(json, '{_path(source.text)}', 'variant'))"),
        )
        invalid = [
            (~F.is_valid_utf8("value"), "invalid_utf8", F.lit("the line is not UTF-8")),
            (
                F.col("json").isNull() & (F.octet_length("value") > _JSON_BYTES),
                "text_too_long",
                F.concat(
                    F.octet_length("value").cast("string"), F.lit(f" bytes; a JSON text holds {_JSON_BYTES} at most")
                ),
            ),
            (F.col("json").isNull(), "invalid_json", F.lit("the line is not a JSON value")),
            (~text_type.isin("STRING", "VOID"), "text_not_a_string", F.concat(F.lit(f"{source.text} is "), text_type)),
        ]
        as_json = F.col("value")
    else:
        parsed, found, invalid = rows, _column, []
        as_json = F.to_json(F.struct(*[quoted(name) for name in rows.columns]))
    text = found(_name(source.text, source))
    doc_id = F.md5(text) if source.id is None else found(_name(source.id, source)).cast("string")
    n_bytes = F.octet_length(text)
    reasons: list[tuple[Column, str, Column]] = [
        *invalid,
        (text.isNull(), "null_text", F.lit(f"{source.text} is null")),
        (doc_id.isNull() | (doc_id == ""), "null_id", F.lit(f"{source.id} is null or empty")),
        (~F.is_valid_utf8(text) | ~F.is_valid_utf8(doc_id), "invalid_utf8", F.lit("the id or the text is not UTF-8")),
        (
            n_bytes > source.max_text_bytes,
            "text_too_long",
            F.concat(n_bytes.cast("string"), F.lit(f" bytes, input.max_text_bytes is {source.max_text_bytes}")),
        ),
    ]
    reason = F.coalesce(*[F.when(wrong, F.lit(name)) for wrong, name, _ in reasons])
    detail = F.coalesce(*[F.when(wrong, why) for wrong, _, why in reasons])
    file = F.lit(source.path) if source.format == "delta" else F.col("_metadata.file_path")
    bad = F.col(_REASON).isNotNull()
    strings = {field.name for field in rows.schema if isinstance(field.dataType, T.StringType)}
    carried = []
    for name in source.columns:
        value = found(_name(name, source))
        carried.append((F.make_valid_utf8(value) if name in strings else value).alias(name))
    origin = F.lit(None).cast("string") if source.source is None else found(_name(source.source, source)).cast("string")
    return parsed.withColumn(_REASON, reason).select(
        doc_id.alias(DOC_ID),
        F.make_valid_utf8(origin).alias(SOURCE),
        F.when(~bad, text).alias(TEXT),
        *carried,
        F.col(_REASON).alias(REASON),
        F.when(bad, detail).alias(DETAIL),
        F.when(bad, F.substring(F.make_valid_utf8(as_json), 1, _ROW_BYTES)).alias(ROW),
        F.when(bad, file).alias(INPUT_FILE),
    )


def _name(column: str, source: InputConfig) -> str:
    return column if source.format == "json" else quoted(column)


def _column(key: str) -> Column:
    return F.col(key)


def quoted(column: str) -> str:
    """Quote a column's name for F.col, where a dot would otherwise reach into a struct."""
    return "`" + column.replace("`", "``") + "`"


def _path(key: str) -> str:
    escaped = key.replace("\\", "\\\\").replace("'", "\\'")
    return f'$["{escaped}"]'


def _json_column(key: str) -> Column:
    """Return a JSON value as a string; numbers, booleans, lists and objects as their JSON text."""
    return F.expr(f"try_variant_get(json, '{_path(key)}', 'string')")


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
    """Find the first Parquet file with another type for a column than the files before it."""
    seen: dict[str, tuple[T.DataType, str]] = {}
    for row in files.listing(spark, source.path).select("file").orderBy("file").toLocalIterator():
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
