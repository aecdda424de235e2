"""What the kernels share: a JIT that caches where it can, white space in UTF-8, tokens as runs of marked bytes.

The kernels take text apart in bulk, so that the compiler vectorises and the processor seldom guesses a branch wrong: mark every
byte, find the runs of equal marks, load the first eight bytes of every run, and work on arrays of runs from there on.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

F = TypeVar("F", bound=Callable[..., Any])
ALL_64 = np.uint64(0xFFFFFFFFFFFFFFFF)


def jit(function: F) -> F:
    """Compile without fast-math, so that sums are the same on every machine; cached on disk where the place allows it.

    The cache watches a function's own file only: after an edit to a kernel that others call, remove `*.nbi` and `*.nbc`.
    """
    try:
        compiled = numba.njit(cache=True, nogil=True)(function)
        place = Path(compiled.stats.cache_path)
        place.mkdir(parents=True, exist_ok=True)  # for code in a zip Numba itself does not look before the first call
        if os.access(place, os.W_OK):
            return compiled  # type: ignore[no-any-return]
    except (RuntimeError, OSError):
        pass
    return numba.njit(nogil=True)(function)  # type: ignore[no-any-return]


def slices(offsets: NDArray[np.int64], most_bytes: int) -> Iterator[tuple[int, int]]:
    """Cut documents into ranges (a, b) of at most `most_bytes`, or of one longer document."""
    a, n = 0, len(offsets) - 1
    while a < n:
        b = max(a + 1, int(np.searchsorted(offsets, offsets[a] + most_bytes, side="right")) - 1)
        yield a, b
        a = b


@jit
def separator_length(data: NDArray[np.uint8], i: int, end: int) -> int:
    """Bytes (1 to 3) of the white-space character or NUL that starts at byte i; 0 where there is none.

    The characters are those of str.isspace().
    """
    b = data[i]
    if b <= 0x20:
        return 1 if b == 0x20 or b == 0 or 0x09 <= b <= 0x0D or 0x1C <= b <= 0x1F else 0
    if b == 0xC2:
        return 2 if i + 1 < end and (data[i + 1] == 0x85 or data[i + 1] == 0xA0) else 0
    if b < 0xE1 or b > 0xE3 or i + 2 >= end:
        return 0
    c, d = data[i + 1], data[i + 2]
    if b == 0xE1:
        return 3 if c == 0x9A and d == 0x80 else 0
    if b == 0xE2:
        if c == 0x80:
            return 3 if 0x80 <= d <= 0x8A or d == 0xA8 or d == 0xA9 or d == 0xAF else 0
        return 3 if c == 0x81 and d == 0x9F else 0
    return 3 if c == 0x80 and d == 0x80 else 0


@jit
def token_runs(
    marks: NDArray[np.uint8], offsets: NDArray[np.int64], extra: int
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32]]:
    """Find the runs of equal non-zero marks in each document.

    Args:
        marks: one a byte, 0 between tokens; documents lie one after the other from marks[0] on.
        offsets: int64 [n + 1]; document i is marks[offsets[i] - offsets[0] : offsets[i + 1] - offsets[0]].
        extra: entries (0 or 1) behind the runs of each document that has any, copies of its last run.

    Returns:
        first: the first run of each document, and the end, int64 [n + 1]; first byte and length of each run, int32.
    """
    n = len(offsets) - 1
    edges = np.empty(len(marks) + 1, np.int32)  # what is not written to costs no memory
    starts, lengths = np.empty(len(marks) + 2 * n + 1, np.int32), np.empty(len(marks) + 2 * n + 1, np.int32)
    first = np.zeros(n + 1, np.int64)
    count = np.int64(0)
    for document in range(n):
        begin, end = offsets[document] - offsets[0], offsets[document + 1] - offsets[0]
        own = marks[begin:end]
        n_edges, before = np.uint64(0), np.uint8(0)
        for i in range(len(own)):  # without a branch
            mark = own[i]
            edges[n_edges] = begin + i
            n_edges += np.uint64(mark != before)
            before = mark
        edges[n_edges] = end
        had = count
        for k in range(np.int64(n_edges)):
            at = edges[k]
            starts[count] = at
            lengths[count] = edges[k + 1] - at
            count += np.int64(marks[at] != 0)
        if count > had:
            for _ in range(extra):
                starts[count], lengths[count] = starts[count - 1], lengths[count - 1]
                count += 1
        first[document + 1] = count
    return first, starts, lengths


@jit
def first_eight(data: NDArray[np.uint8], at: int, length: int) -> np.uint64:
    """Give the first `length` (1 to 8) bytes from `at` as a little-endian number, zeroes above."""
    value = np.uint64(0)
    for k in range(length):
        value |= np.uint64(data[at + k]) << np.uint64(8 * k)
    return value


@jit
def heads_of(
    data: NDArray[np.uint8], base: int, starts: NDArray[np.int32], lengths: NDArray[np.int32], n_runs: int
) -> NDArray[np.uint64]:
    """Give the first eight bytes of each run, little-endian, zeroes behind a shorter run, uint64 [n_runs]."""
    heads = np.empty(n_runs, np.uint64)
    n_inner = n_runs  # of these, eight bytes can be read at once: compilers make one load of it
    while n_inner > 0 and base + starts[n_inner - 1] + 8 > len(data):
        n_inner -= 1
    for t in range(n_inner):
        at = np.uint64(base + starts[t])
        value = np.uint64(0)
        for k in range(8):
            value |= np.uint64(data[at + np.uint64(k)]) << np.uint64(8 * k)
        heads[t] = value & (ALL_64 >> np.uint64(64 - 8 * min(lengths[t], 8)))
    for t in range(n_inner, n_runs):
        heads[t] = first_eight(data, base + starts[t], min(lengths[t], 8))
    return heads
