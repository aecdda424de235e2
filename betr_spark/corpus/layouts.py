"""What files look like inside, from their first or last bytes: columns and types, codecs, and files that cannot be read.

Each file is opened once, when it is new: `_inputs` keeps the layout of every file that `features` scored.
"""

import dataclasses
import json
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self
from urllib.parse import unquote

from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException
from pyspark.sql import SparkSession
from pyspark.sql import types as T

from betr_spark.errors import DataError
from betr_spark.spark.error_messages import spark_error_line

_THREADS = 16
_CODEC = re.compile(r"ColumnMetaData\{(\w+) \[")
_NAMED = 3
_COMPRESSED = {  # first bytes, name, suffixes that Spark decompresses by
    b"\x1f\x8b": ("gzip", (".gz",)),
    b"BZh": ("bzip2", (".bz2",)),
    b"\x28\xb5\x2f\xfd": ("zstd", (".zst",)),
    b"\xfd7zXZ\x00": ("xz", ()),
    b"PK\x03\x04": ("zip", ()),
    b"7z\xbc\xaf\x27\x1c": ("7z", ()),
    b"\x04\x22\x4d\x18": ("lz4", ()),
    b"Rar!": ("rar", ()),
    b"PAR1": ("Parquet", ()),
    b"\xff\xfe": ("UTF-16", ()),
    b"\xfe\xff": ("UTF-16", ()),
}
_SUFFIXES = {suffix: name for name, suffixes in _COMPRESSED.values() for suffix in suffixes}
_OTHER_SUFFIXES = (".xz", ".lzma", ".7z", ".zip", ".tar", ".tgz", ".rar", ".br", ".lzo", ".z")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """The columns of a Parquet file, or of a Delta table. JSON files have no columns here.

    Attributes:
        fields: columns that Spark can read, with the types that Spark gives them.
        null_columns: columns of Arrow's null type: they have no type, and every value is null.
        unreadable: columns and fields of structs, by dotted name, with the reason why Spark cannot read them.
        codecs: columns whose compression no class on this cluster can read, with the codec.
    """

    fields: T.StructType = dataclasses.field(default_factory=T.StructType)
    null_columns: frozenset[str] = frozenset()
    unreadable: dict[str, str] = dataclasses.field(default_factory=dict)
    codecs: dict[str, str] = dataclasses.field(default_factory=dict)

    def to_json(self) -> str:
        """Encode; equal layouts give equal strings."""
        values = {"fields": self.fields.jsonValue(), "null_columns": sorted(self.null_columns)}
        return json.dumps({**values, "unreadable": self.unreadable, "codecs": self.codecs}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Decode what `to_json` gives."""
        values = json.loads(text)
        return cls(
            fields=T.StructType.fromJson(values["fields"]), null_columns=frozenset(values["null_columns"]),
            unreadable=values["unreadable"], codecs=values["codecs"],
        )  # fmt: skip


def layouts_of(spark: SparkSession, files: Iterable[str], file_format: str) -> dict[str, str]:
    """Look into each file, several at a time: its URI, and its layout as JSON.

    Raises:
        DataError: files cannot be read; names the first ones, each with the reason, and says how many there are.
    """
    look = _parquet_reader(spark) if file_format == "parquet" else _json_reader(spark)
    layouts, problems, n_unreadable = {}, [], 0

    def layout_or_problem(file: str) -> str | DataError:
        try:
            return look(file)
        except DataError as error:
            return error
        except Py4JJavaError as error:
            cause = " ".join(str(error.java_exception.getMessage()).replace(file, "").split())
            return DataError(spark_error_line(error) or f"{unquote(file)}: cannot be read ({cause[:200]})")

    with ThreadPoolExecutor(_THREADS) as pool:
        files = sorted(files)
        for file, found in zip(files, pool.map(layout_or_problem, files), strict=True):
            if isinstance(found, str):
                layouts[file] = found
            else:
                n_unreadable += 1
                problems += [f"input.path: {found}"] if n_unreadable <= _NAMED else []
    if problems:
        rest = n_unreadable - len(problems)
        raise DataError("\n".join([*problems, *([f"input.path: {rest} more files cannot be read"] if rest else [])]))
    return layouts


def _parquet_reader(spark: SparkSession) -> Callable[[str], str]:
    jvm: Any = spark._jvm  # noqa: SLF001
    configuration: Any = spark._jsc.hadoopConfiguration()  # noqa: SLF001
    settings = spark._jsparkSession.sessionState().conf()  # noqa: SLF001
    types = jvm.org.apache.spark.sql.execution.datasources.parquet.ParquetToSparkSchemaConverter(settings)
    everything = jvm.org.apache.parquet.format.converter.ParquetMetadataConverter.NO_FILTER
    message = jvm.org.apache.parquet.schema.MessageType
    seen: dict[str, Layout] = {}  # by the schema's text: files of one writer have the same
    readable: dict[str, bool] = {}  # by codec

    def converted(field: Any, name: str, unreadable: dict[str, str]) -> T.DataType | None:
        """Spark's type of a field; of a struct, what can be read of it."""
        fields = jvm.java.util.ArrayList([field])
        try:
            return _struct(types.convert(message("field", fields))).fields[0].dataType
        except AnalysisException as error:
            if field.isPrimitive() or field.getLogicalTypeAnnotation() is not None:
                unreadable[name] = _reason(field, error)
                return None
        group = field.asGroupType()
        inner = [
            (part.getName(), converted(part, f"{name}.{part.getName()}", unreadable)) for part in group.getFields()
        ]
        return T.StructType([T.StructField(part, kind) for part, kind in inner if kind is not None])

    def layout_of(schema: Any, text: str) -> Layout:
        unreadable: dict[str, str] = {}
        try:
            fields = _struct(types.convert(schema))
        except AnalysisException:
            kinds = [(field.getName(), converted(field, field.getName(), unreadable)) for field in schema.getFields()]
            fields = T.StructType([T.StructField(name, kind) for name, kind in kinds if kind is not None])
        null_columns = frozenset(
            field.getName() for field in (schema.getFields() if "UNKNOWN" in text else ()) if field.isPrimitive()
            and "Unknown" in type_name(field.getLogicalTypeAnnotation())
        )  # fmt: skip
        return Layout(fields=fields, null_columns=null_columns, unreadable=unreadable)

    def type_name(annotation: Any) -> str:
        return "" if annotation is None else str(annotation.getClass().getSimpleName())

    def can_read(codec: Any) -> bool:
        name = codec.getHadoopCompressionCodecClassName()
        return name is None or configuration.getClassByNameOrNull(name) is not None

    def unreadable_codecs(block: Any) -> dict[str, str]:
        names = set(_CODEC.findall(str(block.toString())))  # one call, where a wide file has thousands
        if names and names <= {name for name, can in readable.items() if can}:
            return {}
        codecs = {str(column.getPath().toArray()[0]): column.getCodec() for column in block.getColumns()}
        for codec in codecs.values():
            readable.setdefault(str(codec.name()), can_read(codec))
        return {column: str(codec.name()) for column, codec in codecs.items() if not readable[str(codec.name())]}

    def look(file: str) -> str:
        path = jvm.org.apache.hadoop.fs.Path(jvm.java.net.URI(file))
        footer = jvm.org.apache.parquet.hadoop.ParquetFileReader.readFooter(configuration, path, everything)
        schema = footer.getFileMetaData().getSchema()
        text = str(schema.toString())
        layout = seen.setdefault(text, seen.get(text) or layout_of(schema, text))
        groups = footer.getBlocks()
        if groups.isEmpty() or groups.get(0).getRowCount() == 0:  # no rows; Arrow then often has no types either
            typed = [field for field in layout.fields if field.name not in layout.null_columns]
            return dataclasses.replace(layout, fields=T.StructType(typed), null_columns=frozenset()).to_json()
        return dataclasses.replace(layout, codecs=unreadable_codecs(groups.get(0))).to_json()

    return look


def _struct(java_type: Any) -> T.StructType:
    return T.StructType.fromJson(json.loads(java_type.json()))


def _reason(field: Any, error: AnalysisException) -> str:
    if "NANOS" in str(field.getLogicalTypeAnnotation()):
        return "a timestamp with nanoseconds, which Spark cannot read; write it with microseconds"
    return " ".join(str(error).split("\n", 1)[0].split())[:200]


def _json_reader(spark: SparkSession) -> Callable[[str], str]:
    jvm: Any = spark._jvm  # noqa: SLF001
    configuration: Any = spark._jsc.hadoopConfiguration()  # noqa: SLF001
    nothing = Layout().to_json()
    longest = max(map(len, _COMPRESSED))

    def look(file: str) -> str:
        path = jvm.org.apache.hadoop.fs.Path(jvm.java.net.URI(file))
        stream = path.getFileSystem(configuration).open(path)
        try:
            start = bytes(stream.readNBytes(longest))
        finally:
            stream.close()
        if problem := _compression_problem(file, start):
            raise DataError(f"{unquote(file)}: {problem}")
        return nothing

    return look


def _compression_problem(file: str, start: bytes) -> str | None:
    name = file.lower()
    can = "Spark reads .gz, .bz2 and .zst, and files without compression"
    actual, suffixes = next((known for magic, known in _COMPRESSED.items() if start.startswith(magic)), ("", ()))
    if actual and not suffixes:
        return f"{actual} data; {can}"
    if suffix := next((suffix for suffix in _OTHER_SUFFIXES if name.endswith(suffix)), None):
        return f"files that end in {suffix} cannot be read; {can}"
    expected = next((kind for suffix, kind in _SUFFIXES.items() if name.endswith(suffix)), "")
    if actual != expected and start:
        right = f"its name must end in {suffixes[0]}" if actual else f"it has no {expected} data in spite of its name"
        return f"{actual or 'not'} compressed: {right}"
    return None
