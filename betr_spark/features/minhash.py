"""MinHash signatures and LSH band keys of word shingles, on raw UTF-8 bytes (method 4b)."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from betr_spark.corpus.jit import jit
from betr_spark.corpus.kernel import behind_eight, first_eight, heads_of, places, slices, token_runs
from betr_spark.features.hashing import mix

_BYTES_AT_ONCE = 1 << 17
_STEP = np.uint64(0x9E3779B97F4A7C15)
_ALL_32 = np.uint32(0xFFFFFFFF)
_32, _LOW_32 = np.uint64(32), np.uint64(0xFFFFFFFF)
_LOW_BITS, _TOP_BITS = np.uint64(0x7F7F7F7F7F7F7F7F), np.uint64(0x8080808080808080)
_FROM_A = np.uint64(0x01010101_01010101 * (0x80 - ord("A")))
_ABOVE_Z = np.uint64(0x01010101_01010101 * (0x80 - ord("Z") - 1))


class MinHashes(NamedTuple):
    """Sketches of n documents. Where `n_shingles` is 0 the document is shorter than a shingle and its rows mean nothing.

    signatures: uint32 [n, bands * rows]. band_keys: int64 [n, bands]. n_shingles: int32 [n], repetitions counted.
    """

    signatures: NDArray[np.uint32]
    band_keys: NDArray[np.int64]
    n_shingles: NDArray[np.int32]


@dataclasses.dataclass(frozen=True)
class MinHasher:
    """A sketch of bands * rows places, each of which stands for a permutation; P(candidate | J) = 1 - (1 - J^rows)^bands.

    Attributes:
        ngram: tokens a shingle.
        bands: band keys a document.
        rows: signature values a band.
        seed: of the rounds' keys.
    """

    ngram: int
    bands: int
    rows: int
    seed: int

    @property
    def n_permutations(self) -> int:
        """Values of a signature: bands * rows."""
        return self.bands * self.rows

    def __call__(self, data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> MinHashes:
        """Sketch documents.

        Args:
            data: bytes of all documents, uint8.
            offsets: int64 [n + 1].
        """
        n = len(offsets) - 1
        signatures, n_shingles = np.full((n, self.n_permutations), _ALL_32, np.uint32), np.empty(n, np.int32)
        for a, b in slices(offsets, _BYTES_AT_ONCE):
            part = offsets[a : b + 1]
            first, starts, lengths = token_runs(_marks(data, part), part, 0)
            shingles = _shingles(data, offsets[a], starts, lengths, self.ngram, self.seed)
            n_shingles[a:b] = _sketch(first, shingles, self.ngram, signatures[a:b])
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
def _marks(data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> NDArray[np.uint8]:
    """1 for each byte of a word, 2 and 3 in turn for characters that stand alone, 0 between tokens."""
    own = data[offsets[0] : offsets[-1]]
    marks, leads = np.empty(len(own), np.uint8), np.empty(len(own), np.uint8)
    for i in range(len(own)):  # without a branch
        b = own[i]
        lower = b | np.uint8(0x20)
        marks[i] = np.uint8((b >= 0x80) | ((lower >= 0x61) & (lower <= 0x7A)) | ((b >= 0x30) & (b <= 0x39)))
        leads[i] = np.uint8(b >= 0xE0)
    document, mark = 0, np.uint8(2)
    for i in places(leads):  # characters of the scripts that stand alone begin with one of these
        while offsets[document + 1] - offsets[0] <= i:
            document += 1
        character, length = _code_point(own, i, offsets[document + 1] - offsets[0])
        if _is_unspaced(character):
            marks[i : i + length] = mark
            mark ^= np.uint8(1)
    return marks


@jit
def _lower(eight: np.uint64) -> np.uint64:
    """ASCII letters among eight bytes to lower case."""
    low = eight & _LOW_BITS
    upper = ((low + _FROM_A) ^ (low + _ABOVE_Z)) & ~eight & _TOP_BITS
    return eight | (upper >> np.uint64(2))


@jit
def _shingles(
    data: NDArray[np.uint8], base: int, starts: NDArray[np.int32], lengths: NDArray[np.int32], ngram: int, seed: int
) -> NDArray[np.uint64]:
    """Hash of the `ngram` tokens from each token on, as if in one document, uint64 [n_tokens]."""
    n_tokens, hashes = len(starts), heads_of(data, base, starts, lengths)
    for t in range(n_tokens):
        hashes[t] = mix(_lower(hashes[t]))
    long, tail_starts, tail_lengths = behind_eight(starts, lengths)
    tails = heads_of(data, base, tail_starts, tail_lengths)
    for i in range(len(long)):
        value = mix((hashes[long[i]] + _STEP) ^ _lower(tails[i]))
        for at in range(8, tail_lengths[i], 8):
            left = min(tail_lengths[i] - at, 8)
            value = mix((value + _STEP) ^ _lower(first_eight(data, base + tail_starts[i] + at, left)))
        hashes[long[i]] = value
    # The sum of hash[s + k] * factor^k, from that of the token before: factor is odd, so it has an inverse modulo 2^64.
    shingles, inverse, highest, value = np.empty(n_tokens, np.uint64), _STEP, np.uint64(1), np.uint64(0)
    for _ in range(5):
        inverse *= np.uint64(2) - _STEP * inverse
    for k in range(min(ngram, n_tokens)):
        value += hashes[k] * highest
        highest *= _STEP
    highest *= inverse
    key = mix(np.uint64(seed) * _STEP + np.uint64(1))
    for s in range(n_tokens):
        shingles[s] = mix(value ^ key)
        value = (value - hashes[s]) * inverse
        if s + ngram < n_tokens:
            value += hashes[s + ngram] * highest
    return shingles


@jit
def _sketch(
    first: NDArray[np.int64], shingles: NDArray[np.uint64], ngram: int, signatures: NDArray[np.uint32]
) -> NDArray[np.int32]:
    """Fill the signatures by fast similarity sketching; return the number of shingles.

    In each round every shingle throws one value into one of P places, and a place keeps the least value of the first
    round that reached it. After P rounds every shingle throws into the first place, then into the second, and so on, so
    that none stays empty. Two sets agree in a place with probability J, as under P permutations, with less spread.

    A throw takes its place from one half of 64 bits and its value from the other. The second round has those of the first
    change parts: what is thrown stays independent from shingle to shingle, which is all that J asks for.
    """
    n_places, n_high = signatures.shape[1], np.uint64(signatures.shape[1])
    n_shingles = np.zeros(len(first) - 1, np.int32)
    filled, least = np.empty(n_places, np.bool_), np.empty(n_places, np.uint32)
    for document in range(len(first) - 1):
        count = first[document + 1] - first[document] - ngram + 1
        if count <= 0:
            continue
        n_shingles[document] = count
        own = shingles[first[document] : first[document] + count]
        n_empty = n_places
        filled[:] = False
        for r in range(2 * n_places):
            if r >= n_places and filled[r - n_places]:
                continue
            if r == 1 and count > 8 * n_places:  # few distinct ones, or the first round would have reached all places
                own = np.unique(own)
            least[:] = _ALL_32
            if r == 0:
                for shingle in own:
                    place = ((shingle >> _32) * n_high) >> _32
                    least[place] = min(least[place], np.uint32(shingle & _LOW_32))
            elif r == 1:
                for shingle in own:
                    place = ((shingle & _LOW_32) * n_high) >> _32
                    least[place] = min(least[place], np.uint32(shingle >> _32))
            else:
                key = mix(_STEP * np.uint64(r))
                for shingle in own:
                    value = mix(shingle ^ key)
                    place = ((value >> _32) * n_high) >> _32 if r < n_places else np.uint64(r - n_places)
                    least[place] = min(least[place], np.uint32(value & _LOW_32))
            for place in range(n_places):
                if least[place] != _ALL_32 and not filled[place]:
                    signatures[document, place] = least[place]
                    filled[place] = True
                    n_empty -= 1
            if n_empty == 0:
                break
    return n_shingles


@jit
def _band_keys(signatures: NDArray[np.uint32], bands: int, rows: int) -> NDArray[np.int64]:
    n = len(signatures)
    keys = np.empty((n, bands), np.int64)
    for document in range(n):
        for band in range(bands):
            value = mix(np.uint64(band + 1))
            for row in range(rows):
                value = mix(value ^ np.uint64(signatures[document, band * rows + row])) + _STEP
            keys[document, band] = np.int64(mix(value))
    return keys
