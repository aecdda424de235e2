"""A folded binary fastText model: one float32 a word and a bucket (method 4)."""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from betr_spark.corpus.kernel import jit

FNV_START, FNV_PRIME = np.uint32(2166136261), np.uint32(16777619)
END_OF_LINE = "</s>"


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
    """

    words: NDArray[np.uint8]
    word_offsets: NDArray[np.int64]
    word_weights: NDArray[np.float32]
    bucket_weights: NDArray[np.float32]
    word_ngrams: int

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

    @property
    def nbytes(self) -> int:
        """Memory of the arrays, bytes."""
        return sum(int(array.nbytes) for array in self.arrays().values())

    @cached_property
    def slots(self) -> NDArray[np.uint64]:
        """Open-addressing table of hash << 32 | word + 1, 0 where empty; a power of two, at most half full.

        A word lies at its hash & (size - 1), or in the next free slot after that.
        """
        size = 1 << max(4, (2 * len(self.word_weights)).bit_length())
        return _slots(self.words, self.word_offsets, size)

    @cached_property
    def end_of_line_weight(self) -> float | None:
        """Weight of `</s>`; None where the vocabulary lacks it."""
        end, slots = END_OF_LINE.encode(), self.slots
        at = fnv1a(end) & (len(slots) - 1)
        while slots[at]:
            word = (int(slots[at]) & 0xFFFFFFFF) - 1
            if self.words[self.word_offsets[word] : self.word_offsets[word + 1]].tobytes() == end:
                return float(self.word_weights[word])
            at = (at + 1) & (len(slots) - 1)
        return None


@jit
def _slots(words: NDArray[np.uint8], word_offsets: NDArray[np.int64], size: int) -> NDArray[np.uint64]:
    slots = np.zeros(size, np.uint64)
    for word in range(len(word_offsets) - 1):
        value = FNV_START
        for i in range(word_offsets[word], word_offsets[word + 1]):
            value = np.uint32((value ^ np.uint32(np.int32(np.int8(words[i])))) * FNV_PRIME)
        at = np.int64(value) & (size - 1)
        while slots[at] != 0:
            at = (at + 1) & (size - 1)
        slots[at] = (np.uint64(value) << np.uint64(32)) | np.uint64(word + 1)
    return slots
