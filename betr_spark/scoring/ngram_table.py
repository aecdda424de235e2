"""Folded binary fastText models: one float32 a word and a bucket (method 4); one alone, and several side by side."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from betr_spark.errors import ArtifactError
from betr_spark.kernels.jit import jit
from betr_spark.kernels.token_runs import first_eight
from betr_spark.scoring.dsir import LogRatios, LogRatioTable, side_by_side

FNV_START, FNV_PRIME = np.uint32(2166136261), np.uint32(16777619)
END_OF_LINE = "</s>"
LONGEST = 255  # bytes of a word, as the quick comparison of lengths knows them
MOST_BUCKETS = 1 << 28  # what the kernel's remainder is exact for; they would take 1 GB
_SLOTS_PER_WORD = 2


def fnv1a(token: bytes) -> int:
    """Hash a token as fastText does: 32-bit FNV-1a, each byte sign-extended before the XOR."""
    value = 2166136261
    for byte in token:
        value = ((value ^ (byte | (0xFFFFFF00 if byte >= 0x80 else 0))) * 16777619) & 0xFFFFFFFF
    return value


@dataclasses.dataclass(frozen=True)
class NgramTable:
    """The vocabulary and the weights.

    Attributes:
        words: UTF-8 bytes of all words, one after the other, uint8.
        word_offsets: start of each word in `words`, and the end, int64 [n_words + 1].
        word_weights: float32 [n_words]; `</s>` is a word where the model has it.
        bucket_weights: float32 [bucket].
        word_ngrams: longest n-gram of words, >= 1.

    Raises:
        ArtifactError: n-grams of no word, or n-grams without a bucket.
    """

    words: NDArray[np.uint8]
    word_offsets: NDArray[np.int64]
    word_weights: NDArray[np.float32]
    bucket_weights: NDArray[np.float32]
    word_ngrams: int

    def __post_init__(self) -> None:
        if self.word_ngrams < 1 or (self.word_ngrams > 1 and len(self.bucket_weights) == 0):
            raise ArtifactError(
                f"n-gram table: {len(self.bucket_weights)} buckets for n-grams of up to {self.word_ngrams} words; "
                "n-grams begin at 1, and those of 2 and more want a bucket"
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
        """Make a table from words in the order of their weights."""
        encoded = [word.encode("utf-8", "surrogateescape") for word in words]
        offsets = np.cumsum([0, *(len(word) for word in encoded)], dtype=np.int64)
        return cls(np.frombuffer(b"".join(encoded), np.uint8), offsets, word_weights, bucket_weights, word_ngrams)

    def arrays(self) -> dict[str, Any]:
        """Arrays by name, for an npz."""
        return {field.name: np.asarray(getattr(self, field.name)) for field in dataclasses.fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Self:
        """Undo `arrays`.

        Raises:
            KeyError: an array is missing.
        """
        values = {field.name: arrays[field.name] for field in dataclasses.fields(cls)}
        return cls(**{**values, "word_ngrams": int(values["word_ngrams"])})

    def word_bytes(self) -> list[bytes]:
        """The words, in the order of their weights."""
        raw = self.words.tobytes()
        return [raw[a:b] for a, b in itertools.pairwise(self.word_offsets.tolist())]

    @property
    def nbytes(self) -> int:
        """Memory of the arrays, bytes."""
        return sum(int(array.nbytes) for array in self.arrays().values())


class Vocabulary(NamedTuple):
    """The V words that any model of a shared_table knows, and an index of them.

    words: UTF-8 bytes of the words, one after the other, uint8.
    offsets: start of each word in `words`, and the end, int64 [V + 1].
    prefixes: first eight bytes of each word, little-endian, uint64 [V + 1]; entry 0 stands for every unknown word.
    tails: its next eight bytes, uint64 [V + 1].
    lengths: its bytes, or LONGEST where they are more, uint8 [V + 1].
    slots: open addressing: number of a word + 1, 0 where empty, uint32 [a power of two]. A word lies at its
        FNV hash & (size - 1), or in the next free slot after that.
    """

    words: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    prefixes: NDArray[np.uint64]
    tails: NDArray[np.uint64]
    lengths: NDArray[np.uint8]
    slots: NDArray[np.uint32]


class SharedTable(NamedTuple):
    """K folded models of one bucket count and one n-gram length, side by side, so that one look-up serves them all.

    columns: place of each model among the tables that were stacked, int64 [K].
    vocabulary: the words that any of the models knows.
    word_weights: float32 [V + 1, K], 0 where a model does not know the word, as in row 0.
    word_counts: 1 where the model knows the word, uint8 [V + 1, K], or [V + 1, 1] where all know the same words.
    bucket_weights: float32 [buckets, K].
    word_ngrams: longest n-gram of words.
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
    """Make a table of either kind from its `arrays`.

    Raises:
        KeyError: an array is missing.
    """
    return LogRatioTable.from_arrays(arrays) if "log_ratios" in arrays else NgramTable.from_arrays(arrays)


def stack(tables: Sequence[Table]) -> list[SharedTable | LogRatios]:
    """Put the tables that share bucket count and n-gram length side by side.

    A model's logits do not depend on its neighbours in a shared_table.
    """
    alike: dict[tuple[int, int], list[tuple[int, NgramTable]]] = {}
    for column, table in enumerate(tables):
        if isinstance(table, NgramTable):
            alike.setdefault((len(table.bucket_weights), table.word_ngrams), []).append((column, table))
    shared_tables = [
        _shared_table([table for _, table in same], [column for column, _ in same]) for same in alike.values()
    ]
    ratios = {column: table for column, table in enumerate(tables) if isinstance(table, LogRatioTable)}
    return [*shared_tables, *side_by_side(list(ratios.values()), list(ratios))]


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
