"""Files on any Hadoop file system: small ones, the listing of an input and its fingerprint."""

import re
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from betr_spark.errors import DataError
from betr_spark.spark.causes import causes
from betr_spark.spark.error_messages import spark_error_line
from betr_spark.spark.jvm import java_class

_SMALL = 100_000  # bytes


def path_and_system(spark: SparkSession, path: str) -> tuple[Any, Any]:
    """Return a path as Hadoop's, and its file system."""
    hadoop_path = java_class(spark, "org.apache.hadoop.fs.Path")(path)
    return hadoop_path, hadoop_path.getFileSystem(spark._jsc.hadoopConfiguration())  # noqa: SLF001


def qualified(spark: SparkSession, path: str) -> str:
    """A path with its scheme, from the root."""
    hadoop_path, system = path_and_system(spark, path)
    return str(system.makeQualified(hadoop_path).toString())


def exists(spark: SparkSession, path: str) -> bool:
    """Tell whether a file or folder exists."""
    hadoop_path, system = path_and_system(spark, path)
    return bool(system.exists(hadoop_path))


def is_file(spark: SparkSession, path: str) -> bool:
    """Tell whether a path is one file, not a folder and not a glob."""
    hadoop_path, system = path_and_system(spark, path)
    return bool(system.exists(hadoop_path) and system.getFileStatus(hadoop_path).isFile())


def matches(spark: SparkSession, pattern: str) -> bool:
    """Tell whether a glob matches any file or folder."""
    where, system = path_and_system(spark, pattern)
    return bool(system.globStatus(where))


@contextmanager
def opened(spark: SparkSession, path: str) -> Iterator[tuple[Any, int]]:
    """Open a file: its FSDataInputStream, and its size in bytes.

    Raises:
        DataError: there is no such file, or it is a folder.
    """
    hadoop_path, system = path_and_system(spark, path)
    if not system.exists(hadoop_path):
        raise DataError(f"{path}: no such file")
    status = system.getFileStatus(hadoop_path)
    if status.isDirectory():
        raise DataError(f"{path}: is a folder; a file is required")
    stream = system.open(hadoop_path)
    try:
        yield stream, status.getLen()
    finally:
        stream.close()


def read_bytes(spark: SparkSession, path: str) -> bytes:
    """Read a whole file that the driver's memory has room for; raises what `opened` raises."""
    with opened(spark, path) as (stream, size):
        if size <= _SMALL:
            return bytes(java_class(spark, "org.apache.commons.io.IOUtils").toByteArray(stream))
    with tempfile.TemporaryDirectory(prefix="betr-spark-") as folder:  # py4j takes 0.2 s for a MB
        target = Path(folder) / "file"
        fetch(spark, path, target)
        return target.read_bytes()


def version(spark: SparkSession, path: str) -> str:
    """Size and modification time of a file of any name.

    Raises:
        DataError: there is no such file, or it is a folder.
    """
    if not is_file(spark, path):
        raise DataError(f"{path}: no such file")
    hadoop_path, system = path_and_system(spark, path)
    status = system.getFileStatus(hadoop_path)
    return f"{status.getLen()}:{status.getModificationTime()}"


def modified_ms(spark: SparkSession, path: str) -> int:
    """Modification time of a file by the store's clock, in milliseconds since the epoch.

    Raises:
        DataError: there is no such file, or it is a folder.
    """
    return int(version(spark, path).partition(":")[2])


def fetch(spark: SparkSession, path: str, target: Path) -> None:
    """Copy a file of any size to the driver's disk.

    Raises:
        DataError: there is no such file, or it is a folder.
    """
    if not is_file(spark, path):
        raise DataError(f"{path}: no such file")
    hadoop_path, system = path_and_system(spark, path)
    system.copyToLocalFile(False, hadoop_path, java_class(spark, "org.apache.hadoop.fs.Path")(target.as_uri()), True)


def first_line(spark: SparkSession, path: str) -> str | None:
    """Read the first line of a UTF-8 file and nothing more; None where there is no such file or it is empty."""
    hadoop_path, system = path_and_system(spark, path)
    if not system.exists(hadoop_path):
        return None
    reader = java_class(spark, "java.io.InputStreamReader")(system.open(hadoop_path), "UTF-8")
    lines = java_class(spark, "java.io.BufferedReader")(reader)
    try:
        line = lines.readLine()
        return None if line is None else str(line)
    finally:
        lines.close()


def last_bytes(spark: SparkSession, path: str, n_bytes: int) -> bytes:
    """Read the end of a file; raises what `opened` raises."""
    with opened(spark, path) as (stream, size):
        stream.seek(max(0, size - n_bytes))
        return bytes(java_class(spark, "org.apache.commons.io.IOUtils").toByteArray(stream))


