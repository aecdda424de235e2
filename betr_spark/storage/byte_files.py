"""Files of any bytes that tasks write, on any Hadoop file system.

A Python worker cannot open files of Hadoop, and none of Spark's writers is for plain bytes. The writer of text is close to one:
it writes the bytes of each value and then a separator. So a file that ends with the separator can be given to it as rows: each
row is a part of the file up to a separator, without it. Rows do not end at every separator; they have about 1 MiB.
"""

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from betr_spark.errors import DataError
from betr_spark.spark.jvm import java_class
from betr_spark.storage import hadoop_files

FILE, PART, CONTENT = "file", "part", "content"
BYTE_FILES = f"{FILE} string, {PART} int, {CONTENT} binary"
_NAME = re.compile(rf"/{FILE}=([^/]+)/[^/]+$")
_FILES_AT_ONCE = 8


class StoredFile(NamedTuple):
    """Path and size of a file."""

    path: str
    n_bytes: int


def write_byte_files(rows: DataFrame, folder: str, *, separator: str) -> None:
    """Write files into a folder, one for each name; `staged_files` finds them.

    A file is there as a whole or not at all, also if the job is killed: with version 2 of Hadoop's committer each task moves
    its finished files to the folder. Committers that ignore this setting (S3A's own) do so at the end of the job.

    Args:
        rows: `BYTE_FILES`; all rows of a file in one partition.
        folder: of files that are not finished; it must not have files of these names.
        separator: the last character of every file, and left out at the end of each row.
    """
    in_order = rows.sortWithinPartitions(FILE, PART).select(FILE, F.col(CONTENT).cast("string").alias(CONTENT))
    writer = in_order.write.mode("append").partitionBy(FILE)
    options = {"lineSep": separator, "compression": "none", "mapreduce.fileoutputcommitter.algorithm.version": "2"}
    writer.options(**options, maxRecordsPerFile=0).text(folder)


def staged_files(spark: SparkSession, folder: str) -> dict[str, StoredFile]:
    """Files that `write_byte_files` has finished, by name; none where there is no folder."""
    if not hadoop_files.exists(spark, folder):
        return {}
    rows = hadoop_files.listing(spark, folder).select("file", "n_bytes").collect()  # a few a shard
    names = [(_NAME.search(row["file"]), row) for row in rows]
    return {match[1]: StoredFile(row["file"], row["n_bytes"]) for match, row in names if match}


def read_staged(spark: SparkSession, folder: str, *, suffix: str, separator: str) -> list[str]:
    """Read the small files of text among those that are finished, those whose names end with `suffix`."""
    if not any(name.endswith(suffix) for name in staged_files(spark, folder)):
        return []
    texts = spark.read.option("wholetext", True).text(f"{folder}/{FILE}=*{suffix}").select("value")
    return [row["value"].removesuffix(separator) for row in texts.collect()]  # one a shard


def delete_staged(spark: SparkSession, folder: str, names: set[str]) -> None:
    """Delete finished files, and whatever killed tasks left."""
    for child in hadoop_files.children(spark, folder):
        if child.removeprefix(f"{FILE}=") in names or not child.startswith(f"{FILE}="):
            hadoop_files.delete(spark, f"{folder}/{child}")


def sizes(spark: SparkSession, folder: str) -> dict[str, int]:
    """Sizes of the files directly in a folder, by name, without hidden ones; none where there is no folder."""
    if not hadoop_files.exists(spark, folder):
        return {}
    rows = hadoop_files.listing(spark, folder).select("file", "n_bytes").collect()  # a few a shard
    return {row["file"].rpartition("/")[2]: row["n_bytes"] for row in rows}


def move_files(spark: SparkSession, moves: dict[str, str]) -> None:
    """Move files within a file system, from key to value, some at once; what is there already is replaced.

    Raises:
        DataError: the file system refuses.
    """
    with ThreadPoolExecutor(_FILES_AT_ONCE) as threads:
        for _ in threads.map(lambda move: _move(spark, *move), moves.items()):
            pass


def sha256_of(spark: SparkSession, paths: Sequence[str]) -> list[str]:
    """Hash files, in hexadecimal, some at once. The driver's JVM reads them; nothing of them is held."""

    def digest(path: str) -> str:
        with hadoop_files.opened(spark, path) as (stream, _):
            return str(java_class(spark, "org.apache.commons.codec.digest.DigestUtils").sha256Hex(stream))

    with ThreadPoolExecutor(_FILES_AT_ONCE) as threads:
        return list(threads.map(digest, paths))


def _move(spark: SparkSession, source: str, target: str) -> None:
    old, system = hadoop_files.path_and_system(spark, source)
    new, _ = hadoop_files.path_and_system(spark, target)
    if str(system.getUri().getScheme()) == "file":
        system = system.getRawFileSystem()  # leaves Hadoop's checksum file behind
    if system.exists(new):
        system.delete(new, False)
    if not system.rename(old, new):
        raise DataError(f"{target}: cannot be written: the file system did not rename {source}")
