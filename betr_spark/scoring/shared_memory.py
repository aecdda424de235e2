"""The file of shared tables, which all processes of a machine map into memory and so share."""

from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from betr_spark.scoring.dsir import LogRatios
from betr_spark.scoring.ngram_table import SharedTable, SharedTables, Vocabulary
from betr_spark.storage.mapped_arrays import ArrayFile, map_arrays, write_arrays


class SharedTableFile(NamedTuple):
    """The layout of a file of shared tables.

    Attributes:
        file: the arrays of all shared tables, in the order of `_arrays`.
        word_ngrams: words of the longest n-gram of each shared table; 0 for log-ratios.
    """

    file: ArrayFile
    word_ngrams: list[int]

    @property
    def name(self) -> str:
        """Name of the file, which contains the hash of its content."""
        return self.file.name


def write_shared_tables(shared_tables: SharedTables, folder: Path) -> SharedTableFile:
    """Write shared tables to a file in a folder, unless the file exists."""
    arrays = [array for shared_table in shared_tables for array in _arrays(shared_table)]
    return SharedTableFile(
        write_arrays(arrays, folder, prefix="betr-spark-shared-tables"),
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
    mapped = iter(map_arrays(layout.file, file))
    shared_tables: list[SharedTable | LogRatios] = []
    for word_ngrams in layout.word_ngrams:
        if word_ngrams == 0:
            shared_tables.append(LogRatios(*(next(mapped) for _ in LogRatios._fields)))
            continue
        columns, vocabulary = next(mapped), Vocabulary(*(next(mapped) for _ in Vocabulary._fields))
        shared_tables.append(SharedTable(columns, vocabulary, next(mapped), next(mapped), next(mapped), word_ngrams))
    return shared_tables
