"""The file of shared tables, which all processes of a machine map into memory and so share."""

import hashlib
import mmap
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from betr_spark.scoring.dsir import LogRatios
from betr_spark.scoring.ngram_table import SharedTable, SharedTables, Vocabulary

_ALIGNMENT = 64  # bytes, so that a row of eight or sixteen weights is in one cache line


class SharedTableFile(NamedTuple):
    """The layout of a file of shared tables.

    Attributes:
        name: name of the file, which contains the hash of its content.
        arrays: for each shared table, the type, the shape and the offset in bytes of each array, in the order of `_arrays`.
        word_ngrams: words of the longest n-gram of each shared table; 0 for log-ratios.
    """

    name: str
    arrays: list[list[tuple[str, tuple[int, ...], int]]]
    word_ngrams: list[int]


def write_shared_tables(shared_tables: SharedTables, folder: Path) -> SharedTableFile:
    """Write shared tables to a file in a folder, unless the file exists."""
    content = bytearray()
    arrays: list[list[tuple[str, tuple[int, ...], int]]] = []
    for shared_table in shared_tables:
        arrays.append([])
        for array in _arrays(shared_table):
            content += bytes(-len(content) % _ALIGNMENT)
            arrays[-1].append((array.dtype.str, array.shape, len(content)))
            content += np.ascontiguousarray(array).data.cast("B") if array.size else b""
    content += bytes(-len(content) % _ALIGNMENT or _ALIGNMENT)
    file = folder / f"betr-spark-shared-tables-{hashlib.sha256(content).hexdigest()[:32]}"
    if not file.exists():
        part = file.with_suffix(".part")
        part.write_bytes(content)
        part.rename(file)
    return SharedTableFile(
        file.name,
        arrays,
        [shared_table.word_ngrams if isinstance(shared_table, SharedTable) else 0 for shared_table in shared_tables],
    )


def _arrays(shared_table: SharedTable | LogRatios) -> tuple[NDArray[Any], ...]:
    if isinstance(shared_table, LogRatios):
        return tuple(shared_table)
    return (
        shared_table.columns,
        *shared_table.vocabulary,
        shared_table.word_weights,
        shared_table.word_counts,
        shared_table.bucket_weights,
    )


def map_shared_tables(layout: SharedTableFile, file: Path) -> list[SharedTable | LogRatios]:
    """Map the shared tables of a file from `write_shared_tables` into memory."""
    with file.open("rb") as opened:
        memory = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
    shared_tables: list[SharedTable | LogRatios] = []
    for arrays, word_ngrams in zip(layout.arrays, layout.word_ngrams, strict=True):
        mapped = [np.ndarray(shape, dtype, memory, offset) for dtype, shape, offset in arrays]
        if word_ngrams == 0:
            shared_tables.append(LogRatios(*mapped))
            continue
        shared_tables.append(
            SharedTable(mapped[0], Vocabulary(*mapped[1:7]), mapped[7], mapped[8], mapped[9], word_ngrams)
        )
    return shared_tables
