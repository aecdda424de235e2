"""Links between the documents of LSH buckets, packed into parts by document and grouped into distinct pairs."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from betr_spark.dedup.bucket_linker import Linked
from betr_spark.dedup.buckets import RANK_KEY_BYTES
from betr_spark.kernels.jit import jit
from betr_spark.kernels.token_runs import mix

# A document in one bucket and the first document of the bucket, 49 bytes.
LINK = np.dtype(
    [("candidate", "u1", RANK_KEY_BYTES), ("keeper", "u1", RANK_KEY_BYTES), ("bucket", "<i8"), ("flags", "u1")]
)
_PREVIOUSLY_KEPT, _KEEPER_PREVIOUSLY_KEPT = 1, 2


class LinkParts(NamedTuple):
    """Links by part.

    Attributes:
        parts: int32 [k], ascending.
        links: LINK [n], those of the first part, of the second part, and so on.
        bounds: int64 [k + 1], the rows of `links` where the parts begin and end.
    """

    parts: NDArray[np.int32]
    links: NDArray[np.void]
    bounds: NDArray[np.int64]


class Pairs(NamedTuple):
    """Distinct pairs of a document and the first document of some of its buckets.

    Attributes:
        candidate: uint8 [n, 20], rank keys.
        keeper: uint8 [n, 20], rank keys.
        previously_kept: bool [n], of the candidate.
        keeper_previously_kept: bool [n].
        buckets: int64 [m], those of the first pair, of the second pair, and so on.
        bounds: int64 [n + 1], the rows of `buckets` where the pairs begin and end.
    """

    candidate: NDArray[np.uint8]
    keeper: NDArray[np.uint8]
    previously_kept: NDArray[np.bool_]
    keeper_previously_kept: NDArray[np.bool_]
    buckets: NDArray[np.int64]
    bounds: NDArray[np.int64]


def packed_links(linked: Linked, *, n_parts: int) -> LinkParts:
    """Pack the links that are used later: new documents with another document, and all previously kept documents.

    All links of a document belong to one part, and a document has at most one link a band, so the parts are of similar size.
    """
    is_first = (linked.rank_keys == linked.first).all(axis=1)
    used = np.flatnonzero(linked.previously_kept | ~is_first)
    links = np.empty(len(used), LINK)
    links["candidate"], links["keeper"] = linked.rank_keys[used], linked.first[used]
    links["bucket"] = linked.buckets[used]
    links["flags"] = np.where(linked.previously_kept[used], _PREVIOUSLY_KEPT, 0)
    links["flags"] |= np.where(linked.first_previously_kept[used], _KEEPER_PREVIOUSLY_KEPT, 0).astype(np.uint8)
    part = (_hashes(_as_bytes(links), RANK_KEY_BYTES) % np.uint64(n_parts)).astype(np.int64)
    counts = np.bincount(part, minlength=n_parts)
    parts = np.flatnonzero(counts)
    bounds = np.append(0, np.cumsum(counts)[parts])
    return LinkParts(parts.astype(np.int32), np.take(links, np.argsort(part, kind="stable")), bounds)


def distinct_pairs(links: NDArray[np.void]) -> Pairs:
    """Group links, LINK [n], by candidate and keeper. Memory besides `links`: at most 125 bytes a link."""
    rows = _as_bytes(links)
    hashes = _hashes(rows, 2 * RANK_KEY_BYTES)
    order = np.argsort(hashes)
    starts = _group(rows, hashes, order)
    first = np.take(links, order[starts])
    return Pairs(
        first["candidate"].copy(),
        first["keeper"].copy(),
        first["flags"] & _PREVIOUSLY_KEPT > 0,
        first["flags"] & _KEEPER_PREVIOUSLY_KEPT > 0,
        np.take(links["bucket"], order),
        np.append(starts, len(links)),
    )


def _as_bytes(links: NDArray[np.void]) -> NDArray[np.uint8]:
    return links.view(np.uint8).reshape(-1, LINK.itemsize)


@jit
def _hashes(rows: NDArray[np.uint8], width: int) -> NDArray[np.uint64]:
    """Hash the first `width` bytes of each row."""
    hashes = np.empty(len(rows), np.uint64)
    for i in range(len(rows)):
        value = np.uint64(0)
        for start in range(0, width, 5):
            word = np.uint64(0)
            for j in range(5):
                word = (word << np.uint64(8)) | np.uint64(rows[i, start + j])
            value = mix(value ^ word)
        hashes[i] = value
    return hashes


@jit
def _group(rows: NDArray[np.uint8], hashes: NDArray[np.uint64], order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Bring rows of equal candidate and keeper together in `order`, which sorts by hash; return where each group starts."""
    starts = np.empty(len(order), np.int64)
    n, i = 0, 0
    while i < len(order):
        starts[n] = i
        n += 1
        first = order[i]
        end = i + 1
        k = i + 1
        while k < len(order) and hashes[order[k]] == hashes[first]:
            if _same_pair(rows[order[k]], rows[first]):
                order[k], order[end] = order[end], order[k]
                end += 1
            k += 1
        i = end
    return starts[:n].copy()


@jit
def _same_pair(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> bool:
    equal = True
    for i in range(2 * RANK_KEY_BYTES):
        equal &= left[i] == right[i]
    return equal
