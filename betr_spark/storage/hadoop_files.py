"""Files on any Hadoop file system: small ones, fingerprints of an input folder, intermediate results; files for executors."""

import uuid
from pathlib import Path
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from betr_spark.errors import DataError


def _open(spark: SparkSession, path: str) -> tuple[Any, Any, Any]:
    jvm: Any = spark._jvm  # noqa: SLF001
    where = jvm.org.apache.hadoop.fs.Path(path)
    return jvm, where, where.getFileSystem(spark._jsc.hadoopConfiguration())  # noqa: SLF001


def exists(spark: SparkSession, path: str) -> bool:
    """Tell whether a file or folder is there."""
    _, where, system = _open(spark, path)
    return bool(system.exists(where))


def is_file(spark: SparkSession, path: str) -> bool:
    """Tell whether a path is one file (not a folder, not a glob)."""
    _, where, system = _open(spark, path)
    return bool(system.exists(where) and system.getFileStatus(where).isFile())


def matches(spark: SparkSession, pattern: str) -> bool:
    """Tell whether a glob matches any file or folder."""
    _, where, system = _open(spark, pattern)
    return bool(system.globStatus(where))


def read_bytes(spark: SparkSession, path: str) -> bytes:
    """Read a whole small file.

    Raises:
        DataError: if it is not there or is a folder.
    """
    jvm, where, system = _open(spark, path)
    if not system.exists(where):
        raise DataError(f"{path}: no such file")
    if system.getFileStatus(where).isDirectory():
        raise DataError(f"{path}: is a folder; a file is wanted")
    stream = system.open(where)
    try:
        return bytes(jvm.org.apache.commons.io.IOUtils.toByteArray(stream))
    finally:
        stream.close()


def version(spark: SparkSession, path: str) -> str:
    """Size and time of one file, whatever its name.

    Raises:
        DataError: if it is not there or is a folder.
    """
    if not is_file(spark, path):
        raise DataError(f"{path}: no such file")
    _, where, system = _open(spark, path)
    status = system.getFileStatus(where)
    return f"{status.getLen()}:{status.getModificationTime()}"


def fetch(spark: SparkSession, path: str, target: Path) -> None:
    """Copy a file of any size to the driver's disk.

    Raises:
        DataError: if it is not there or is a folder.
    """
    if not is_file(spark, path):
        raise DataError(f"{path}: no such file")
    jvm, where, system = _open(spark, path)
    system.copyToLocalFile(False, where, jvm.org.apache.hadoop.fs.Path(target.as_uri()), True)


def write_bytes(spark: SparkSession, path: str, content: bytes) -> None:
    """Write a whole small file so that a reader sees all of it or nothing (a rename where the store has one)."""
    jvm, where, system = _open(spark, path)
    part = jvm.org.apache.hadoop.fs.Path(f"{path}.part")
    stream = system.create(part, True)
    try:
        stream.write(content)
    finally:
        stream.close()
    system.delete(where, False)
    if not system.rename(part, where):
        raise OSError(f"{path}: could not be put in place")


def check_writable(spark: SparkSession, path: str) -> None:
    """Try to write below the nearest folder of an output that is there; nothing is left behind.

    Raises:
        DataError: it is a file, or cannot be written.
    """
    jvm, where, system = _open(spark, path)
    try:
        while not system.exists(where) and where.getParent() is not None:
            where = where.getParent()
        if system.exists(where) and system.getFileStatus(where).isFile():
            raise DataError(f"output: {where} is a file; a folder is wanted")
        probe = jvm.org.apache.hadoop.fs.Path(where, f".betr-spark-{uuid.uuid4().hex}")
        system.create(probe, False).close()
        system.delete(probe, False)
    except Py4JJavaError as error:
        reason = str(error.java_exception).splitlines()[0][:200]
        raise DataError(f"output: {path}: cannot be written ({reason})") from None


def delete(spark: SparkSession, path: str) -> None:
    """Delete a file or a folder with all below it; nothing happens where it is not there."""
    _, where, system = _open(spark, path)
    system.delete(where, True)


def children(spark: SparkSession, path: str) -> list[str]:
    """Names of what lies directly in a folder, sorted; empty where the folder is not there."""
    _, where, system = _open(spark, path)
    return sorted(str(s.getPath().getName()) for s in system.listStatus(where)) if system.exists(where) else []


def listing(spark: SparkSession, path: str) -> DataFrame:
    """List data files below a path or glob as (file, n_bytes, modified), without reading them.

    Raises:
        DataError: if the path is not there.
    """
    try:
        found = spark.read.format("binaryFile").load(path)
    except AnalysisException as error:
        raise DataError(f"{path}: no such file or folder ({error.getCondition()})") from None
    return found.select(
        F.col("path").alias("file"), F.col("length").alias("n_bytes"), F.col("modificationTime").alias("modified")
    )


def fingerprint(files: DataFrame) -> str:
    """Digest of a listing that does not depend on its order: count, bytes, and two sums of hashes."""
    row_hash = [F.xxhash64(F.lit(seed), "file", "n_bytes", "modified") for seed in (0, 1)]
    total = files.agg(
        F.count("*").alias("files"),
        F.coalesce(F.sum("n_bytes"), F.lit(0)).alias("bytes"),
        F.coalesce(F.bit_xor(row_hash[0]), F.lit(0)).alias("xor"),
        F.coalesce(F.sum(row_hash[1].cast("decimal(38,0)")), F.lit(0)).alias("sum"),
    ).first()
    assert total is not None
    return f"{total['files']} files, {total['bytes']} bytes, {total['xor']:x}, {total['sum']}"
