"""Check a fastText .bin before the library loads it, which crashes on a truncated file or reads memory as weights."""

import struct
from typing import BinaryIO, NamedTuple

from betr_spark.errors import ArtifactError

_MAGIC, _VERSION = 793712314, 12
_HEADER = struct.Struct("<2i12id3i2q")  # magic, version; 12 settings and a threshold; sizes of the dictionary
_ENTRY = struct.Struct("<qb")  # count and type after each NUL-terminated word or label
_SHAPE = struct.Struct("<2q")
_FLAG = struct.Struct("<?")
_DIM, _LOSS, _MODEL, _BUCKET, _MAXN, _ENTRIES, _PRUNED = 2, 8, 9, 10, 12, 15, 19  # positions in the header
_SUPERVISED, _LABEL = 3, 1
_LOSSES = {1: "hs", 2: "ns", 3: "softmax", 4: "ova"}
_MAX_ENTRIES = 2**31
_BYTES_AT_ONCE = 1 << 20


class ModelHeader(NamedTuple):
    """What the file says of a model: labels, loss (hs, ns, softmax, ova), longest character n-gram, and number of buckets."""

    labels: list[str]
    loss: str
    max_character_ngram: int
    n_buckets: int


def read_header(file: BinaryIO, *, n_bytes: int, name: str) -> ModelHeader:
    """Check that a file is a complete supervised fastText model with full matrices, without reading the matrices.

    Args:
        file: the file at its start; seekable.
        n_bytes: its size.
        name: of the file, for messages.

    Raises:
        ArtifactError: another format, an old version, quantised, word vectors only, or truncated.
    """
    try:
        header, expected = _follow(file, name)
    except struct.error:
        raise ArtifactError(f"{name}: truncated: {n_bytes} bytes are not a complete fastText model") from None
    if n_bytes < expected:
        raise ArtifactError(f"{name}: truncated: {n_bytes} bytes of {expected}")
    return header


def _follow(file: BinaryIO, name: str) -> tuple[ModelHeader, int]:
    """Read the header and follow the file's own sizes to its end; struct.error if the file ends before its matrices."""
    header = _HEADER.unpack(file.read(_HEADER.size))
    if header[0] != _MAGIC:
        raise ArtifactError(f"{name}: not a fastText model; a .bin file that fastText saved is required")
    if header[1] != _VERSION:
        raise ArtifactError(f"{name}: fastText format version {header[1]}; version {_VERSION} is required")
    if header[_MODEL] != _SUPERVISED:
        raise ArtifactError(f"{name}: a fastText model of word vectors; a supervised model is required")
    if not 0 <= header[_ENTRIES] < _MAX_ENTRIES:
        raise ArtifactError(f"{name}: damaged: {header[_ENTRIES]} words and labels")
    labels = _read_labels(file, header[_ENTRIES])
    file.seek(8 * max(0, header[_PRUNED]), 1)
    for matrix in ("input", "output"):
        (is_quantised,) = _FLAG.unpack(file.read(_FLAG.size))
        if is_quantised:
            raise ArtifactError(f"{name}: unsupported: a quantised fastText model; save it with full float32 matrices")
        rows, columns = _SHAPE.unpack(file.read(_SHAPE.size))
        if columns != header[_DIM] or rows < 0:
            raise ArtifactError(f"{name}: damaged: {matrix} matrix of {rows} x {columns}")
        file.seek(4 * rows * columns, 1)
    loss = _LOSSES.get(header[_LOSS], str(header[_LOSS]))
    return ModelHeader(labels, loss, header[_MAXN], header[_BUCKET]), file.tell()


def _read_labels(file: BinaryIO, count: int) -> list[str]:
    """Read past `count` words and labels and return the labels; struct.error if the file ends before that."""
    labels, buffer, at = [], b"", 0
    for _ in range(count):
        while (end := buffer.find(b"\0", at)) < 0 or len(buffer) < end + 1 + _ENTRY.size:
            more = file.read(_BYTES_AT_ONCE)
            if not more:
                raise struct.error
            buffer, at = buffer[at:] + more, 0
        _, entry_type = _ENTRY.unpack_from(buffer, end + 1)
        if entry_type == _LABEL:
            labels.append(buffer[at:end].decode("utf-8", "replace"))
        at = end + 1 + _ENTRY.size
    file.seek(at - len(buffer), 1)
    return labels
