"""Banks of scorers in a file that the processes of a machine map into their memory, and so share."""

import hashlib
import mmap
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from betr_spark.scoring.dsir import LogRatios
from betr_spark.scoring.ngram_table import Bank, Banks, Vocabulary

_ALIGNMENT = 64  # a row of eight or sixteen weights lies in one line of the cache


class BankFile(NamedTuple):
    """Banks in a file that processes of a machine map into their memory and so share; its name tells its content.

    arrays: of each bank, the type, the shape and the place in the file of `columns`, of the vocabulary's arrays, and of the
    weights. word_ngrams: of each bank; 0 for log-ratios.
    """

    name: str
    arrays: list[list[tuple[str, tuple[int, ...], int]]]
    word_ngrams: list[int]


def write_banks(banks: Banks, folder: Path) -> BankFile:
    """Write banks to a file in a folder, unless it is there."""
    content = bytearray()
    arrays: list[list[tuple[str, tuple[int, ...], int]]] = []
    for bank in banks:
        arrays.append([])
        for array in _arrays(bank):
            content += bytes(-len(content) % _ALIGNMENT)
            arrays[-1].append((array.dtype.str, array.shape, len(content)))
            content += np.ascontiguousarray(array).data.cast("B") if array.size else b""
    content += bytes(-len(content) % _ALIGNMENT or _ALIGNMENT)
    file = folder / f"betr-spark-banks-{hashlib.sha256(content).hexdigest()[:32]}"
    if not file.exists():
        part = file.with_suffix(".part")
        part.write_bytes(content)
        part.rename(file)
    return BankFile(file.name, arrays, [bank.word_ngrams if isinstance(bank, Bank) else 0 for bank in banks])


def _arrays(bank: Bank | LogRatios) -> tuple[NDArray[Any], ...]:
    if isinstance(bank, LogRatios):
        return tuple(bank)
    return (bank.columns, *bank.vocabulary, bank.word_weights, bank.word_counts, bank.bucket_weights)


def map_banks(places: BankFile, file: Path) -> list[Bank | LogRatios]:
    """Map the banks of a file that `write_banks` made."""
    with file.open("rb") as opened:
        memory = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
    banks: list[Bank | LogRatios] = []
    for arrays, word_ngrams in zip(places.arrays, places.word_ngrams, strict=True):
        found = [np.ndarray(shape, kind, memory, place) for kind, shape, place in arrays]
        if word_ngrams == 0:
            banks.append(LogRatios(*found))
            continue
        banks.append(Bank(found[0], Vocabulary(*found[1:7]), found[7], found[8], found[9], word_ngrams))
    return banks
