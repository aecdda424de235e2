"""MinHash signatures and LSH band keys of word shingles, on raw UTF-8 bytes (method 4b)."""

import dataclasses
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from betr_spark.kernels.jit import jit
from betr_spark.kernels.shingles import BYTES_AT_ONCE, STEP, document_shingles
from betr_spark.kernels.token_runs import end_of_slice, mix

_ALL_32 = np.uint32(0xFFFFFFFF)
_32, _LOW_32 = np.uint64(32), np.uint64(0xFFFFFFFF)


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
        signatures = np.full((len(offsets) - 1, self.n_permutations), _ALL_32, np.uint32)
        n_shingles = _fill(data, offsets, self.ngram, self.seed, signatures)
        return MinHashes(signatures, _band_keys(signatures, self.bands, self.rows), n_shingles)


def equal_values(left: NDArray[np.uint32], right: NDArray[np.uint32]) -> NDArray[np.int32]:
    """Count the equal positions of signatures, [n, P] each, int32 [n]; their share of P estimates the Jaccard similarity."""
    equal: NDArray[np.int32] = np.count_nonzero(left == right, axis=1).astype(np.int32)
    return equal


@jit
def _fill(
    data: NDArray[np.uint8], offsets: NDArray[np.int64], ngram: int, seed: int, signatures: NDArray[np.uint32]
) -> NDArray[np.int32]:
    """Fill the signatures of documents; return the number of shingles of each."""
    n_shingles = np.zeros(len(offsets) - 1, np.int32)
    a = 0
    while a < len(offsets) - 1:
        b = end_of_slice(offsets, a, BYTES_AT_ONCE)
        part = offsets[a : b + 1]
        first, shingles = document_shingles(data, part, ngram, seed)
        _sketch(first, shingles, ngram, signatures[a:b], n_shingles[a:b])
        a = b
    return n_shingles


@jit
def _sketch(
    first: NDArray[np.int64],
    shingles: NDArray[np.uint64],
    ngram: int,
    signatures: NDArray[np.uint32],
    n_shingles: NDArray[np.int32],
) -> None:
    """Fill the signatures by fast similarity sketching, and the numbers of shingles, which are 0 before.

    In each round every shingle throws one value into one of P places, and a place keeps the least value of the first
    round that reached it. After P rounds every shingle throws into the first place, then into the second, and so on, so
    that none stays empty. Two sets agree in a place with probability J, as under P permutations, with less spread.

    A throw takes its place from one half of 64 bits and its value from the other. The second round has those of the first
    change parts: what is thrown stays independent from shingle to shingle, which is all that J asks for.
    """
    n_places, n_high = signatures.shape[1], np.uint64(signatures.shape[1])
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
                key = mix(STEP * np.uint64(r))
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


@jit
def _band_keys(signatures: NDArray[np.uint32], bands: int, rows: int) -> NDArray[np.int64]:
    n = len(signatures)
    keys = np.empty((n, bands), np.int64)
    for document in range(n):
        for band in range(bands):
            value = mix(np.uint64(band + 1))
            for row in range(rows):
                value = mix(value ^ np.uint64(signatures[document, band * rows + row])) + STEP
            keys[document, band] = np.int64(mix(value))
    return keys
