"""Arrays in a file that all processes of a machine map into memory and so share."""

import hashlib
import mmap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_ALIGNMENT = 64  # bytes, so that a row of eight or sixteen weights is in one cache line


class ArrayFile(NamedTuple):
    """The layout of a file of arrays.

    Attributes:
        name: name of the file, which contains the hash of its content.
        arrays: the type, the shape and the offset in bytes of each array.
    """

    name: str
    arrays: list[tuple[str, tuple[int, ...], int]]


def write_arrays(arrays: Sequence[NDArray[Any]], folder: Path, *, prefix: str) -> ArrayFile:
    """Write arrays to a file in a folder, unless the file exists. Its name begins with `prefix`."""
    digest = hashlib.sha256()
    for part in _content(arrays):
        digest.update(part)
    file = folder / f"{prefix}-{digest.hexdigest()[:32]}"
    if not file.exists():
        unfinished = file.with_suffix(".part")
        with unfinished.open("wb") as opened:
            opened.writelines(_content(arrays))
        unfinished.rename(file)
    offset, layout = 0, []
    for array in arrays:
        layout.append((array.dtype.str, array.shape, offset))
        offset += array.nbytes + -array.nbytes % _ALIGNMENT
    return ArrayFile(file.name, layout)


def _content(arrays: Sequence[NDArray[Any]]) -> Iterator[memoryview | bytes]:
    """Parts of the file, each array padded to the alignment; at least one byte, because an empty file cannot be mapped."""
    for array in arrays:
        if array.size:
            yield np.ascontiguousarray(array).data.cast("B")
            yield bytes(-array.nbytes % _ALIGNMENT)
    if not any(array.size for array in arrays):
        yield bytes(_ALIGNMENT)


def map_arrays(layout: ArrayFile, file: Path) -> list[NDArray[Any]]:
    """Map the arrays of a file from `write_arrays` into memory, read-only."""
    with file.open("rb") as opened:
        memory = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
    return [np.ndarray(shape, dtype, memory, offset) for dtype, shape, offset in layout.arrays]
