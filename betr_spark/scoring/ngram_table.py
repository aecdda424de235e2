"""Folded binary fastText models: one float32 for each word and bucket; single tables, and tables stacked in one."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from betr_spark.errors import ArtifactError
from betr_spark.kernels.jit import jit
from betr_spark.kernels.token_runs import first_eight
from betr_spark.scoring.dsir import LogRatios, LogRatioTable, stack_log_ratios

FNV_START, FNV_PRIME = np.uint32(2166136261), np.uint32(16777619)
END_OF_LINE = "</s>"
LONGEST = 255  # bytes: `Vocabulary.lengths` does not distinguish longer words
MAX_BUCKETS = 1 << 28  # the kernel computes exact remainders below it; so many buckets take 1 GB
_SLOTS_PER_WORD = 2


def fnv1a(token: bytes) -> int:
    """Hash a token as fastText does: 32-bit FNV-1a, each byte sign-extended before the XOR."""
    value = 2166136261
    for byte in token:
        value = ((value ^ (byte | (0xFFFFFF00 if byte >= 0x80 else 0))) * 16777619) & 0xFFFFFFFF
    return value


@dataclasses.dataclass(frozen=True)
class NgramTable:
    """The vocabulary and the weights of a folded model.

    Attributes:
        words: concatenated UTF-8 bytes of all words, uint8.
        word_offsets: start of each word in `words`, and the end, int64 [n_words + 1].
        word_weights: float32 [n_words]; `</s>` is a word if the model has it.
        bucket_weights: float32 [bucket].
        word_ngrams: words of the longest n-gram, >= 1.

    Raises:
        ArtifactError: `word_ngrams` is less than 1, or greater than 1 without a bucket.
    """

    words: NDArray[np.uint8]
    word_offsets: NDArray[np.int64]
    word_weights: NDArray[np.float32]
    bucket_weights: NDArray[np.float32]
    word_ngrams: int

    def __post_init__(self) -> None:
        if self.word_ngrams < 1 or (self.word_ngrams > 1 and len(self.bucket_weights) == 0):
            raise ArtifactError(
                f"n-gram table: found {len(self.bucket_weights)} buckets for n-grams of up to {self.word_ngrams} words; "
                "at least 1 word is required, and at least 1 bucket for n-grams of 2 or more words"
            )

    @classmethod
    def build(
        cls,
        words: Sequence[str],
        word_weights: NDArray[np.float32],
        bucket_weights: NDArray[np.float32],
        *,
        word_ngrams: int,
    ) -> Self:
        """Build a table from words in the order of their weights."""
        encoded = [word.encode("utf-8", "surrogateescape") for word in words]
        offsets = np.cumsum([0, *(len(word) for word in encoded)], dtype=np.int64)
        return cls(np.frombuffer(b"".join(encoded), np.uint8), offsets, word_weights, bucket_weights, word_ngrams)

    def arrays(self) -> dict[str, Any]:
        """Return the arrays by name, for an npz file."""
        return {field.name: np.asarray(getattr(self, field.name)) for field in dataclasses.fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Self:
        """Build a table from its `arrays`.

        Raises:
            KeyError: an array is missing.
        """
        values = {field.name: arrays[field.name] for field in dataclasses.fields(cls)}
        return cls(**{**values, "word_ngrams": int(values["word_ngrams"])})

    def word_bytes(self) -> list[bytes]:
        """Return the words in the order of their weights."""
        raw = self.words.tobytes()
        return [raw[a:b] for a, b in itertools.pairwise(self.word_offsets.tolist())]

    @property
    def nbytes(self) -> int:
        """Size of the arrays in bytes."""
        return sum(int(array.nbytes) for array in self.arrays().values())


class Vocabulary(NamedTuple):
    """The V words that any model of a shared table knows, and a hash index of them.

    Attributes:
        words: concatenated UTF-8 bytes of the words, uint8.
        offsets: start of each word in `words`, and the end, int64 [V + 1].
        prefixes: first eight bytes of each word as a little-endian number, uint64 [V + 1]; row 0 is for unknown words.
        tails: next eight bytes of each word, uint64 [V + 1].
        lengths: bytes of each word, at most LONGEST, uint8 [V + 1].
        slots: hash table with open addressing, uint32 [a power of two]: the row of a word, or 0 if the slot is empty. A word is
            in slot FNV hash & (size - 1), or in the next free slot after it.
    """

    words: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    prefixes: NDArray[np.uint64]
    tails: NDArray[np.uint64]
    lengths: NDArray[np.uint8]
    slots: NDArray[np.uint32]


class SharedTable(NamedTuple):
    """K folded models with the same bucket count and n-gram length, which share one look-up.

    Attributes:
        columns: column of each model in the logits, int64 [K].
        vocabulary: the words that any of the models knows.
        word_weights: float32 [V + 1, K]; 0 in row 0 and for the words that a model does not know.
        word_counts: 1 if the model knows the word, uint8 [V + 1, K], or [V + 1, 1] if all models know the same words.
        bucket_weights: float32 [buckets, K].
        word_ngrams: words of the longest n-gram.
    """

    columns: NDArray[np.int64]
    vocabulary: Vocabulary
    word_weights: NDArray[np.float32]
    word_counts: NDArray[np.uint8]
    bucket_weights: NDArray[np.float32]
    word_ngrams: int


Table = NgramTable | LogRatioTable
SharedTables = Sequence[SharedTable | LogRatios]


def table_of(arrays: Mapping[str, Any]) -> Table:
    """Build a table of either kind from its `arrays`.

    Raises:
        KeyError: an array is missing.
    """
    return LogRatioTable.from_arrays(arrays) if "log_ratios" in arrays else NgramTable.from_arrays(arrays)


def stack(tables: Sequence[Table]) -> list[SharedTable | LogRatios]:
    """Stack the tables that have the same bucket count and n-gram length.

    A model's logits do not depend on the other models of its shared table.
    """
    by_shape: dict[tuple[int, int], list[tuple[int, NgramTable]]] = {}
    for column, table in enumerate(tables):
        if isinstance(table, NgramTable):
            by_shape.setdefault((len(table.bucket_weights), table.word_ngrams), []).append((column, table))
    shared_tables = [
        _shared_table([table for _, table in group], [column for column, _ in group]) for group in by_shape.values()
    ]
    ratios = {column: table for column, table in enumerate(tables) if isinstance(table, LogRatioTable)}
    return [*shared_tables, *stack_log_ratios(list(ratios.values()), list(ratios))]


def _shared_table(tables: Sequence[NgramTable], columns: Sequence[int]) -> SharedTable:
    row_of: dict[bytes, int] = {}
    for table in tables:
        for word in table.word_bytes():
            row_of.setdefault(word, len(row_of) + 1)
    weights = np.zeros((len(row_of) + 1, len(tables)), np.float32)
    counts = np.zeros((len(row_of) + 1, len(tables)), np.uint8)
    for k, table in enumerate(tables):
        rows = np.array([row_of[word] for word in table.word_bytes()], np.int64)
        weights[rows, k], counts[rows, k] = table.word_weights, 1
    if (counts == counts[:, :1]).all():
        counts = counts[:, :1]
    words = np.frombuffer(b"".join(row_of), np.uint8)
    offsets = np.cumsum([0, *map(len, row_of)], dtype=np.int64)
    index = _index(words, offsets, 1 << max(4, (_SLOTS_PER_WORD * len(row_of)).bit_length()))
    buckets = np.stack([table.bucket_weights for table in tables], axis=1)
    vocabulary = Vocabulary(words, offsets, *index)
    return SharedTable(np.asarray(columns, np.int64), vocabulary, weights, counts, buckets, tables[0].word_ngrams)


@jit
def _index(
    words: NDArray[np.uint8], word_offsets: NDArray[np.int64], size: int
) -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint8], NDArray[np.uint32]]:
    prefixes, tails = np.zeros(len(word_offsets), np.uint64), np.zeros(len(word_offsets), np.uint64)
    lengths, slots = np.zeros(len(word_offsets), np.uint8), np.zeros(size, np.uint32)
    for word in range(len(word_offsets) - 1):
        start, end = word_offsets[word], word_offsets[word + 1]
        prefixes[word + 1] = first_eight(words, start, min(end - start, 8))
        tails[word + 1] = first_eight(words, start + 8, min(max(end - start - 8, 0), 8))
        lengths[word + 1] = min(end - start, LONGEST)
        value = FNV_START
        for i in range(start, end):
            value = np.uint32((value ^ np.uint32(np.int32(np.int8(words[i])))) * FNV_PRIME)
        at = np.int64(value) & (size - 1)
        while slots[at] != 0:
            at = (at + 1) & (size - 1)
        slots[at] = word + 1
    return prefixes, tails, lengths, slots
