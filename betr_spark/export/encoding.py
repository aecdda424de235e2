"""The work of a task: documents of a shard in, the bytes of its files and a record of them out, as rows."""

import hashlib
import json
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from betr_spark import extras
from betr_spark.export.formats import Format, Piece

ROW_BYTES = 2**20
RECORD = ".record"
SHARD = "export shard"
_SCHEMA = pa.schema([("file", pa.string()), ("part", pa.int32()), ("content", pa.binary())])


def shard_name(number: int) -> str:
    """Name of a shard, without a suffix."""
    return f"shard-{number:05d}"


def encode(batches: Iterator[pa.RecordBatch], output_format: Format) -> Iterator[pa.RecordBatch]:
    """Encode shards.

    Held in memory: an input batch, what the format's writer holds, and up to 1 MiB of each file, or as much as there is
    between two separators.

    Args:
        batches: column `SHARD`, and the format's payload. The rows of a shard follow each other.
        output_format: of the files.

    Returns:
        Rows of `storage.byte_files`: for each shard its files, and a file `NAME.record` (JSON: number, rows, figures, files).

    Raises:
        SetupError: the interpreter of this worker lacks a package of the format.
    """
    subject = f"export: {sys.executable}: --format {output_format.name}"
    extras.require(*output_format.modules, extra="export", subject=subject)
    shard: _Shard | None = None
    for batch in batches:
        numbers = batch.column(SHARD).to_numpy()
        starts = np.flatnonzero(np.diff(numbers, prepend=-1))
        payload = batch.select([name for name in batch.schema.names if name != SHARD])
        for start, end in zip(starts, [*starts[1:], len(numbers)], strict=True):
            number = int(numbers[start])
            if shard is None or shard.number != number:
                if shard is not None:
                    yield from shard.finish()
                shard = _Shard(number, output_format)
            yield from shard.add(payload.slice(start, end - start))
    if shard is not None:
        yield from shard.finish()


class _Shard:
    """The files of a shard while they are written."""

    def __init__(self, number: int, output_format: Format) -> None:
        self.number, self._rows, self._separator = number, 0, output_format.separator.encode()
        self._writer = output_format.writer()
        self._files = {suffix: ByteRows(self._name(suffix), self._separator) for suffix in output_format.suffixes}

    def add(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        self._rows += batch.num_rows
        yield from self._rows_of(self._writer.add(batch))

    def finish(self) -> Iterator[pa.RecordBatch]:
        yield from self._rows_of(self._writer.finish())
        for file in self._files.values():
            yield from file.finish()
        files = [file.described() for file in self._files.values()]
        record = {"number": self.number, "rows": self._rows, "figures": self._writer.figures(), "files": files}
        described = ByteRows(self._name(RECORD), self._separator)
        yield from described.add(json.dumps(record).encode() + self._separator)
        yield from described.finish()

    def _rows_of(self, pieces: Iterator[Piece]) -> Iterator[pa.RecordBatch]:
        for piece in pieces:
            yield from self._files[piece.suffix].add(piece.content)

    def _name(self, suffix: str) -> str:
        return shard_name(self.number) + suffix


class ByteRows:
    """Cuts a file into rows that end where a separator follows; see `storage.byte_files`."""

    def __init__(self, name: str, separator: bytes) -> None:
        self._name, self._separator = name, separator
        self._rest, self._part, self._n_bytes, self._sha256 = bytearray(), 0, 0, hashlib.sha256()

    def add(self, content: bytes) -> Iterator[pa.RecordBatch]:
        """Take the next bytes, and yield the rows that they complete."""
        self._n_bytes += len(content)
        self._sha256.update(content)
        searched = max(ROW_BYTES, len(self._rest))
        self._rest += content
        while (end := self._rest.find(self._separator, searched)) >= 0:
            yield self._row(end)
            searched = ROW_BYTES

    def finish(self) -> Iterator[pa.RecordBatch]:
        """Yield the last row.

        Raises:
            ValueError: the file does not end with the separator.
        """
        if not self._rest and self._part:  # the last row ended with the file
            return
        if not self._rest.endswith(self._separator):
            raise ValueError(f"{self._name}: ends with {bytes(self._rest[-4:])!r}, not with {self._separator!r}")
        yield self._row(len(self._rest) - 1)

    def described(self) -> dict[str, Any]:
        """Name, size and hash of what was added."""
        return {"name": self._name, "bytes": self._n_bytes, "sha256": self._sha256.hexdigest()}

    def _row(self, end: int) -> pa.RecordBatch:
        content = bytes(self._rest[:end])
        del self._rest[: end + 1]
        self._part += 1
        return pa.record_batch([[self._name], [self._part], [content]], schema=_SCHEMA)
