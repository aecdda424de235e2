"""MinHash signatures and LSH band keys of word shingles, on raw UTF-8 bytes (method 4b)."""

import dataclasses
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from betr_spark.corpus.kernel import jit
from betr_spark.features.hashing import mix, rotate_left

_TOKEN_START = np.uint64(0x9E3779B97F4A7C15)
_TOKEN_PRIME = np.uint64(0x100000001B3)
_WORD, _LONE, _GAP = 0, 1, 2
_ALL_32 = np.uint32(0xFFFFFFFF)


class MinHashes(NamedTuple):
    """Sketches of n documents. Where `n_shingles` is 0 the document is shorter than a shingle and its rows mean nothing.

    signatures: uint32 [n, bands * rows]. band_keys: int64 [n, bands]. n_shingles: int32 [n], repetitions counted.
    """

    signatures: NDArray[np.uint32]
    band_keys: NDArray[np.int64]
    n_shingles: NDArray[np.int32]


@dataclasses.dataclass(frozen=True)
class MinHasher:
    """A sketch of bands * rows permutations; P(candidate | J) = 1 - (1 - J^rows)^bands.

    Attributes:
        ngram: tokens a shingle.
        bands: band keys a document.
        rows: signature values a band.
        seed: of the permutations.
    """

    ngram: int
    bands: int
    rows: int
    seed: int

    @property
    def n_permutations(self) -> int:
        """Values of a signature: bands * rows."""
        return self.bands * self.rows

    @cached_property
    def permutations(self) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        """(a, b) of x -> a x + b mod 2^32, a odd; uint32 [bands * rows] each."""
        draw = np.random.Generator(np.random.PCG64(self.seed))
        both = draw.integers(0, 2**32, size=(2, self.n_permutations), dtype=np.uint32)
        return both[0] | np.uint32(1), both[1]

    def __call__(self, data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> MinHashes:
        """Sketch documents.

        Args:
            data: bytes of all documents, uint8.
            offsets: int64 [n + 1].
        """
        a, b = self.permutations
        signatures, n_shingles = _signatures(data, offsets, a, b, self.ngram)
        return MinHashes(signatures, _band_keys(signatures, self.bands, self.rows), n_shingles)


def estimated_similarity(left: NDArray[np.uint32], right: NDArray[np.uint32]) -> NDArray[np.float32]:
    """Estimate Jaccard similarity: the share of equal positions of two signatures; [n, P] each, float32 [n]."""
    equal: NDArray[np.float32] = np.mean(left == right, axis=1, dtype=np.float32)
    return equal


@jit
def _code_point(data: NDArray[np.uint8], i: int, end: int) -> tuple[Any, int]:
    """Code point and length at a byte >= 0x80; (0, 1) where it is no UTF-8, so that no neighbour is swallowed."""
    b = np.int64(data[i])
    if b < 0xC2 or b > 0xF4:
        return 0, 1
    length = 2 if b < 0xE0 else 3 if b < 0xF0 else 4
    if i + length > end:
        return 0, 1
    value = b & (0x7F >> length)
    for k in range(1, length):
        following = np.int64(data[i + k])
        if following & 0xC0 != 0x80:
            return 0, 1
        value = (value << 6) | (following & 0x3F)
    return value, length


@jit
def _is_unspaced(c: int) -> bool:
    """Tell whether a character is of a script written without spaces: Thai, Lao, Myanmar, Khmer, Kana, Han."""
    if c < 0x0E00:
        return False
    if c < 0x2E80:
        return c <= 0x0EFF or 0x1000 <= c <= 0x109F or 0x1780 <= c <= 0x17FF or 0x19E0 <= c <= 0x19FF
    if c < 0x3040:
        return c <= 0x2FDF or 0x3005 <= c <= 0x3007 or 0x3021 <= c <= 0x3029 or 0x3038 <= c <= 0x303B
    if c < 0x3400:
        return c <= 0x30FF or 0x31F0 <= c <= 0x31FF or 0x32D0 <= c <= 0x32FE or 0x3300 <= c <= 0x3357
    if c < 0xF900:
        return c <= 0x4DBF or 0x4E00 <= c <= 0x9FFF or 0xA9E0 <= c <= 0xA9FF or 0xAA60 <= c <= 0xAA7F
    if c < 0x1AFF0:
        return c <= 0xFAFF or 0xFF66 <= c <= 0xFF9F
    return c <= 0x1AFFE or 0x1B000 <= c <= 0x1B16F or 0x20000 <= c <= 0x3FFFF


@jit
def _tokens(data: NDArray[np.uint8], start: int, end: int, hashes: NDArray[np.uint64]) -> int:
    """Fill the 64-bit hashes of a document's tokens; return their number."""
    count, inside = 0, False
    value = _TOKEN_START
    i = start
    while i < end:
        b = data[i]
        length = 1
        kind = _WORD
        if b < 0x80:
            if 0x41 <= b <= 0x5A:
                b = np.uint8(b + 32)
            elif not (0x61 <= b <= 0x7A or 0x30 <= b <= 0x39):
                kind = _GAP
        else:
            character, length = _code_point(data, i, end)
            if _is_unspaced(character):
                kind = _LONE
        if kind != _WORD and inside:
            hashes[count] = mix(value)
            count += 1
            inside = False
            value = _TOKEN_START
        if kind == _WORD:
            value = np.uint64((value ^ np.uint64(b)) * _TOKEN_PRIME)
            for k in range(1, length):
                value = np.uint64((value ^ np.uint64(data[i + k])) * _TOKEN_PRIME)
            inside = True
        elif kind == _LONE:
            for k in range(length):
                value = np.uint64((value ^ np.uint64(data[i + k])) * _TOKEN_PRIME)
            hashes[count] = mix(value)
            count += 1
            value = _TOKEN_START
        i += length
    if inside:
        hashes[count] = mix(value)
        count += 1
    return count


@jit
def _signatures(
    data: NDArray[np.uint8], offsets: NDArray[np.int64], a: NDArray[np.uint32], b: NDArray[np.uint32], ngram: int
) -> tuple[NDArray[np.uint32], NDArray[np.int32]]:
    n = len(offsets) - 1
    signatures = np.full((n, len(a)), _ALL_32, np.uint32)
    n_shingles = np.zeros(n, np.int32)
    longest = 0
    for document in range(n):
        longest = max(longest, offsets[document + 1] - offsets[document])
    hashes = np.empty(longest + 1, np.uint64)
    shingles = np.empty(longest + 1, np.uint32)
    for document in range(n):
        count = _tokens(data, offsets[document], offsets[document + 1], hashes) - ngram + 1
        if count <= 0:
            continue
        n_shingles[document] = count
        for s in range(count):
            value = np.uint64(0)
            for k in range(ngram):
                value = np.uint64((rotate_left(value, 23) ^ hashes[s + k]) * _TOKEN_START)
            shingles[s] = np.uint32(mix(value) >> np.uint64(32))
        for p in range(len(a)):  # one permutation over all shingles, which vectorises
            factor, shift, least = a[p], b[p], _ALL_32
            for s in range(count):
                least = min(least, np.uint32(factor * shingles[s] + shift))  # uint32 wraps; without it Numba widens
            signatures[document, p] = least
    return signatures, n_shingles


@jit
def _band_keys(signatures: NDArray[np.uint32], bands: int, rows: int) -> NDArray[np.int64]:
    n = len(signatures)
    keys = np.empty((n, bands), np.int64)
    for document in range(n):
        for band in range(bands):
            value = mix(np.uint64(band + 1))
            for row in range(rows):
                value = mix(value ^ np.uint64(signatures[document, band * rows + row])) + _TOKEN_START
            keys[document, band] = np.int64(mix(value))
    return keys
