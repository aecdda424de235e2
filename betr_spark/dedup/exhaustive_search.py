"""Exhaustive search: true Jaccard similarity of every document of a stream with each of a few thousand documents."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from betr_spark.kernels.jit import jit

_FILTER_BITS = np.uint64((1 << 26) - 1)
_6, _63, _1 = np.uint64(6), np.uint64(63), np.uint64(1)


class Index(NamedTuple):
    """Inverted index of m sets of hashes.

    Attributes:
        hashes: uint64 [h], ascending and distinct.
        starts: int64 [h + 1]; the sets that contain `hashes[i]` are `owners[starts[i] : starts[i + 1]]`.
        owners: int32, numbers of sets.
        sizes: int32 [m], of the sets.
        filter: uint64, one bit for each value of the lowest 26 bits of a hash; it rejects most hashes that no set contains.
    """

    hashes: NDArray[np.uint64]
    starts: NDArray[np.int64]
    owners: NDArray[np.int32]
    sizes: NDArray[np.int32]
    filter: NDArray[np.uint64]

    @classmethod
    def of(cls, hashes: NDArray[np.uint64], offsets: NDArray[np.int64]) -> "Index":
        """Build the index from sets in the form that `shingle_sets` returns."""
        sizes = np.diff(offsets).astype(np.int32)
        owners = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
        order = np.argsort(hashes, kind="stable")
        distinct, starts = np.unique(hashes[order], return_index=True)
        bits = np.zeros((int(_FILTER_BITS) + 1) // 64, np.uint64)
        positions = distinct & _FILTER_BITS
        np.bitwise_or.at(bits, (positions >> _6).astype(np.int64), _1 << (positions & _63))
        return cls(distinct, np.append(starts, len(hashes)).astype(np.int64), owners[order], sizes, bits)


class ExhaustiveMatches(NamedTuple):
    """Similar pairs.

    Attributes:
        rows: int32 [k], sets of the batch.
        sets: int32 [k], sets of the index.
        similarity: float64 [k].
    """

    rows: NDArray[np.int32]
    sets: NDArray[np.int32]
    similarity: NDArray[np.float64]


def exhaustive_search(
    hashes: NDArray[np.uint64], offsets: NDArray[np.int64], index: Index, *, least: float
) -> ExhaustiveMatches:
    """Find all pairs of a set of the batch and a set of the index with a similarity of at least `least` > 0.

    Args:
        hashes: uint64, the sets of the batch, in the form that `shingle_sets` returns.
        offsets: int64 [n + 1], the bounds of the sets in `hashes`.
        index: of the sets to compare with.
        least: similarity.
    """
    return ExhaustiveMatches(*_exhaustive_search(hashes, offsets, index, least))


@jit
def _exhaustive_search(
    hashes: NDArray[np.uint64], offsets: NDArray[np.int64], index: Index, least: float
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]]:
    common = np.zeros(len(index.sizes), np.int32)
    seen = np.empty(len(index.sizes), np.int32)
    matches = [(np.int32(0), np.int32(0), 0.0) for _ in range(0)]  # an empty list of this type
    for row in range(len(offsets) - 1):
        n_seen = 0
        for i in range(offsets[row], offsets[row + 1]):
            bit = hashes[i] & _FILTER_BITS
            if (index.filter[bit >> _6] >> (bit & _63)) & _1 == 0:
                continue
            position = np.searchsorted(index.hashes, hashes[i])
            if position < len(index.hashes) and index.hashes[position] == hashes[i]:
                for owner in index.owners[index.starts[position] : index.starts[position + 1]]:
                    if common[owner] == 0:
                        seen[n_seen] = owner
                        n_seen += 1
                    common[owner] += 1
        for owner in seen[:n_seen]:
            similarity = common[owner] / (offsets[row + 1] - offsets[row] + index.sizes[owner] - common[owner])
            if similarity >= least:
                matches.append((np.int32(row), owner, similarity))
            common[owner] = 0
    n = len(matches)
    rows, sets, similarities = np.empty(n, np.int32), np.empty(n, np.int32), np.empty(n, np.float64)
    for i, match in enumerate(matches):
        rows[i], sets[i], similarities[i] = match
    return rows, sets, similarities
