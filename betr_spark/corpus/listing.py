"""The files of an input, listed once: what is read later is exactly what was listed."""

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple, Self
from urllib.parse import unquote

import xxhash
from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from betr_spark.config import InputConfig
from betr_spark.errors import DataError
from betr_spark.schemas import INPUT_FILE
from betr_spark.spark.causes import causes
from betr_spark.spark.jvm import java_class
from betr_spark.storage import hadoop_files

FILE, N_BYTES, MODIFIED = "file", "n_bytes", "modified"
IDENTITY = [FILE, N_BYTES, MODIFIED]
LAYOUT = "layout"
ROW_FILE = "betr_spark_file"  # next to columns of the input, of any name
_FORMATS = {
    "parquet": "org.apache.spark.sql.execution.datasources.parquet.ParquetFileFormat",
    "text": "org.apache.spark.sql.execution.datasources.text.TextFileFormat",
}
_SYNTAX_ERRORS = (
    "org.apache.hadoop.shaded.com.google.re2j.PatternSyntaxException", "com.google.re2j.PatternSyntaxException",
    "java.net.URISyntaxException",
)  # fmt: skip
_NAMED = 3  # files in a message
_MAX_WITHOUT_JOB = 100
_SPARK_SEED = 42  # of `xxhash64`
_MAX_NAMED = 10_000  # files in one condition; with more of them, rows are joined with the list


@dataclasses.dataclass(frozen=True)
class Listing:
    """All data files below a path, at any depth. Names that begin with `_` or `.` are skipped, as Spark does.

    Attributes:
        files: file (an encoded URI, as `_metadata.file_path` has it), n_bytes, modified; one row for each file.
        relation: Spark's relation in the JVM, with the index of the files.
    """

    files: DataFrame
    relation: Any

    @classmethod
    def of(cls, spark: SparkSession, path: str) -> Self:
        """List a folder, a file or a glob.

        Raises:
            DataError: nothing exists at the path, or the path is the folder of a Delta table.
        """
        try:
            for folder in (path.rstrip("/"), path.rstrip("/").rpartition("/")[0]):
                if folder and hadoop_files.matches(spark, f"{folder}/_delta_log"):
                    raise DataError(f"input.path: {folder} is a Delta table; read it with input.format: delta")
        except (Py4JJavaError, PySparkException) as error:
            syntax = next((cause for cause in causes(error) if cause.is_a(*_SYNTAX_ERRORS)), None)
            if syntax is None:  # the store itself failed
                raise
            reason = " ".join(syntax.message.split())
            raise DataError(f"input.path: {path}: not a path or a glob ({reason})") from None
        try:
            binary_files = spark.read.format("binaryFile").option("recursiveFileLookup", "true").load(path)
        except AnalysisException as error:
            raise DataError(f"input.path: {path}: no such file or folder ({error.getCondition()})") from None
        files = binary_files.select(
            F.col("_metadata.file_path").alias(FILE),
            F.col("_metadata.file_size").alias(N_BYTES),
            F.col("_metadata.file_modification_time").alias(MODIFIED),
        ).coalesce(max(1, spark.sparkContext.defaultParallelism))
        relation = binary_files._jdf.queryExecution().analyzed().relation()  # noqa: SLF001
        return cls(files, relation)

    def read(self, file_format: str, schema: T.StructType) -> DataFrame:
        """Read the listed files, and no others, with a given schema; adds ROW_FILE.

        Spark has no public way to read files without listing them again, so this puts another format and schema on the
        index of the first listing.

        Args:
            file_format: `parquet` or `text`.
            schema: the columns to read; a file without one of them gives nulls.
        """
        spark = self.files.sparkSession
        session: Any = spark._jsparkSession  # noqa: SLF001
        relation = self.relation.copy(
            self.relation.location(), self.relation.partitionSchema(), session.parseDataType(schema.json()),
            self.relation.bucketSpec(), java_class(spark, _FORMATS[file_format])(), self.relation.options(), session,
        )  # fmt: skip
        return with_input_file(DataFrame(session.baseRelationToDataFrame(relation), spark))

    def fingerprint(self) -> str:
        """As `hadoop_files.fingerprint` of `files`. For few files no job of Spark runs: the first job takes seconds."""
        if self._few is None:
            return hadoop_files.fingerprint(self.files)
        n_files, n_bytes, xor, total = 0, 0, 0, 0
        for uri, size, microseconds in self._few:
            parts = uri.encode(), *(number.to_bytes(8, "little", signed=True) for number in (size, microseconds))
            hashes = [_spark_xxhash64(seed.to_bytes(4, "little"), *parts) for seed in (0, 1)]
            n_files, n_bytes, xor, total = n_files + 1, n_bytes + size, xor ^ hashes[0], total + hashes[1]
        return hadoop_files.fingerprint_of(n_files, n_bytes, xor, total)

    def names(self) -> set[str] | None:
        """The column `file`, without a job of Spark; None if there are more than a few files."""
        return None if self._few is None else {uri for uri, *_ in self._few}

    @cached_property
    def _few(self) -> list[tuple[str, int, int]] | None:
        """URI, size and time in microseconds of each file, if they are few."""
        statuses, files = self.relation.location().allFiles(), []
        if statuses.size() > _MAX_WITHOUT_JOB:
            return None
        for row in range(statuses.size()):
            status = statuses.apply(row)
            size, name = status.getLen(), status.getPath().getName()
            if size > 0 and not name.startswith(".") and (not name.startswith("_") or "=" in name):  # Spark reads these
                uri = status.getPath().toUri().toString().replace(":///", ":/", 1)
                files.append((uri, size, 1000 * status.getModificationTime()))
        return files

    @staticmethod
    def names_and_count(files: DataFrame) -> tuple[str, int]:
        """Name the first of some files (column `file`), for a message, and count them all."""
        names = [unquote(row[FILE]) for row in files.orderBy(FILE).limit(_NAMED).collect()]
        count = files.count() if names else 0
        return ", ".join(names) + (", ..." if count > len(names) else ""), count


