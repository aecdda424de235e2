"""A folded binary fastText model: one float32 a word and a bucket (method 4)."""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

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
    def word_hashes(self) -> NDArray[np.uint32]:
        """fastText's hash of each word, uint32 [n_words]."""
        packed, offsets = self.words.tobytes(), self.word_offsets
        return np.array([fnv1a(packed[a:b]) for a, b in zip(offsets[:-1], offsets[1:], strict=True)], np.uint32)

    @cached_property
    def slots(self) -> NDArray[np.int32]:
        """Open-addressing table: the word at hash & (size - 1) or the next free slot after it, -1 where empty."""
        size = 1 << max(4, (2 * len(self.word_weights)).bit_length())
        slots = np.full(size, -1, np.int32)
        for word, value in enumerate(self.word_hashes.tolist()):
            at = value & (size - 1)
            while slots[at] >= 0:
                at = (at + 1) & (size - 1)
            slots[at] = word
        return slots

    @cached_property
    def end_of_line_weight(self) -> float | None:
        """Weight of `</s>`; None where the vocabulary lacks it."""
        packed, offsets = self.words.tobytes(), self.word_offsets
        end = END_OF_LINE.encode()
        for word in np.flatnonzero(self.word_hashes == fnv1a(end)).tolist():
            if packed[offsets[word] : offsets[word + 1]] == end:
                return float(self.word_weights[word])
        return None
