"""MinHash signatures of shingles, on raw UTF-8 bytes, and the LSH band keys of signatures."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from betr_spark.kernels.jit import jit
from betr_spark.kernels.shingles import SLICE_BYTES, STEP, document_shingles
from betr_spark.kernels.token_runs import end_of_slice, mix

_ALL_32 = np.uint32(0xFFFFFFFF)
_BY_CHANCE = 1 / 256  # two independent bytes are equal
_8, _32, _LOW_32 = np.uint64(8), np.uint64(32), np.uint64(0xFFFFFFFF)


class MinHashes(NamedTuple):
    """Sketches of n documents. If `n_shingles` is 0, the document is shorter than a shingle and its signature is undefined.

    Attributes:
        signatures: uint32 [n, bands * rows].
        n_shingles: int32 [n], repeated shingles included.
    """

    signatures: NDArray[np.uint32]
    n_shingles: NDArray[np.int32]


@dataclasses.dataclass(frozen=True)
class MinHasher:
    """Sketches documents with bands * rows values; P(candidate | J) = 1 - (1 - J^rows)^bands.

    Attributes:
        ngram: tokens in a shingle.
        bands: of a signature; documents with an equal band are compared.
        rows: signature values in a band.
        seed: seed of the shingles' hash.
    """

    ngram: int
    bands: int
    rows: int
    seed: int

    @property
    def n_permutations(self) -> int:
        """Number of values of a signature, each of which replaces a permutation: bands * rows."""
        return self.bands * self.rows

    def __call__(self, data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> MinHashes:
        """Sketch documents.

        Args:
            data: bytes of all documents, uint8.
            offsets: int64 [n + 1].
        """
        signatures = self.no_signatures(len(offsets) - 1)
        return MinHashes(signatures, _fill(data, offsets, self.ngram, self.seed, signatures))

    def no_signatures(self, n: int) -> NDArray[np.uint32]:
        """Return the signatures of n documents before any shingle is added."""
        return np.full((n, self.n_permutations), _ALL_32, np.uint32)


def low_bytes(signatures: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """Keep 8 bits of each value, as in b-bit minwise hashing (Li, König 2010): a quarter of the bytes, uint8 [n, P].

    Two of these are equal where the values are, and by chance in one of 256 other positions (`equal_probability`).
    """
    return np.ascontiguousarray(signatures.astype(np.uint8))


def equal_probability(similarity: float) -> float:
    """Probability that two documents of a Jaccard similarity have the same byte at a position of their signatures."""
    return similarity + (1 - similarity) * _BY_CHANCE


def similarity_at(equal_fraction: Any) -> Any:
    """Jaccard similarity that a fraction of equal bytes estimates, without bias; the inverse of `equal_probability`.

    Works on numbers, arrays and columns.
    """
    estimate: Any = (equal_fraction - _BY_CHANCE) / (1 - _BY_CHANCE)
    return estimate


def equal_values(left: NDArray[np.unsignedinteger], right: NDArray[np.unsignedinteger]) -> NDArray[np.int32]:
    """Count the equal positions of signatures [n, P], int32 [n].

    Divided by P, the count of equal values of 32 bits estimates the Jaccard similarity; that of bytes, see `similarity_at`.
    """
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
        b = end_of_slice(offsets, a, SLICE_BYTES)
        part = offsets[a : b + 1]
        first, shingles = document_shingles(data, part, ngram, seed)
        fill_signatures(first, shingles, ngram, signatures[a:b], n_shingles[a:b])
        a = b
    return n_shingles


@jit
def fill_signatures(
    first: NDArray[np.int64],
    shingles: NDArray[np.uint64],
    ngram: int,
    signatures: NDArray[np.uint32],
    n_shingles: NDArray[np.int32],
) -> None:
    """Fill the signatures by fast similarity sketching (Dahlgaard, Knudsen, Thorup 2017), and the numbers of shingles, from 0.

    In each of P rounds every shingle draws a position among the P of the signature and a value. A position keeps the minimum of
    the first round that reaches it. If positions are still empty after P rounds, every shingle draws a value for the first
    position, then for the second, and so on. Two sets agree at a position with probability J, as with P permutations, and the
    estimate has less variance.

    A draw takes its position from one half of 64 bits and its value from the other half. The second round uses the bits of the
    first with the halves exchanged: the draws of different shingles stay independent, which is what the estimate requires.
    """
    n_positions, n_high = signatures.shape[1], np.uint64(signatures.shape[1])
    filled, least = np.empty(n_positions, np.bool_), np.empty(n_positions, np.uint32)
    for document in range(len(first) - 1):
        count = first[document + 1] - first[document] - ngram + 1
        if count <= 0:
            continue
        n_shingles[document] = count
        hashes = shingles[first[document] : first[document] + count]
        n_empty = n_positions
        filled[:] = False
        for r in range(2 * n_positions):
            if r >= n_positions and filled[r - n_positions]:
                continue
            if r == 1 and count > 8 * n_positions:  # many repeat, or the first round would have reached all positions
                hashes = np.unique(hashes)
            least[:] = _ALL_32
            if r == 0:
                for shingle in hashes:
                    position = ((shingle >> _32) * n_high) >> _32
                    least[position] = min(least[position], np.uint32(shingle & _LOW_32))
            elif r == 1:
                for shingle in hashes:
                    position = ((shingle & _LOW_32) * n_high) >> _32
                    least[position] = min(least[position], np.uint32(shingle >> _32))
            else:
                key = mix(STEP * np.uint64(r))
                for shingle in hashes:
                    value = mix(shingle ^ key)
                    position = ((value >> _32) * n_high) >> _32 if r < n_positions else np.uint64(r - n_positions)
                    least[position] = min(least[position], np.uint32(value & _LOW_32))
            for position in range(n_positions):
                if least[position] != _ALL_32 and not filled[position]:
                    signatures[document, position] = least[position]
                    filled[position] = True
                    n_empty -= 1
            if n_empty == 0:
                break


@jit
def band_keys(signatures: NDArray[np.uint8], bands: int) -> NDArray[np.int64]:
    """Hash the bytes of each band, and its number, to a key of 64 bits.

    Two documents of similarity J have an equal band with probability 1 - (1 - e^rows)^bands, where e is `equal_probability(J)`;
    with 8 rows, bands of documents that share nothing are equal by chance once in 2^64.

    Args:
        signatures: uint8 [n, bands * rows], as `low_bytes` gives them.
        bands: their number.

    Returns:
        int64 [n, bands].
    """
    n, rows = len(signatures), signatures.shape[1] // bands
    keys = np.empty((n, bands), np.int64)
    for document in range(n):
        for band in range(bands):
            value, word = mix(np.uint64(band + 1)), np.uint64(0)
            for row in range(rows):
                word = word << _8 | np.uint64(signatures[document, band * rows + row])
                if row % 8 == 7 or row == rows - 1:
                    value = mix(value ^ word) + STEP
                    word = np.uint64(0)
            keys[document, band] = np.int64(mix(value))
    return keys
