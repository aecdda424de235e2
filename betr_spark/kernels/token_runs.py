"""What the kernels share: slices of documents, tokens as runs of marked bytes.

The kernels take text apart in bulk, so that the compiler vectorises and the processor seldom guesses a branch wrong: mark every
byte by a bit, find the runs of marks 64 bits at a time, load the first eight bytes of every run, and work on arrays of runs
from there on.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from betr_spark.kernels.bits import ALL_64, count_ones, lowest_one, set_bit
from betr_spark.kernels.jit import jit

_M1, _M2 = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)

_1, _16, _63 = np.uint64(1), np.uint64(16), np.uint64(63)


@jit
def end_of_slice(offsets: NDArray[np.int64], a: int, most_bytes: int) -> int:
    """Give the end of a slice of documents from document a on, of at most `most_bytes`, or of one longer document."""
    end: int = max(a + 1, np.searchsorted(offsets, offsets[a] + most_bytes, side="right") - 1)
    return end


@intrinsic
def prefetch(_: object, array: Any, row: Any) -> Any:
    """Ask for the first bytes of array[row] ahead of their use; a row that does not exist does no harm."""
    if not isinstance(array, types.Array) or row != types.uint64:
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        found = context.make_array(signature.args[0])(context, builder, arguments[0])
        start = builder.bitcast(found.data, ir.IntType(8).as_pointer())
        place = builder.gep(start, [builder.mul(arguments[1], builder.extract_value(found.strides, 0))])
        number = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [place.type, number, number, number])
        function = builder.module.declare_intrinsic("llvm.prefetch", [place.type], kind)
        builder.call(function, [place, number(0), number(3), number(1)])  # to read; into the nearest cache; data
        return context.get_dummy_value()

    return types.void(array, row), generate


@jit
def token_runs(
    marks: NDArray[np.uint64], breaks: NDArray[np.uint64], offsets: NDArray[np.int64], extra: int
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32]]:
    """Find the runs of marked bytes in each document.

    Args:
        marks: a bit a byte, 0 between tokens, uint64 [size // 64 + 1]; documents lie one after the other from bit 0 on,
            size bytes in all, and no bit is set behind them.
        breaks: 1 where a token does not go on from the byte before; this sets those between documents.
        offsets: int64 [n + 1]; document i is bytes offsets[i] - offsets[0] to offsets[i + 1] - offsets[0].
        extra: entries (0 or 1) behind the runs of each document that has any, copies of its last run.

    Returns:
        first: the first run of each document, and the end, int64 [n + 1]; first byte and length of each run, int32.
    """
    for offset in offsets:
        set_bit(breaks, offset - offsets[0])
    size = offsets[-1] - offsets[0]
    # What is not written to costs no memory.
    begins, ends = np.empty(size + 64, np.int32), np.empty(size + 64, np.int32)
    n_begins, n_ends, before = np.uint64(0), np.uint64(0), np.uint64(0)
    for block in range(len(marks)):
        bits = marks[block]
        earlier, before = (bits << _1) | before, bits >> _63
        here = np.int32(64 * block)
        opening, closing = bits & (~earlier | breaks[block]), earlier & (~bits | breaks[block])
        at, n_begins = n_begins, n_begins + count_ones(opening)
        while opening != 0:
            for k in range(16):  # mostly enough; what is written too much is written over
                begins[at + np.uint64(k)] = here + np.int32(lowest_one(opening))
                opening &= opening - _1
            at += _16
        at, n_ends = n_ends, n_ends + count_ones(closing)
        while closing != 0:
            for k in range(16):
                ends[at + np.uint64(k)] = here + np.int32(lowest_one(closing))
                closing &= closing - _1
            at += _16
    n, n_runs = len(offsets) - 1, np.int64(n_begins)
    firsts = np.searchsorted(begins[:n_runs], offsets - offsets[0])
    first = np.zeros(n + 1, np.int64)
    starts, lengths = np.empty(n_runs + extra * n, np.int32), np.empty(n_runs + extra * n, np.int32)
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
def prefixes_of(
    data: NDArray[np.uint8], base: int, starts: NDArray[np.int32], lengths: NDArray[np.int32]
) -> NDArray[np.uint64]:
    """Give the first eight bytes of each run, little-endian, zeroes behind a shorter run, uint64 [n_runs]."""
    n_runs = len(starts)
    prefixes = np.empty(n_runs, np.uint64)
    n_inner = n_runs  # of these, eight bytes can be read at once: compilers make one load of it
    while n_inner > 0 and base + starts[n_inner - 1] + 8 > len(data):
        n_inner -= 1
    for t in range(n_inner):
        at = np.uint64(base + starts[t])
        value = np.uint64(0)
        for k in range(8):
            value |= np.uint64(data[at + np.uint64(k)]) << np.uint64(8 * k)
        prefixes[t] = value & (ALL_64 >> np.uint64(64 - 8 * min(lengths[t], 8)))
    for t in range(n_inner, n_runs):
        prefixes[t] = first_eight(data, base + starts[t], min(lengths[t], 8))
    return prefixes


@jit
def behind_eight(
    starts: NDArray[np.int32], lengths: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """Give the runs of more than eight bytes, and start and length of what follows the first eight of each."""
    n_runs, n = len(starts), np.uint64(0)
    long = np.empty(n_runs + 1, np.int32)
    for t in range(n_runs):  # without a branch; what is written too much is written over
        long[n] = t
        n += np.uint64(lengths[t] > 8)
    n_long = np.int64(n)
    tail_starts, tail_lengths = np.empty(n_long, np.int32), np.empty(n_long, np.int32)
    for i in range(n_long):
        tail_starts[i] = starts[np.uint32(long[i])] + np.int32(8)
        tail_lengths[i] = lengths[np.uint32(long[i])] - np.int32(8)
    return long[:n_long], tail_starts, tail_lengths


@jit
def mix(x: np.uint64) -> np.uint64:
    """Spread every input bit over all 64 output bits (Murmur's finaliser)."""
    x = np.uint64((x ^ (x >> np.uint64(33))) * _M1)
    x = np.uint64((x ^ (x >> np.uint64(33))) * _M2)
    return x ^ (x >> np.uint64(33))