def check_writable(spark: SparkSession, path: str, *, subject: str = "output") -> None:
    """Create a file inside an output and delete it, and with it every folder that this has created.

    Nothing is written above the output, and a folder above it may be unreadable. Messages begin with `subject`.

    Raises:
        DataError: the output is a file, or cannot be written.
    """
    try:
        folder, system = path_and_system(spark, path)
        created = list(_missing_folders(system, folder))
        if not created and system.getFileStatus(folder).isFile():
            raise DataError(f"{subject}: {path} is a file; a folder is required")
        probe = java_class(spark, "org.apache.hadoop.fs.Path")(folder, f".betr-spark-{uuid.uuid4().hex}")
        system.create(probe, False).close()
        system.delete(probe, False)
        for missing in created:
            if system.listStatus(missing):  # of another process
                break
            system.delete(missing, False)
    except (Py4JJavaError, PySparkException) as error:
        outermost = causes(error)[0]
        reason = spark_error_line(error) or f"{outermost.class_names[0]}: {outermost.message}".splitlines()[0][:200]
        raise DataError(f"{subject}: {path}: cannot be written ({reason})") from None


def _missing_folders(system: Any, folder: Any) -> Iterator[Any]:
    """Yield a folder and those above it that do not exist, from the lowest up; one above that is unreadable exists."""
    if system.exists(folder):
        return
    while folder is not None:
        yield folder
        folder = folder.getParent()
        try:
            if folder is None or system.exists(folder):
                return
        except Py4JJavaError:
            return


def delete(spark: SparkSession, path: str) -> None:
    """Delete a file, or a folder with all that it contains; do nothing where there is none."""
    hadoop_path, system = path_and_system(spark, path)
    system.delete(hadoop_path, True)


def delete_empty(spark: SparkSession, path: str) -> None:
    """Delete a folder that has nothing in it; do nothing to any other."""
    hadoop_path, system = path_and_system(spark, path)
    with suppress(Py4JJavaError):  # it has
        system.delete(hadoop_path, False)


def children(spark: SparkSession, path: str) -> list[str]:
    """Names of the files and folders directly in a folder, sorted; empty where there is no folder."""
    folder, system = path_and_system(spark, path)
    if not system.exists(folder):
        return []
    # For an array of folders, every file system returns a FileStatus[]; for one folder, S3A an array of a subclass, for which
    # py4j finds no method.
    path_class = java_class(spark, "org.apache.hadoop.fs.Path")
    folders: Any = spark.sparkContext._gateway.new_array(path_class, 1)  # type: ignore[union-attr]  # noqa: SLF001
    folders[0] = folder
    paths = java_class(spark, "org.apache.hadoop.fs.FileUtil").stat2Paths(system.listStatus(folders))
    joined = str(java_class(spark, "scala.Predef").genericWrapArray(paths).mkString("\0"))  # one call for all names
    return sorted(path.rpartition("/")[2] for path in joined.split("\0") if path)


def listing(spark: SparkSession, path: str) -> DataFrame:
    """List the data files of a path or glob as (file, n_bytes, modified), without reading them.

    Raises:
        DataError: there is no such path.
    """
    try:
        files = spark.read.format("binaryFile").load(path)
    except AnalysisException as error:
        raise DataError(f"{path}: no such file or folder ({error.getCondition()})") from None
    return files.select(
        F.col("path").alias("file"), F.col("length").alias("n_bytes"), F.col("modificationTime").alias("modified")
    )


def fingerprint(files: DataFrame) -> str:
    """Digest of a listing in any order: count, bytes, and two sums of hashes."""
    row_hash = [F.xxhash64(F.lit(seed), "file", "n_bytes", "modified") for seed in (0, 1)]
    total = files.agg(
        F.count("*").alias("files"),
        F.coalesce(F.sum("n_bytes"), F.lit(0)).alias("bytes"),
        F.coalesce(F.bit_xor(row_hash[0]), F.lit(0)).alias("xor"),
        F.coalesce(F.sum(row_hash[1].cast("decimal(38,0)")), F.lit(0)).alias("sum"),
    ).first()
    assert total is not None
    return fingerprint_of(*total)


def fingerprint_of(n_files: int, n_bytes: int, xor: int, total: int) -> str:
    """Write a fingerprint: the number of files, their bytes, and the xor and the sum of hashes."""
    return f"{n_files} files, {n_bytes} bytes, {xor:x}, {total}"


def bytes_of(fingerprint: str) -> int:
    """Size of the files of a fingerprint; 0 for any other text."""
    size = re.match(r"\d+ files, (\d+) bytes,", fingerprint)
    return int(size[1]) if size else 0
