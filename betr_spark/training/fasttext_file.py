"""Look at a fastText .bin before the library does, which crashes on a file cut short or takes what memory held for weights."""

import struct
from pathlib import Path
from typing import BinaryIO

from betr_spark.errors import ArtifactError

_MAGIC, _VERSION = 793712314, 12
_HEADER = struct.Struct("<2i12id3i2q")  # magic, version; 12 settings and a threshold; sizes of the dictionary
_ENTRY = struct.Struct("<qb")  # behind each NUL-terminated word or label
_SHAPE = struct.Struct("<2q")
_FLAG = struct.Struct("<?")
_DIM, _MODEL, _ENTRIES, _PRUNED = 2, 9, 15, 19  # places in the header
_SUPERVISED = 3
_MOST_ENTRIES = 2**31
_BYTES_AT_ONCE = 1 << 20


def check_model_file(path: Path, *, name: str) -> None:
    """Refuse what is no whole fastText model with full matrices.

    Args:
        path: the file.
        name: of it, for messages.

    Raises:
        ArtifactError: another format, an old version, quantised, word vectors alone, or cut short.
    """
    size = path.stat().st_size
    try:
        expected = _expected_bytes(path, name)
    except struct.error:
        raise ArtifactError(f"{name}: cut short: {size} bytes are no whole fastText model") from None
    if size < expected:
        raise ArtifactError(f"{name}: cut short: {size} bytes of {expected}")


def _expected_bytes(path: Path, name: str) -> int:
    """Follow the file's own sizes; struct.error where it ends before its matrices."""
    with path.open("rb") as file:
        header = _HEADER.unpack(file.read(_HEADER.size))
        if header[0] != _MAGIC:
            raise ArtifactError(f"{name}: not a fastText model (a .bin that fastText saved is wanted)")
        if header[1] != _VERSION:
            raise ArtifactError(f"{name}: fastText format version {header[1]}; {_VERSION} is wanted")
        if header[_MODEL] != _SUPERVISED:
            raise ArtifactError(f"{name}: a fastText model of word vectors; a supervised one is wanted")
        if not 0 <= header[_ENTRIES] < _MOST_ENTRIES:
            raise ArtifactError(f"{name}: damaged: {header[_ENTRIES]} words and labels")
        _skip_entries(file, header[_ENTRIES])
        file.seek(8 * max(0, header[_PRUNED]), 1)
        for what in ("input", "output"):
            (is_quantised,) = _FLAG.unpack(file.read(_FLAG.size))
            if is_quantised:
                raise ArtifactError(
                    f"{name}: a quantised fastText model does not fold; full float32 matrices are wanted"
                )
            rows, columns = _SHAPE.unpack(file.read(_SHAPE.size))
            if columns != header[_DIM] or rows < 0:
                raise ArtifactError(f"{name}: damaged: {what} matrix of {rows} x {columns}")
            file.seek(4 * rows * columns, 1)
        return file.tell()


def _skip_entries(file: BinaryIO, count: int) -> None:
    """Go past the words and labels; struct.error where the file ends before."""
    held, at = b"", 0
    for _ in range(count):
        while (end := held.find(b"\0", at)) < 0 or len(held) < end + 1 + _ENTRY.size:
            more = file.read(_BYTES_AT_ONCE)
            if not more:
                raise struct.error
            held, at = held[at:] + more, 0
        at = end + 1 + _ENTRY.size
    file.seek(at - len(held), 1)
