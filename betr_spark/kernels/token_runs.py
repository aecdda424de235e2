"""What the tokenising kernels share: slices of documents, and tokens as runs of marked bytes.

The kernels work in bulk, so that the compiler vectorises the loops and the processor mispredicts few branches. They mark every
byte with a bit, find the runs of marks 64 bits at a time, load the first eight bytes of every run, and then work on arrays of
runs.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from betr_spark.kernels.bits import ALL_64, count_bits, lowest_bit, set_bit
from betr_spark.kernels.jit import jit

_M1, _M2 = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)

_1, _16, _63 = np.uint64(1), np.uint64(16), np.uint64(63)


@jit
def end_of_slice(offsets: NDArray[np.int64], a: int, max_bytes: int) -> int:
    """Return the end of a slice of documents that begins at document a: at most `max_bytes`, or a single longer document."""
    end: int = max(a + 1, np.searchsorted(offsets, offsets[a] + max_bytes, side="right") - 1)
    return end


@intrinsic
def prefetch(_: object, array: Any, row: Any) -> Any:
    """Prefetch the first bytes of array[row]; a row that does not exist is permitted."""
    if not isinstance(array, types.Array) or row != types.uint64:
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        rows = context.make_array(signature.args[0])(context, builder, arguments[0])
        start = builder.bitcast(rows.data, ir.IntType(8).as_pointer())
        address = builder.gep(start, [builder.mul(arguments[1], builder.extract_value(rows.strides, 0))])
        number = ir.IntType(32)
        function_type = ir.FunctionType(ir.VoidType(), [address.type, number, number, number])
        function = builder.module.declare_intrinsic("llvm.prefetch", [address.type], function_type)
        builder.call(function, [address, number(0), number(3), number(1)])  # for reading, into all cache levels, data
        return context.get_dummy_value()

    return types.void(array, row), generate


@jit
def token_runs(
    marks: NDArray[np.uint64], breaks: NDArray[np.uint64], offsets: NDArray[np.int64], extra: int
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32]]:
    """Find the runs of marked bytes in each document.

    Args:
        marks: one bit for each byte, 1 if it belongs to a token, uint64 [size // 64 + 1]. The documents follow each other from
            bit 0 on, `size` bytes in total; the bits after them are 0.
        breaks: 1 if a token cannot continue from the byte before; the function sets the breaks between documents.
        offsets: int64 [n + 1]; document i is bytes offsets[i] - offsets[0] to offsets[i + 1] - offsets[0].
        extra: 1 to append a copy of its last run to the runs of each document that has any, else 0.

    Returns:
        The position of each document's first run, and the number of runs, int64 [n + 1]; the first byte of each run, and its
        length, int32 each.
    """
    for offset in offsets:
        set_bit(breaks, offset - offsets[0])
    size = offsets[-1] - offsets[0]
    # Entries that are not written to cost no memory.
    begins, ends = np.empty(size + 64, np.int32), np.empty(size + 64, np.int32)
    n_begins, n_ends, before = np.uint64(0), np.uint64(0), np.uint64(0)
    for block in range(len(marks)):
        bits = marks[block]
        earlier, before = (bits << _1) | before, bits >> _63
        here = np.int32(64 * block)
        opening, closing = bits & (~earlier | breaks[block]), earlier & (~bits | breaks[block])
        at, n_begins = n_begins, n_begins + count_bits(opening)
        while opening != 0:
            for k in range(16):  # usually enough; surplus entries are overwritten
                begins[at + np.uint64(k)] = here + np.int32(lowest_bit(opening))
                opening &= opening - _1
            at += _16
        at, n_ends = n_ends, n_ends + count_bits(closing)
        while closing != 0:
            for k in range(16):
                ends[at + np.uint64(k)] = here + np.int32(lowest_bit(closing))
                closing &= closing - _1
            at += _16
    n, n_runs = len(offsets) - 1, np.int64(n_begins)
    firsts = np.searchsorted(begins[:n_runs], offsets - offsets[0])
    first = np.zeros(n + 1, np.int64)
    starts, lengths = np.empty(n_runs + extra * n, np.int32), np.empty(n_runs + extra * n, np.int32)
    count = np.int64(0)
    for document in range(n):
        a, b = firsts[document], firsts[document + 1]
        document_starts, document_lengths = starts[count : count + b - a], lengths[count : count + b - a]
        document_begins, document_ends = begins[a:b], ends[a:b]
        for run in range(b - a):
            document_starts[run] = document_begins[run]
            document_lengths[run] = document_ends[run] - document_begins[run]
        count += b - a
        if b > a:
            for _ in range(extra):
                starts[count], lengths[count] = starts[count - 1], lengths[count - 1]
                count += 1
        first[document + 1] = count
    return first, starts[:count], lengths[:count]


@jit
def first_eight(data: NDArray[np.uint8], at: int, length: int) -> np.uint64:
    """Return `length` bytes (0 to 8) from `at` on as a little-endian number."""
    value = np.uint64(0)
    for k in range(length):
        value |= np.uint64(data[at + k]) << np.uint64(8 * k)
    return value


@jit
def prefixes_of(
    data: NDArray[np.uint8], base: int, starts: NDArray[np.int32], lengths: NDArray[np.int32]
) -> NDArray[np.uint64]:
    """Return the prefix of each run, its first eight bytes or fewer, as a little-endian number, uint64 [n_runs]."""
    n_runs = len(starts)
    prefixes = np.empty(n_runs, np.uint64)
    n_inner = n_runs  # runs from whose start on eight bytes exist: the compiler turns reading them into one load
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
def long_runs(
    starts: NDArray[np.int32], lengths: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """Return the positions of the runs of more than eight bytes, and start and length of what follows the prefix of each."""
    n_runs, n = len(starts), np.uint64(0)
    long = np.empty(n_runs + 1, np.int32)
    for t in range(n_runs):  # without a branch; surplus entries are overwritten
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
    """Mix the bits of a number so that every output bit depends on every input bit (the finaliser of MurmurHash3)."""
    x = np.uint64((x ^ (x >> np.uint64(33))) * _M1)
    x = np.uint64((x ^ (x >> np.uint64(33))) * _M2)
    return x ^ (x >> np.uint64(33))
