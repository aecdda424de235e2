"""The user's documents: their format, a few rows, and about how many there are.

Files of this machine are read without Spark. A Delta table, and files on other file systems, are read by Spark.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from betr_spark.corpus.listing import FILE, N_BYTES, Listing
from betr_spark.draft.lines import SampledLines, objects_of, sampled_lines
from betr_spark.draft.local_files import (
    JSON_NAMES,
    REQUIRED,
    Format,
    check_no_dataset,
    data_files,
    folder_keys,
    glob_of,
    local_path,
    of_one_format,
)
from betr_spark.errors import DataError
from betr_spark.storage import delta

ROWS = 1_000
_FILES_READ, _FOOTERS_READ = 5, 200

Row = dict[str, Any]


class Documents(NamedTuple):
    """What was found.

    Attributes:
        path: for `input.path`: that of the user, or a glob of the files that can be read.
        format: for `input.format`.
        rows: some of them.
        n_documents: about how many there are.
        folders: keys of `key=value` folders.
    """

    path: str
    format: Format
    rows: list[Row]
    n_documents: int
    folders: list[str]


def look_at(path: str, session: Callable[[], SparkSession]) -> Documents:
    """Look at documents.

    Args:
        path: a file, folder, glob, or Delta table, or its URI.
        session: gives Spark's session, where it is necessary.

    Raises:
        DataError: there is nothing, the format is not one of those that can be read, or a file is damaged.
    """
    here = local_path(path)
    if here is None or "{" in here:  # Python's globs have no alternatives
        return _by_spark(session(), path)
    if (Path(here) / "_delta_log").is_dir():
        return _table(session(), path)
    if (Path(here).parent / "_delta_log").is_dir():
        raise DataError(f"documents: {path}: is a file of a Delta table; name the table's folder")
    check_no_dataset(path, here)
    files = data_files(here)
    if not files:
        nothing = "has no files with data" if Path(here).exists() else "no such file or folder"
        raise DataError(f"documents: {path}: {nothing}")
    usable, kind = of_one_format(path, files)
    rows, n_documents = _rows_of_files(usable, kind)
    if not rows:
        raise DataError(f"documents: {path}: the files have no rows")
    pattern = path if len(usable) == len(files) else glob_of(path, here, usable, files)
    return Documents(pattern, kind, rows, n_documents, folder_keys(here, usable))


def _rows_of_files(files: Sequence[str], kind: Format) -> tuple[list[Row], int]:
    """Rows of some files, and about the number of all rows."""
    chosen = files[:: max(1, len(files) // _FILES_READ)][:_FILES_READ]
    if kind == "parquet":
        rows = [row for file in chosen for row in _parquet_rows(file, -(-ROWS // len(chosen)))]
        footers = files[:: max(1, len(files) // _FOOTERS_READ)]
        counted = sum(_opened(file).metadata.num_rows for file in footers)
        return rows, round(counted * len(files) / len(footers))
    count = -(-ROWS // len(chosen))
    sampled = [sampled_lines(file, n_lines=count) for file in chosen]
    rows = [row for file, found in zip(chosen, sampled, strict=True) for row in objects_of(found.lines[:count], file)]
    return rows, _number_of_lines(sampled, sum(Path(file).stat().st_size for file in files), len(files) == len(chosen))


def _number_of_lines(sampled: Sequence[SampledLines], n_bytes: int, all_read: bool) -> int:
    if all_read and all(lines.is_whole for lines in sampled):
        return sum(len(lines.lines) for lines in sampled)
    read = sum(lines.bytes_in_file for lines in sampled)
    return max(1, round(sum(len(lines.lines) for lines in sampled) * n_bytes / max(1, read)))


def _opened(file: str) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(file)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _unreadable(file, error) from None


def _parquet_rows(file: str, count: int) -> Iterator[Row]:
    try:
        with _opened(file) as opened:
            batches = opened.iter_batches(batch_size=count)
            yield from (row for batch in islice(batches, 1) for row in batch.to_pylist())
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise _unreadable(file, error) from None


def _unreadable(file: str, error: Exception) -> DataError:
    if isinstance(error, DataError):
        return error
    return DataError(f"documents: {file}: not a readable Parquet file ({' '.join(str(error).split())[:200]})")


def _table(spark: SparkSession, path: str) -> Documents:
    rows = delta.read(spark, path)
    some = rows.limit(ROWS).toArrow().to_pylist()
    if not some:
        raise DataError(f"documents: {path}: the Delta table has no rows")
    return Documents(path, "delta", some, rows.count(), [])  # the count is in the table's log


def _by_spark(spark: SparkSession, path: str) -> Documents:
    """Documents of any file system that Spark reads; files of a second format are found by `betr-spark check`."""
    if delta.exists(spark, path):
        return _table(spark, path)
    files = Listing.of(spark, path).files.where(F.col(N_BYTES) > 0)
    first = files.orderBy(FILE).first()
    if first is None:
        raise DataError(f"documents: {path}: has no files with data")
    name = unquote(first[FILE]).lower()
    reader = spark.read.option("recursiveFileLookup", "true")
    if name.endswith(".parquet"):
        table = reader.parquet(path)
        rows, count = table.limit(ROWS).toArrow().to_pylist(), table.count()  # of the footers
        kind: Format = "parquet"
    elif any(suffix in name for suffix in JSON_NAMES):
        lines = [row[0] for row in reader.text(path).limit(ROWS).collect()]  # bounded
        rows, kind = objects_of([line.encode() for line in lines], first[FILE]), "json"
        size = files.agg(F.sum(N_BYTES)).first()
        average = sum(len(line.encode()) + 1 for line in lines) / max(1, len(lines))
        count = len(lines) if len(lines) < ROWS else round((size[0] if size else 0) / average)
    else:
        raise DataError(f"documents: {unquote(first[FILE])}: files of this kind cannot be read; {REQUIRED}")
    if not rows:
        raise DataError(f"documents: {path}: the files have no rows")
    return Documents(path, kind, rows, count, [])
