"""True Jaccard similarity of every document of a stream with each of a few thousand others."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from betr_spark.kernels.jit import jit

_FILTER_BITS = np.uint64((1 << 26) - 1)
_6, _63, _1 = np.uint64(6), np.uint64(63), np.uint64(1)


class Index(NamedTuple):
    """Which of m sets hold a hash: those of `hashes[i]` are `owners[starts[i] : starts[i + 1]]`.

    `sizes` are those of the sets, int32 [m]; `filter` has a bit for every hash, uint64, so that few others are looked for.
    """

    hashes: NDArray[np.uint64]
    starts: NDArray[np.int64]
    owners: NDArray[np.int32]
    sizes: NDArray[np.int32]
    filter: NDArray[np.uint64]

    @classmethod
    def of(cls, hashes: NDArray[np.uint64], offsets: NDArray[np.int64]) -> "Index":
        """Build it from sets as `shingle_sets` gives them."""
        sizes = np.diff(offsets).astype(np.int32)
        owners = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
        order = np.argsort(hashes, kind="stable")
        distinct, starts = np.unique(hashes[order], return_index=True)
        bits = np.zeros((int(_FILTER_BITS) + 1) // 64, np.uint64)
        rank_keys = distinct & _FILTER_BITS
        np.bitwise_or.at(bits, (rank_keys >> _6).astype(np.int64), _1 << (rank_keys & _63))
        return cls(distinct, np.append(starts, len(hashes)).astype(np.int64), owners[order], sizes, bits)


class ExhaustiveMatches(NamedTuple):
    """Pairs: row of the batch int32 [k], number of the set int32 [k], similarity float64 [k]."""

    rows: NDArray[np.int32]
    sets: NDArray[np.int32]
    similarity: NDArray[np.float64]


def exhaustive_search(
    hashes: NDArray[np.uint64], offsets: NDArray[np.int64], index: Index, *, least: float
) -> ExhaustiveMatches:
    """Find all sets of the index whose similarity to one of n sets (as `shingle_sets` gives them) is at least `least` > 0."""
    return ExhaustiveMatches(*_exhaustive_search(hashes, offsets, index, least))


@jit
def _exhaustive_search(
    hashes: NDArray[np.uint64], offsets: NDArray[np.int64], index: Index, least: float
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]]:
    common = np.zeros(len(index.sizes), np.int32)
    seen = np.empty(len(index.sizes), np.int32)
    found = [(np.int32(0), np.int32(0), 0.0) for _ in range(0)]
    for row in range(len(offsets) - 1):
        n_seen = 0
        for i in range(offsets[row], offsets[row + 1]):
            bit = hashes[i] & _FILTER_BITS
            if (index.filter[bit >> _6] >> (bit & _63)) & _1 == 0:
                continue
            at = np.searchsorted(index.hashes, hashes[i])
            if at < len(index.hashes) and index.hashes[at] == hashes[i]:
                for owner in index.owners[index.starts[at] : index.starts[at + 1]]:
                    if common[owner] == 0:
                        seen[n_seen] = owner
                        n_seen += 1
                    common[owner] += 1
        for owner in seen[:n_seen]:
            similarity = common[owner] / (offsets[row + 1] - offsets[row] + index.sizes[owner] - common[owner])
            if similarity >= least:
                found.append((np.int32(row), owner, similarity))
            common[owner] = 0
    rows, sets, values = (
        np.empty(len(found), np.int32),
        np.empty(len(found), np.int32),
        np.empty(len(found), np.float64),
    )
    for i, pair in enumerate(found):
        rows[i], sets[i], values[i] = pair
    return rows, sets, values
