"""What the kernels share: white space and validity of UTF-8, tokens as runs of marked bytes.

The kernels take text apart in bulk, so that the compiler vectorises and the processor seldom guesses a branch wrong: mark every
byte, find the runs of equal marks, load the first eight bytes of every run, and work on arrays of runs from there on.
"""

from collections.abc import Iterator

import numpy as np
from numba.cpython.unsafe.numbers import trailing_zeros
from numpy.typing import NDArray

from betr_spark.corpus.jit import jit

ALL_64 = np.uint64(0xFFFFFFFFFFFFFFFF)
_GATHER, _EACH_BYTE = np.uint64(0x0102040810204080), np.uint64(0x0101010101010101)
_1, _16, _56 = np.uint64(1), np.uint64(16), np.uint64(56)


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
def places(flags: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Give the places of the ones among bytes of 0 and 1, int32."""
    size = len(flags)
    found, n = np.empty(size + 16, np.int32), np.uint64(0)  # what is not written to costs no memory
    eights = flags[: size // 64 * 64].view(np.uint64)
    for block in range(size // 64):
        bits, count = np.uint64(0), np.uint64(0)
        for k in range(8):
            eight = eights[np.uint64(8 * block + k)]
            count += eight
            bits |= ((eight * _GATHER) >> _56) << np.uint64(8 * k)  # eight ones, brought to the topmost byte
        at = n
        n += (count * _EACH_BYTE) >> _56
        while bits != 0:
            for k in range(16):  # mostly enough for 64 bytes; what is written too much is written over
                found[at + np.uint64(k)] = 64 * block + trailing_zeros(bits)
                bits &= bits - _1
            at += _16
    for i in range(size // 64 * 64, size):
        found[n] = i
        n += np.uint64(flags[i])
    return found[: np.int64(n)]


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
    bounds = (offsets - offsets[0]).astype(np.int32)
    opens, closes = _edges(marks, bounds)
    begins, ends = places(opens), places(closes)
    return _runs(begins, ends, np.searchsorted(begins, bounds), extra)


@jit
def _edges(marks: NDArray[np.uint8], bounds: NDArray[np.int32]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """1 where a run begins, and where one has ended, uint8 [len(marks) + 1]; a run ends with its document."""
    size = len(marks)
    opens, closes = np.empty(size + 1, np.uint8), np.empty(size + 1, np.uint8)
    after, before, opens_after, closes_after = marks[1:], marks[:-1], opens[1:], closes[1:]
    for i in range(size - 1):
        changed = after[i] != before[i]
        opens_after[i] = np.uint8(changed & (after[i] != 0))
        closes_after[i] = np.uint8(changed & (before[i] != 0))
    for at in bounds:
        opens[at] = np.uint8(at < size and marks[at] != 0)
        closes[at] = np.uint8(at > 0 and marks[at - 1] != 0)
    return opens, closes


@jit
def _runs(
    begins: NDArray[np.int32], ends: NDArray[np.int32], firsts: NDArray[np.int64], extra: int
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32]]:
    n = len(firsts) - 1
    first = np.zeros(n + 1, np.int64)
    starts, lengths = np.empty(len(begins) + extra * n, np.int32), np.empty(len(begins) + extra * n, np.int32)
    count = np.int64(0)
    for document in range(n):
        a, b = firsts[document], firsts[document + 1]
        own_starts, own_lengths = starts[count : count + b - a], lengths[count : count + b - a]
        own_begins, own_ends = begins[a:b], ends[a:b]
        for run in range(b - a):
            own_starts[run] = own_begins[run]
            own_lengths[run] = own_ends[run] - own_begins[run]
        count += b - a
        if b > a:
            for _ in range(extra):
                starts[count], lengths[count] = starts[count - 1], lengths[count - 1]
                count += 1
        first[document + 1] = count
    return first, starts[:count], lengths[:count]


@jit
def first_eight(data: NDArray[np.uint8], at: int, length: int) -> np.uint64:
    """Give the first `length` (1 to 8) bytes from `at` as a little-endian number, zeroes above."""
    value = np.uint64(0)
    for k in range(length):
        value |= np.uint64(data[at + k]) << np.uint64(8 * k)
    return value


@jit
def heads_of(
    data: NDArray[np.uint8], base: int, starts: NDArray[np.int32], lengths: NDArray[np.int32]
) -> NDArray[np.uint64]:
    """Give the first eight bytes of each run, little-endian, zeroes behind a shorter run, uint64 [n_runs]."""
    n_runs = len(starts)
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


@jit
def behind_eight(
    starts: NDArray[np.int32], lengths: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """Give the runs of more than eight bytes, and start and length of what follows the first eight of each."""
    n_runs, n = len(starts), np.uint64(0)
    long, tail_starts = np.empty(n_runs + 1, np.int32), np.empty(n_runs + 1, np.int32)
    tail_lengths = np.empty(n_runs + 1, np.int32)
    for t in range(n_runs):  # without a branch; what is written too much is written over
        long[n], tail_starts[n], tail_lengths[n] = t, starts[t] + np.int32(8), lengths[t] - np.int32(8)
        n += np.uint64(lengths[t] > 8)
    n_long = np.int64(n)
    return long[:n_long], tail_starts[:n_long], tail_lengths[:n_long]


@jit
def _utf8_length(data: NDArray[np.uint8], i: int, end: int) -> int:
    """Bytes (2 to 4) of the character at a byte >= 0x80; 0 where it is no UTF-8 (RFC 3629: none too long, no surrogates)."""
    b = data[i]
    length = 0 if b < 0xC2 or b > 0xF4 else 2 if b < 0xE0 else 3 if b < 0xF0 else 4
    if length == 0 or i + length > end:
        return 0
    least = 0xA0 if b == 0xE0 else 0x90 if b == 0xF0 else 0x80
    most = 0x9F if b == 0xED else 0x8F if b == 0xF4 else 0xBF
    if data[i + 1] < least or data[i + 1] > most:
        return 0
    for k in range(2, length):
        if data[i + k] & 0xC0 != 0x80:
            return 0
    return length


@jit
def valid_utf8(data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell of each document whether it is UTF-8; `data` and `offsets` as everywhere, bool [n]."""
    valid = np.ones(len(offsets) - 1, np.bool_)
    for document in range(len(offsets) - 1):
        i, end = offsets[document], offsets[document + 1]
        while i < end and valid[document]:
            stop = min(i + 64, end)
            together = np.uint8(0)
            for b in data[i:stop]:
                together |= b
            if together < 0x80:
                i = stop
                continue
            while i < stop:
                length = 1 if data[i] < 0x80 else _utf8_length(data, i, end)
                if length == 0:
                    valid[document] = False
                    break
                i += length
    return valid
