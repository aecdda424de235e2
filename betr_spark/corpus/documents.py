"""Documents in: Parquet, Delta and JSON Lines, one shape for all, with a reason on every row that cannot be used."""

from collections.abc import Mapping, Sequence

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from betr_spark.config import InputConfig
from betr_spark.errors import DataError
from betr_spark.schemas import DETAIL, DOC_ID, INPUT_FILE, INVALID_UTF8, NOT_UTF8, REASON, ROW, ROW_BYTES, SOURCE, TEXT
from betr_spark.storage import delta, hadoop_files, runs

_REASON = "_betr_spark_reason"  # while the input's own columns, of any name, are still there
_FILE_PATH = "_metadata.file_path"
_NEVER_TOO_OLD = "36500d"
_JSON_BYTES = 20_000_000  # a longer string is no JSON to Spark's parser


def input_fingerprint(spark: SparkSession, source: InputConfig) -> str:
    """Version of the input as stage keys name it: the Delta version, or a digest of the files' sizes and times."""
    if source.format == "delta":
        return f"{delta.table_id(spark, source.path)}:{runs.input_version(spark, source.path)}"
    return hadoop_files.fingerprint(hadoop_files.listing(spark, source.path))


def read_documents(
    spark: SparkSession, source: InputConfig, *, leave_utf8: bool = False, only_files: Sequence[str] | None = None
) -> DataFrame:
    """Read the corpus: doc_id, source, text, carried columns, reason, detail, row, input_file.

    `reason` is null on a row that can be used; otherwise it says why not (null_id, null_text, text_not_a_string,
    invalid_json, invalid_utf8, text_too_long), `row` holds the row as JSON, cut at 10 kB, and its text is null.

    With `leave_utf8`, whether a text is UTF-8 is left to the pass over it, which sees every byte anyway; then `input_file`
    stands in every row. With `only_files` (values of `input_file`; not for Delta) no other file's rows are read.
    """
    if source.format == "delta":
        rows = delta.read(spark, source.path)
    elif source.format == "parquet":
        rows = spark.read.option("mergeSchema", "true").parquet(source.path)
    else:
        rows = spark.read.text(source.path)
    if only_files is not None:
        rows = rows.where(F.col(_FILE_PATH).isin(*only_files))
    return _with_reasons(rows, source, leave_utf8=leave_utf8)


def stream_documents(
    spark: SparkSession, source: InputConfig, schema: T.StructType, *, numbers: Mapping[str, str] | None = None
) -> DataFrame:
    """Follow the corpus as a stream of the same shape as `read_documents`: new files (or Delta appends) only.

    `numbers` are columns to add, as float: the name that each gets, and the input's column.

    Whether a text is UTF-8 is left to the pass over it.
    """
    if source.format == "delta":
        rows = delta.input_stream(spark, source.path, max_bytes=source.max_batch_bytes)
        return _with_reasons(rows, source, leave_utf8=True, numbers=numbers)
    kind = "text" if source.format == "json" else source.format
    reader = spark.readStream.format(kind).schema(schema).option("maxBytesPerTrigger", str(source.max_batch_bytes))
    reader = reader.option("maxFileAge", _NEVER_TOO_OLD)  # or Spark passes over a new file with an old time, for good
    # A streaming source takes folders and globs; a pattern that fits one file alone makes a file a glob.
    path = f"{source.path[:-1]}[{source.path[-1]}]" if hadoop_files.is_file(spark, source.path) else source.path
    return _with_reasons(reader.load(path), source, leave_utf8=True, numbers=numbers)


def read_ids(spark: SparkSession, source: InputConfig) -> DataFrame:
    """Read doc_id alone, of rows that have one; touches no text where the input has an id column of its own."""
    return read_documents(spark, source).select(DOC_ID).where(F.col(DOC_ID) != "")


def check_unique(ids: DataFrame, where: str) -> None:
    """Raise DataError that names examples if a doc_id stands twice."""
    twice = ids.groupBy(DOC_ID).count().where("count > 1").orderBy(F.desc("count"), DOC_ID).limit(3).collect()
    if twice:
        examples = ", ".join(f"'{row[DOC_ID]}' ({row['count']} times)" for row in twice)
        raise DataError(f"{where}: duplicate ids, for example {examples}; ids must be unique")


def _with_reasons(
    rows: DataFrame, source: InputConfig, *, leave_utf8: bool = False, numbers: Mapping[str, str] | None = None
) -> DataFrame:
    if source.format == "json":
        parsed = rows.where(F.trim("value") != "").withColumn("json", F.expr("try_parse_json(value)"))
        found, text_type = (
            _json_column,
            F.expr(f"schema_of_variant(try_variant_get(json, '{_path(source.text)}', 'variant'))"),
        )
        invalid = [
            (~F.is_valid_utf8("value"), INVALID_UTF8, F.lit("the line is not UTF-8")),
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
        (~F.is_valid_utf8(doc_id), INVALID_UTF8, F.lit("the id is not UTF-8")),
        *([] if leave_utf8 else [(~F.is_valid_utf8(text), INVALID_UTF8, F.lit(NOT_UTF8))]),
        (
            n_bytes > source.max_text_bytes,
            "text_too_long",
            F.concat(n_bytes.cast("string"), F.lit(f" bytes, input.max_text_bytes is {source.max_text_bytes}")),
        ),
    ]
    reason = F.coalesce(*[F.when(wrong, F.lit(name)) for wrong, name, _ in reasons])
    detail = F.coalesce(*[F.when(wrong, why) for wrong, _, why in reasons])
    file = F.lit(source.path) if source.format == "delta" else F.col(_FILE_PATH)
    bad = F.col(_REASON).isNotNull()
    strings = {field.name for field in rows.schema if isinstance(field.dataType, T.StringType)}
    carried = []
    for name in source.columns:
        value = found(_name(name, source))
        carried.append((F.make_valid_utf8(value) if name in strings else value).alias(name))
    origin = F.lit(None).cast("string") if source.source is None else found(_name(source.source, source)).cast("string")
    added = [found(_name(column, source)).try_cast("float").alias(name) for name, column in (numbers or {}).items()]
    return parsed.withColumn(_REASON, reason).select(
        doc_id.alias(DOC_ID),
        F.make_valid_utf8(origin).alias(SOURCE),
        F.when(~bad, text).alias(TEXT),
        *carried,
        *added,
        F.col(_REASON).alias(REASON),
        F.when(bad, detail).alias(DETAIL),
        F.when(bad, F.substring(F.make_valid_utf8(as_json), 1, ROW_BYTES)).alias(ROW),
        (file if leave_utf8 else F.when(bad, file)).alias(INPUT_FILE),
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
