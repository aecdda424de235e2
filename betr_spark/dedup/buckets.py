"""Members of LSH buckets, packed into parts."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from betr_spark.kernels.jit import jit

RANK_KEY_BYTES = 20

# A document in one bucket, 29 bytes. `high`, `middle` and `low` hold the rank key, most significant bytes first.
MEMBER = np.dtype([("bucket", "<i8"), ("high", "<u8"), ("middle", "<u8"), ("low", "<u4"), ("flags", "u1")])
NEW = 1  # the document is new; without this flag an earlier run kept it
HAS_NEW, SHARED = 2, 4  # of the first member of a bucket: the bucket has a new member; it has at least two members


class Parts(NamedTuple):
    """Members by part.

    Attributes:
        parts: int32 [k], ascending.
        members: MEMBER [n], those of the first part, of the second part, and so on.
        bounds: int64 [k + 1], the rows of `members` where the parts begin and end.
    """

    parts: NDArray[np.int32]
    members: NDArray[np.void]
    bounds: NDArray[np.int64]


def packed(
    buckets: NDArray[np.int64],
    sizes: NDArray[np.int64],
    rank_keys: NDArray[np.uint8],
    new: NDArray[np.bool_],
    *,
    n_parts: int,
) -> Parts:
    """Pack documents as members, one for each of their buckets. All members of a bucket belong to one part.

    Args:
        buckets: int64 [m], those of the first document, of the second document, and so on.
        sizes: int64 [n], the number of buckets of each document; their sum is m.
        rank_keys: uint8 [n, 20].
        new: bool [n], False where an earlier run kept the document.
        n_parts: number of parts of the whole corpus.
    """
    documents = np.empty(len(sizes), MEMBER)
    documents["high"], documents["middle"] = np.ascontiguousarray(rank_keys[:, :16]).view(">u8").reshape(-1, 2).T
    documents["low"] = np.ascontiguousarray(rank_keys[:, 16:]).view(">u4").reshape(-1)
    documents["flags"] = np.where(new, NEW | HAS_NEW, 0)
    part = ((buckets.view(np.uint64) >> np.uint64(32)) % np.uint64(n_parts)).astype(np.int64)
    counts = np.bincount(part, minlength=n_parts)
    parts = np.flatnonzero(counts)
    ends = np.cumsum(counts)
    members = np.empty(len(buckets), MEMBER)
    _scatter(buckets, sizes, documents, part, ends - counts, members)
    return Parts(parts.astype(np.int32), members, np.append(0, ends[parts]))


@jit
def _scatter(
    buckets: NDArray[np.int64],
    sizes: NDArray[np.int64],
    documents: NDArray[np.void],
    part: NDArray[np.int64],
    next_of: NDArray[np.int64],
    members: NDArray[np.void],
) -> None:
    taken = 0
    for document in range(len(documents)):
        for _ in range(sizes[document]):
            target = next_of[part[taken]]
            members[target] = documents[document]
            members[target]["bucket"] = buckets[taken]
            next_of[part[taken]] += 1
            taken += 1