def _spark_xxhash64(*values: bytes) -> int:
    """As Spark's `xxhash64`: the hash of a value is the seed of the next."""
    seed = _SPARK_SEED
    for value in values:
        seed = xxhash.xxh64_intdigest(value, seed)
    return seed - ((seed >> 63) << 64)


def with_input_file(rows: DataFrame, *, row: str | None = None) -> DataFrame:
    """Add the URI of the file that a row was read from; a column of the input named `_metadata` does not matter.

    Args:
        rows: as a reader gives them.
        row: name of a column for the number of the row in its file; of Parquet only.
    """
    metadata = rows.metadataColumn("_metadata")
    numbers = [] if row is None else [metadata.getField("row_index").alias(row)]
    return rows.select("*", metadata.getField("file_path").alias(ROW_FILE), *numbers)


class FileFilter(NamedTuple):
    """Some files of a listing, by whichever list is shorter: of these files, or of the others.

    Attributes:
        names: of the listed files; None if both lists are long.
        listed: whether `names` are the files to read, or those to leave out.
        files: the files to read, as rows.
    """

    names: Sequence[str] | None
    listed: bool
    files: DataFrame

    @classmethod
    def of(cls, files: DataFrame, chosen: DataFrame) -> Self | None:
        """Choose the shorter list; None if all files are chosen.

        Args:
            files: file; every file of the listing.
            chosen: file; a subset of them.
        """
        chosen = chosen.select(FILE)
        others = files.select(FILE).join(chosen, on=FILE, how="left_anti")
        left_out = _names(others)
        if not left_out:
            return None
        read = _names(chosen)
        names, listed = min((left_out, False), (read, True), key=lambda pair: len(pair[0]))
        return cls(names if len(names) <= _MAX_NAMED else None, listed, chosen)

    def apply(self, rows: DataFrame) -> DataFrame:
        """Keep the rows of the chosen files; other files are not opened, unless both lists are long."""
        if self.names is None:
            return rows.join(self.files.withColumnRenamed(FILE, ROW_FILE), on=ROW_FILE, how="left_semi")
        return in_files(rows, self.names, listed=self.listed)


def _names(files: DataFrame) -> list[str]:
    """The names, or the first ones if there are too many for a condition."""
    return [row[FILE] for row in files.limit(_MAX_NAMED + 1).collect()]


def files_of(documents: DataFrame, source: InputConfig) -> list[str] | None:
    """The files that have documents; None (read all) if there are more than 10,000, or the input is a Delta table.

    Args:
        documents: input_file, and others.
        source: the input.
    """
    if source.format == "delta":
        return None
    rows = documents.select(INPUT_FILE).distinct().limit(_MAX_NAMED + 1).collect()  # bounded
    return [row[INPUT_FILE] for row in rows] if len(rows) <= _MAX_NAMED else None


def in_files(rows: DataFrame, names: Sequence[str], *, listed: bool = True) -> DataFrame:
    """Keep the rows of the named files, or with `listed=False` of all others."""
    condition: Column = F.col(ROW_FILE).isin(*names)
    return rows.where(condition if listed else ~condition)
