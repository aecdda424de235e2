"""What a format of an export is, and how the writer of a shard hands on the bytes of its files."""

import io
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, ClassVar, NamedTuple

import pyarrow as pa


class Payload(Enum):
    """What a writer is given of each document."""

    LINE = "line"
    """One column, `line`: all columns as a JSON object."""
    COLUMNS = "columns"
    """All columns."""
    TEXT = "text"
    """The text alone."""


class Piece(NamedTuple):
    """The next bytes of one of a shard's files."""

    suffix: str
    content: bytes


class ShardWriter(ABC):
    """Writes the documents of one shard. The bytes depend on the rows, not on how they are cut into batches."""

    @abstractmethod
    def add(self, batch: pa.RecordBatch) -> Iterator[Piece]:
        """Take the next documents, in their order."""

    @abstractmethod
    def finish(self) -> Iterator[Piece]:
        """End the files. Each one ends with the format's `separator`."""

    def figures(self) -> dict[str, int]:
        """Numbers for the manifest that only the writer knows."""
        return {}


class Format(ABC):
    """A format: small, and sent to the executors.

    Attributes:
        name: as `--format` takes it.
        suffixes: of the files of a shard; the first is the main one.
        separator: the character that each file ends with, see `storage/byte_files.py`.
        payload: what the writer is given.
        modules: optional packages that the driver and the executors need, by the name of their module.
    """

    name: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    separator: ClassVar[str] = "\0"
    payload: ClassVar[Payload] = Payload.COLUMNS
    modules: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def writer(self) -> ShardWriter:
        """Start a shard."""

    def problems(self, schema: pa.Schema) -> Iterator[str]:  # noqa: ARG002
        """Columns that the format cannot hold, one line each."""
        return iter(())

    def settings(self) -> dict[str, Any]:
        """What the bytes depend on besides the rows, for the manifest."""
        return {}

    def more_files(self, schema: pa.Schema, names: Sequence[str], digest: str) -> Mapping[str, bytes]:  # noqa: ARG002
        """Small files that belong to the whole export, by name.

        Args:
            schema: of the columns.
            names: of the shards' main files, in order.
            digest: of the export's settings, hexadecimal.
        """
        return {}


class Sink(io.RawIOBase):
    """A binary file for libraries that write to one; `take` gives what was written since."""

    def __init__(self) -> None:
        super().__init__()
        self._buffer, self._n_bytes = bytearray(), 0

    def writable(self) -> bool:
        """True."""
        return True

    def write(self, data: Any) -> int:
        """Keep a copy."""
        before = len(self._buffer)
        self._buffer += memoryview(data)
        self._n_bytes += len(self._buffer) - before
        return len(self._buffer) - before

    def tell(self) -> int:
        """Bytes that were written."""
        return self._n_bytes

    def take(self) -> bytes:
        """What was written since the last call."""
        content, self._buffer = bytes(self._buffer), bytearray()
        return content
