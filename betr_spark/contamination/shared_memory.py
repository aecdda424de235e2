"""The file of an index, which all processes of a machine map into memory and so share."""

from pathlib import Path
from typing import NamedTuple

from betr_spark.contamination.index import Index, NgramIndex
from betr_spark.contamination.items import Members
from betr_spark.storage.mapped_arrays import ArrayFile, map_arrays, write_arrays


class IndexFile(NamedTuple):
    """The description of an index without its arrays, which are in a file; small, so that tasks can carry it.

    Attributes:
        file: the arrays of `Index.ngrams` and of `Index.members`.
        benchmarks: names of the benchmarks.
        counts: the last four fields of `Index`.
    """

    file: ArrayFile
    benchmarks: tuple[str, ...]
    counts: tuple[int, int, int, int]

    @property
    def name(self) -> str:
        """Name of the file, which contains the hash of its content."""
        return self.file.name


def write_index(index: Index, folder: Path) -> IndexFile:
    """Write the arrays of an index to a file in a folder, unless the file exists."""
    file = write_arrays([*index.ngrams, *index.members], folder, prefix="betr-spark-test-items")
    counts = (index.n_ngrams, index.n_left_out, index.n_without_words, index.n_without_answer)
    return IndexFile(file, index.benchmarks, counts)


def map_index(description: IndexFile, file: Path) -> Index:
    """Map the index of a file from `write_index` into memory. Pages of the items' texts are read only where needed."""
    arrays = map_arrays(description.file, file)
    n = len(NgramIndex._fields)
    return Index(NgramIndex(*arrays[:n]), Members(*arrays[n:]), description.benchmarks, *description.counts)
