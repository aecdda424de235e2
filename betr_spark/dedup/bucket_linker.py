"""Link every member of an LSH bucket to the first member of its bucket, in bounded memory."""

import io
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from betr_spark.dedup.buckets import HAS_NEW, MEMBER, NEW, RANK_KEY_BYTES, SHARED
from betr_spark.kernels.jit import jit

CHUNK_BYTES = 2**25  # members that are sorted together
MEMORY_BYTES = 2**27  # members that stay in memory; later chunks go to a file
_LINKED_ROWS = 2**16


class Linked(NamedTuple):
    """Members of shared buckets, each with the first member of its bucket.

    Attributes:
        buckets: int64 [n].
        previously_kept: bool [n].
        rank_keys: uint8 [n, 20].
        first: uint8 [n, 20], rank keys.
        first_previously_kept: bool [n].
    """

    buckets: NDArray[np.int64]
    previously_kept: NDArray[np.bool_]
    rank_keys: NDArray[np.uint8]
    first: NDArray[np.uint8]
    first_previously_kept: NDArray[np.bool_]


class BucketLinker:
    """Links the members of one part to the first member of their bucket; memory does not grow with the size of a bucket.

    The first member of a bucket is a previously kept one, or the best new one: previously kept members come before new ones,
    then the rank keys decide. `add` cuts the part into chunks, sorts each chunk by bucket and merges its first members
    into those of the earlier chunks. `linked` then goes through the chunks and adds the first member to each of their rows.

    Memory: `memory_bytes` (128 MiB) of chunks, four times `chunk_bytes` (32 MiB) for the chunk at work, and 58 bytes for each
    distinct bucket of the part. Chunks beyond `memory_bytes` go to `spill`, 29 bytes a member.

    Attributes:
        spilled_bytes: written to `spill`.
        largest_bucket: members of the largest shared bucket; complete when `linked` is at its end.
    """

    def __init__(
        self, spill: io.BufferedRandom, *, chunk_bytes: int = CHUNK_BYTES, memory_bytes: int = MEMORY_BYTES
    ) -> None:
        """Start without members.

        Args:
            spill: an empty file, opened for writing and reading; the caller closes it.
            chunk_bytes: of members that are sorted together, at least 29.
            memory_bytes: of members in chunks that stay in memory.
        """
        self.spilled_bytes = 0
        self.largest_bucket = 0
        self._spill = spill
        self._n_in_memory = memory_bytes // MEMBER.itemsize
        self._chunk = np.empty(chunk_bytes // MEMBER.itemsize, MEMBER)
        self._n = 0
        self._sorted: list[NDArray[np.void]] = []
        self._spilled: list[int] = []  # bytes of each chunk in the file
        self._firsts = np.empty(0, MEMBER)

    def add(self, members: NDArray[np.void]) -> None:
        """Take members, MEMBER [n], in any order; representatives of exact copies, one for each distinct content."""
        while len(members):
            n = min(len(members), len(self._chunk) - self._n)
            self._chunk[self._n : self._n + n] = members[:n]
            self._n += n
            members = members[n:]
            if self._n == len(self._chunk):
                self._finish_chunk()

    def linked(self) -> Iterator[Linked]:
        """Yield the members of all buckets with at least two members, of which at least one is new; ends the linker's work."""
        self._finish_chunk()
        shared = HAS_NEW | SHARED
        firsts = np.compress(self._firsts["flags"] & shared == shared, self._firsts)
        self._firsts = np.empty(0, MEMBER)
        counts = np.zeros(len(firsts), np.int64)
        for chunk in self._chunks():
            member, first = _positions(chunk, firsts, counts)
            for start in range(0, len(member), _LINKED_ROWS):
                rows = slice(start, start + _LINKED_ROWS)
                yield _as_linked(np.take(chunk, member[rows]), np.take(firsts, first[rows]))
        self.largest_bucket = int(counts.max(initial=0))

    def _finish_chunk(self) -> None:
        members = self._chunk[: self._n]
        members = np.take(members, np.argsort(members["bucket"]))  # ten times faster than an index here
        self._n = 0
        self._firsts = _merged(self._firsts, members)
        if len(members) <= self._n_in_memory:
            self._n_in_memory -= len(members)
            self._sorted.append(members)
        else:
            self._n_in_memory = 0
            self._spill.write(members.view(np.uint8).data)
            self._spilled.append(members.nbytes)
            self.spilled_bytes += members.nbytes

    def _chunks(self) -> Iterator[NDArray[np.void]]:
        while self._sorted:
            yield self._sorted.pop()
        self._spill.seek(0)
        for n_bytes in self._spilled:
            chunk = np.empty(n_bytes // MEMBER.itemsize, MEMBER)
            self._spill.readinto(chunk.view(np.uint8).data)
            yield chunk


def _as_linked(members: NDArray[np.void], firsts: NDArray[np.void]) -> Linked:
    return Linked(
        members["bucket"].copy(),
        members["flags"] & NEW == 0,
        _rank_keys(members),
        _rank_keys(firsts),
        firsts["flags"] & NEW == 0,
    )


def _rank_keys(members: NDArray[np.void]) -> NDArray[np.uint8]:
    keys = np.empty(len(members), np.dtype([("high", ">u8"), ("middle", ">u8"), ("low", ">u4")]))
    for name in ("high", "middle", "low"):
        keys[name] = members[name]
    return keys.view(np.uint8).reshape(-1, RANK_KEY_BYTES)


@jit
def _merged(firsts: NDArray[np.void], members: NDArray[np.void]) -> NDArray[np.void]:
    """Merge members into first members; both are sorted by bucket, and `firsts` has one row for each bucket."""
    merged = np.empty(len(firsts) + len(members), firsts.dtype)
    n, i, j = 0, 0, 0
    while i < len(firsts) or j < len(members):
        if j == len(members) or (i < len(firsts) and firsts[i]["bucket"] <= members[j]["bucket"]):
            row = firsts[i]
            i += 1
        else:
            row = members[j]
            j += 1
        if n == 0 or merged[n - 1]["bucket"] != row["bucket"]:
            merged[n] = row
            n += 1
            continue
        flags = ((merged[n - 1]["flags"] | row["flags"]) & HAS_NEW) | SHARED
        if _precedes(row, merged[n - 1]):
            merged[n - 1] = row
        merged[n - 1]["flags"] = (merged[n - 1]["flags"] & NEW) | flags
    return merged[:n]


@jit
def _precedes(left: np.void, right: np.void) -> bool:
    if (left["flags"] ^ right["flags"]) & NEW:
        return bool(right["flags"] & NEW)
    if left["high"] != right["high"]:
        return bool(left["high"] < right["high"])
    if left["middle"] != right["middle"]:
        return bool(left["middle"] < right["middle"])
    return bool(left["low"] < right["low"])


@jit
def _positions(
    members: NDArray[np.void], firsts: NDArray[np.void], counts: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of members whose bucket has a first member, and the rows of that; adds the members of each bucket to `counts`."""
    member, first = np.empty(len(members), np.int64), np.empty(len(members), np.int64)
    n, j = 0, 0
    for i in range(len(members)):
        while j < len(firsts) and firsts[j]["bucket"] < members[i]["bucket"]:
            j += 1
        if j == len(firsts):
            break
        if firsts[j]["bucket"] == members[i]["bucket"]:
            member[n], first[n] = i, j
            counts[j] += 1
            n += 1
    return member[:n].copy(), first[:n].copy()
