"""Read parts of a large file on any Hadoop file system from the driver."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, NamedTuple, cast

from pyspark.sql import SparkSession

from betr_spark.storage import hadoop_files

_BUFFER_BYTES = 1 << 20


class OpenFile(NamedTuple):
    """A seekable binary file and its size in bytes."""

    file: BinaryIO
    n_bytes: int


@contextmanager
def open_file(spark: SparkSession, path: str) -> Iterator[OpenFile]:
    """Open a file for reading at any position; only the parts that are read are transferred.

    Raises:
        DataError: the path does not exist or is a folder.
    """
    with hadoop_files.opened(spark, path) as (stream, n_bytes):
        raw = _HadoopInput(stream, n_bytes)
        yield OpenFile(cast(BinaryIO, io.BufferedReader(raw, _BUFFER_BYTES)), n_bytes)


class _HadoopInput(io.RawIOBase):
    """An FSDataInputStream as a Python file."""

    def __init__(self, stream: Any, n_bytes: int) -> None:
        self._stream, self._n_bytes, self._at = stream, n_bytes, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position, which may lie after the end of the file."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._n_bytes}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer as far as the file goes."""
        if self._at >= self._n_bytes:
            return 0
        self._stream.seek(self._at)
        data = bytes(self._stream.readNBytes(len(buffer)))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
