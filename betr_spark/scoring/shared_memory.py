"""SharedTables of scorers in a file that the processes of a machine map into their memory, and so share."""

import hashlib
import mmap
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from betr_spark.scoring.dsir import LogRatios
from betr_spark.scoring.ngram_table import SharedTable, SharedTables, Vocabulary

_ALIGNMENT = 64  # a row of eight or sixteen weights lies in one line of the cache


class SharedTableFile(NamedTuple):
    """SharedTables in a file that processes of a machine map into their memory and so share; its name tells its content.

    arrays: of each shared_table, the type, the shape and the place in the file of `columns`, of the vocabulary's
    arrays, and of the
    weights. word_ngrams: of each shared_table; 0 for log-ratios.
    """

    name: str
    arrays: list[list[tuple[str, tuple[int, ...], int]]]
    word_ngrams: list[int]


def write_shared_tables(shared_tables: SharedTables, folder: Path) -> SharedTableFile:
    """Write shared_tables to a file in a folder, unless it is there."""
    content = bytearray()
    arrays: list[list[tuple[str, tuple[int, ...], int]]] = []
    for shared_table in shared_tables:
        arrays.append([])
        for array in _arrays(shared_table):
            content += bytes(-len(content) % _ALIGNMENT)
            arrays[-1].append((array.dtype.str, array.shape, len(content)))
            content += np.ascontiguousarray(array).data.cast("B") if array.size else b""
    content += bytes(-len(content) % _ALIGNMENT or _ALIGNMENT)
    file = folder / f"betr-spark-shared_tables-{hashlib.sha256(content).hexdigest()[:32]}"
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


def map_shared_tables(places: SharedTableFile, file: Path) -> list[SharedTable | LogRatios]:
    """Map the shared_tables of a file that `write_shared_tables` made."""
    with file.open("rb") as opened:
        memory = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
    shared_tables: list[SharedTable | LogRatios] = []
    for arrays, word_ngrams in zip(places.arrays, places.word_ngrams, strict=True):
        found = [np.ndarray(shape, kind, memory, place) for kind, shape, place in arrays]
        if word_ngrams == 0:
            shared_tables.append(LogRatios(*found))
            continue
        shared_tables.append(SharedTable(found[0], Vocabulary(*found[1:7]), found[7], found[8], found[9], word_ngrams))
    return shared_tables
