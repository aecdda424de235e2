"""The survivor rule applied to a stream of similar pairs, component after component, in bounded memory."""

import io
import mmap
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from betr_spark.dedup.buckets import RANK_KEY_BYTES
from betr_spark.kernels.jit import jit

MEMORY_BYTES = 2**26  # removed rank keys that stay in memory


class Edges(NamedTuple):
    """Similar pairs.

    Attributes:
        roots: uint8 [n, 20], the component of each pair.
        keepers: uint8 [n, 20], rank keys.
        keeper_previously_kept: bool [n].
        candidates: uint8 [n, 20], rank keys.
    """

    roots: NDArray[np.uint8]
    keepers: NDArray[np.uint8]
    keeper_previously_kept: NDArray[np.bool_]
    candidates: NDArray[np.uint8]


class GreedyRemoval:
    """Decides which candidates of a component are removed: those that are similar to a document that stays.

    The pairs arrive sorted by root, candidate, previously kept keepers first, keeper. So a keeper is decided before its
    candidates, and the removed documents of a component arrive in the order of their rank keys: they are a sorted array,
    20 bytes a document, searched by bisection. Above `memory_bytes` (64 MiB, 3.3 million documents of one component) the array
    is a mapped file, which the operating system keeps in memory or not.
    """

    def __init__(self, open_file: Callable[[], io.BufferedRandom], *, memory_bytes: int = MEMORY_BYTES) -> None:
        """Start before the first component.

        Args:
            open_file: opens an empty file.
            memory_bytes: of rank keys that stay in memory.
        """
        self._open_file, self._memory_bytes = open_file, memory_bytes
        self._root = np.zeros(RANK_KEY_BYTES, np.uint8)
        self._removed = np.empty((0, RANK_KEY_BYTES), np.uint8)
        self._n_removed = 0

    def decide(self, edges: Edges) -> NDArray[np.int64]:
        """Return the rows of the next pairs whose candidate is removed for their keeper, one for each removed candidate."""
        self._reserve(self._n_removed + len(edges.roots))
        rows, self._n_removed = _decide(edges, self._root, self._removed, self._n_removed)
        return rows

    def _reserve(self, n: int) -> None:
        if n <= len(self._removed):
            return
        n = max(n, 2 * len(self._removed))
        n_bytes = n * RANK_KEY_BYTES
        if n_bytes <= self._memory_bytes:
            removed = np.empty((n, RANK_KEY_BYTES), np.uint8)
        else:
            with self._open_file() as file:
                for _ in range(0, n_bytes, 2**20):  # a full disk is an error here, and would kill the process later
                    file.write(bytes(2**20))
                file.flush()
                mapped = mmap.mmap(file.fileno(), n_bytes)
            removed = np.frombuffer(mapped, np.uint8).reshape(n, RANK_KEY_BYTES)
        removed[: self._n_removed] = self._removed[: self._n_removed]
        self._removed = removed


@jit
def _decide(
    edges: Edges, root: NDArray[np.uint8], removed: NDArray[np.uint8], n_removed: int
) -> tuple[NDArray[np.int64], int]:
    rows = np.empty(len(edges.roots), np.int64)
    n = 0
    for i in range(len(edges.roots)):
        candidate = edges.candidates[i]
        if _compared(edges.roots[i], root) != 0:
            root[:] = edges.roots[i]
            n_removed = 0
        if n_removed > 0 and _compared(removed[n_removed - 1], candidate) == 0:
            continue
        if edges.keeper_previously_kept[i] or not _contains(removed, n_removed, edges.keepers[i]):
            removed[n_removed] = candidate
            n_removed += 1
            rows[n] = i
            n += 1
    return rows[:n].copy(), n_removed


@jit
def _contains(keys: NDArray[np.uint8], n: int, key: NDArray[np.uint8]) -> bool:
    low, high = 0, n
    while low < high:
        middle = (low + high) // 2
        order = _compared(keys[middle], key)
        if order == 0:
            return True
        if order < 0:
            low = middle + 1
        else:
            high = middle
    return False


@jit
def _compared(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> int:
    """-1, 0 or 1: `left` comes before `right`, equals it, or comes after it."""
    for i in range(len(left)):
        if left[i] != right[i]:
            return -1 if left[i] < right[i] else 1
    return 0
