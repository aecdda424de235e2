"""Members of LSH buckets: packed into parts, and linked to the first of their bucket."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from betr_spark.kernels.jit import jit

RANK_KEY_BYTES = 16

# A document in a bucket, 33 bytes: `content` is the start of its content hash, `high` and `low` are its rank_key.
MEMBER = np.dtype([("bucket", "<i8"), ("content", "<u8"), ("high", "<u8"), ("low", "<u8"), ("state", "u1")])
PREVIOUSLY_KEPT, GONE, NEW = 0, 1, 2  # states: an earlier run kept or removed it, or it is new


class Parts(NamedTuple):
    """Parts one after the other: `parts` int32 [k], ascending, `rows` MEMBER [n], and `bounds` int64 [k + 1] of the parts."""

    parts: NDArray[np.int32]
    rows: NDArray[np.void]
    bounds: NDArray[np.int64]


class Linked(NamedTuple):
    """Documents in buckets of several, one after the other, with the first document of their bucket.

    `buckets` int64 [m], `previously_kept` bool [m], `rank_keys` uint8 [m, 16], `first` uint8 [m, 16],
    `first_previously_kept` bool [m].
    """

    buckets: NDArray[np.int64]
    previously_kept: NDArray[np.bool_]
    rank_keys: NDArray[np.uint8]
    first: NDArray[np.uint8]
    first_previously_kept: NDArray[np.bool_]


def parted(
    buckets: NDArray[np.int64],
    sizes: NDArray[np.int64],
    contents: NDArray[np.uint8],
    rank_keys: NDArray[np.uint8],
    states: NDArray[np.uint8],
    *,
    n_parts: int,
) -> Parts:
    """Pack documents, a row for each of their buckets, and part them so that a bucket lies in one part.

    Args:
        buckets: int64 [m], those of the first document, of the second, and so on.
        sizes: int64 [n], how many each document has; m together.
        contents: uint8 [n, 16], content hashes.
        rank_keys: uint8 [n, 16].
        states: uint8 [n].
        n_parts: of the whole corpus.
    """
    documents = np.empty(len(sizes), MEMBER)
    documents["content"] = _halves(contents)[:, 0]
    documents["high"], documents["low"] = _halves(rank_keys).T
    documents["state"] = states
    part = ((buckets.view(np.uint64) >> np.uint64(32)) % np.uint64(n_parts)).astype(np.int64)
    counts = np.bincount(part, minlength=n_parts)
    parts = np.flatnonzero(counts)
    ends = np.cumsum(counts)
    rows = np.empty(len(buckets), MEMBER)
    _scatter(buckets, sizes, documents, part, ends - counts, rows)
    return Parts(parts.astype(np.int32), rows, np.append(0, ends[parts]))


def _halves(rows: NDArray[np.uint8]) -> NDArray[np.uint64]:
    return np.ascontiguousarray(rows).view(">u8").reshape(-1, 2)


@jit
def _scatter(
    buckets: NDArray[np.int64],
    sizes: NDArray[np.int64],
    documents: NDArray[np.void],
    part: NDArray[np.int64],
    next_of: NDArray[np.int64],
    rows: NDArray[np.void],
) -> None:
    taken = 0
    for document in range(len(documents)):
        for _ in range(sizes[document]):
            target = next_of[part[taken]]
            rows[target] = documents[document]
            rows[target]["bucket"] = buckets[taken]
            next_of[part[taken]] += 1
            taken += 1


def with_first(rows: NDArray[np.void]) -> Linked:
    """Link the documents of each bucket to its first: previously kept ones come before new ones, then rank_keys decide.

    Of documents of equal content the one that `exact.copies_of` chooses takes part, unless it is gone. Left out are buckets of
    one document, and of previously kept ones alone.

    Args:
        rows: MEMBER [n], whole buckets in any order.
    """
    order = np.argsort(rows["bucket"])
    buckets = rows["bucket"][order]
    again = np.concatenate([[False], buckets[1:] == buckets[:-1], [False]])[: len(rows) + 1]
    shared = rows[order[again[:-1] | again[1:]]]
    chosen, best = _with_first(shared)
    members, first = shared[chosen], shared[best]
    return Linked(
        members["bucket"].copy(),
        members["state"] == PREVIOUSLY_KEPT,
        _rank_keys(members),
        _rank_keys(first),
        first["state"] == PREVIOUSLY_KEPT,
    )


def _rank_keys(rows: NDArray[np.void]) -> NDArray[np.uint8]:
    return np.stack([rows["high"], rows["low"]], axis=1).astype(">u8").view(np.uint8).reshape(-1, RANK_KEY_BYTES)


@jit
def _with_first(rows: NDArray[np.void]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    members, first = np.empty(len(rows), np.int64), np.empty(len(rows), np.int64)
    n, start = 0, 0
    while start < len(rows):
        end = start + 1
        while end < len(rows) and rows[end]["bucket"] == rows[start]["bucket"]:
            end += 1
        if end - start == 2:
            swapped = rows[start + 1]["content"] < rows[start]["content"]
            same = np.array([start + 1, start] if swapped else [start, start + 1], np.int64)
        else:
            same = start + np.argsort(rows[start:end]["content"])
        begin, has_new, best, at = n, False, np.int64(-1), 0
        while at < len(same):
            chosen = same[at]
            at += 1
            while at < len(same) and rows[same[at]]["content"] == rows[same[at - 1]]["content"]:
                if _before(rows[same[at]], rows[chosen]):
                    chosen = same[at]
                at += 1
            if rows[chosen]["state"] != GONE:
                members[n] = chosen
                n += 1
                has_new |= rows[chosen]["state"] == NEW
                if best < 0 or _before(rows[chosen], rows[best]):
                    best = chosen
        if has_new and n - begin > 1:
            first[begin:n] = best
        else:
            n = begin
        start = end
    return members[:n].copy(), first[:n].copy()


@jit
def _before(one: np.void, other: np.void) -> bool:
    if one["state"] != other["state"]:
        return bool(one["state"] < other["state"])
    if one["high"] != other["high"]:
        return bool(one["high"] < other["high"])
    return bool(one["low"] < other["low"])
