"""Layouts of Parquet files, read from their footers by the classes that Spark itself reads with."""

import dataclasses
import json
import re
from functools import partial
from typing import Any

from pyspark.errors import AnalysisException
from pyspark.sql import SparkSession
from pyspark.sql import types as T

from betr_spark.corpus.layouts import Layout
from betr_spark.spark.jvm import java_class

_CODEC = re.compile(r"ColumnMetaData\{(\w+) \[")


class ParquetFooters:
    """Reads footers on the driver; safe to be called from several threads."""

    def __init__(self, spark: SparkSession) -> None:
        """Prepare Spark's converter of types."""
        self._java_class = partial(java_class, spark)
        self._path, self._uri = self._java_class("org.apache.hadoop.fs.Path"), self._java_class("java.net.URI")
        self._reader = self._java_class("org.apache.parquet.hadoop.ParquetFileReader")
        self._configuration: Any = spark._jsc.hadoopConfiguration()  # noqa: SLF001
        settings = spark._jsparkSession.sessionState().conf()  # noqa: SLF001
        converter = "org.apache.spark.sql.execution.datasources.parquet.ParquetToSparkSchemaConverter"
        self._converter = self._java_class(converter)(settings)
        self._everything = self._java_class("org.apache.parquet.format.converter.ParquetMetadataConverter").NO_FILTER
        self._layouts: dict[str, Layout] = {}  # by the text of the schema, which files of a writer share
        self._readable: dict[str, bool] = {}  # by codec

    def layout(self, file: str) -> Layout:
        """Read a footer.

        Args:
            file: URI of the file.
        """
        footer = self._reader.readFooter(self._configuration, self._path(self._uri(file)), self._everything)
        schema, groups = footer.getFileMetaData().getSchema(), footer.getBlocks()
        text = str(schema.toString())
        if text not in self._layouts:
            self._layouts[text] = self._layout_of(schema, text)
        layout = self._layouts[text]
        if groups.isEmpty() or groups.get(0).getRowCount() == 0:  # no rows; Arrow then often has no types either
            typed = [field for field in layout.fields if field.name not in layout.null_columns]
            return dataclasses.replace(layout, fields=T.StructType(typed), null_columns=frozenset())
        return dataclasses.replace(layout, codecs=self._unreadable_codecs(groups.get(0)))

    def _layout_of(self, schema: Any, text: str) -> Layout:
        unreadable: dict[str, str] = {}
        try:
            fields = _struct(self._converter.convert(schema))
        except AnalysisException:
            fields = self._readable_part(schema.getFields(), "", unreadable)
        null_columns = {f.getName() for f in (schema.getFields() if "UNKNOWN" in text else ()) if _has_no_type(f)}
        return Layout(fields=fields, null_columns=frozenset(null_columns), unreadable=unreadable)

    def _readable_part(self, fields: Any, prefix: str, unreadable: dict[str, str]) -> T.StructType:
        """The fields that Spark can read, with their types; adds the others to `unreadable`."""
        readable = []
        for field in fields:
            name = str(field.getName())
            only = self._java_class("java.util.ArrayList")([field])
            message = self._java_class("org.apache.parquet.schema.MessageType")("field", only)
            try:
                readable += _struct(self._converter.convert(message)).fields
            except AnalysisException as error:
                if field.isPrimitive() or field.getLogicalTypeAnnotation() is not None:
                    unreadable[f"{prefix}{name}"] = _reason(field, error)
                else:
                    inner = self._readable_part(field.asGroupType().getFields(), f"{prefix}{name}.", unreadable)
                    readable.append(T.StructField(name, inner))
        return T.StructType(readable)

    def _unreadable_codecs(self, group: Any) -> dict[str, str]:
        """Columns of a row group whose codec has no class here."""
        names = set(_CODEC.findall(str(group.toString())))  # a single call; a wide file would need thousands
        if names and all(self._readable.get(name) for name in names):
            return {}
        codecs = {str(column.getPath().toArray()[0]): column.getCodec() for column in group.getColumns()}
        for codec in codecs.values():
            self._readable.setdefault(str(codec.name()), self._can_read(codec))
        return {column: str(codec.name()) for column, codec in codecs.items() if not self._readable[str(codec.name())]}

    def _can_read(self, codec: Any) -> bool:
        name = codec.getHadoopCompressionCodecClassName()
        return name is None or self._configuration.getClassByNameOrNull(name) is not None


def _struct(java_type: Any) -> T.StructType:
    return T.StructType.fromJson(json.loads(java_type.json()))


def _has_no_type(field: Any) -> bool:
    annotation = field.getLogicalTypeAnnotation() if field.isPrimitive() else None
    return annotation is not None and "Unknown" in str(annotation.getClass().getSimpleName())


def _reason(field: Any, error: AnalysisException) -> str:
    if "NANOS" in str(field.getLogicalTypeAnnotation()):
        return "a timestamp with nanoseconds, which Spark cannot read; write it with microseconds"
    return " ".join(str(error).split("\n", 1)[0].split())[:200]
