"""Sets of bytes as bits: one bit for each byte, 64 in a number, the first byte in the lowest bit."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.cpython.unsafe.numbers import trailing_zeros
from numba.extending import intrinsic
from numpy.typing import NDArray

from betr_spark.kernels.jit import jit

ALL_64 = np.uint64(0xFFFFFFFFFFFFFFFF)
_1, _2, _4, _56 = np.uint64(1), np.uint64(2), np.uint64(4), np.uint64(56)
_TWOS, _FOURS = np.uint64(0x5555555555555555), np.uint64(0x3333333333333333)
_EIGHTS, _EACH_BYTE = np.uint64(0x0F0F0F0F0F0F0F0F), np.uint64(0x0101010101010101)


def byte_mask(*ranges: tuple[int, int]) -> Any:
    """Build a compiled function of (data, i) that returns 64 bits: bit k is set if data[i + k] is in one of the ranges.

    A range includes both ends. The compiler tests all 64 bytes with a few vector instructions. There is no bounds check: 64
    bytes must exist from i on.
    """

    @intrinsic
    def mask(_: object, data: Any, i: Any) -> Any:
        if not isinstance(data, types.Array) or data.layout != "C" or not isinstance(i, types.Integer):
            return None

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            array = context.make_array(signature.args[0])(context, builder, arguments[0])
            vector = ir.VectorType(ir.IntType(8), 64)
            address = builder.bitcast(builder.gep(array.data, [arguments[1]]), vector.as_pointer())
            values = builder.load(address, align=1)
            in_ranges = ir.Constant(ir.VectorType(ir.IntType(1), 64), [0] * 64)
            for low, high in ranges:
                above_low = builder.sub(values, ir.Constant(vector, [low] * 64))
                in_range = builder.icmp_unsigned("<=", above_low, ir.Constant(vector, [high - low] * 64))
                in_ranges = builder.or_(in_ranges, in_range)
            return builder.bitcast(in_ranges, ir.IntType(64))

        return types.uint64(data, types.intp), generate

    return mask


@jit
def last_block(data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the bytes after the last full block of 64, padded with zeros, uint8 [64]."""
    block, full = np.zeros(64, np.uint8), len(data) // 64 * 64
    block[: len(data) - full] = data[full:]
    return block


@jit
def lowest_bit(bits: np.uint64) -> Any:
    """Return the position of the lowest set bit of a number that is not 0."""
    return np.int64(trailing_zeros(bits))


@jit
def count_bits(bits: np.uint64) -> np.uint64:
    """Count the set bits of a number, in a form that the compiler turns into one instruction."""
    twos = bits - ((bits >> _1) & _TWOS)
    fours = (twos & _FOURS) + ((twos >> _2) & _FOURS)
    return (((fours + (fours >> _4)) & _EIGHTS) * _EACH_BYTE) >> _56


@jit
def set_bit(bits: NDArray[np.uint64], i: int) -> None:
    """Set bit i of an array of 64-bit numbers."""
    bits[i >> 6] |= _1 << np.uint64(i & 63)


@jit
def clear_bit(bits: NDArray[np.uint64], i: int) -> None:
    """Clear bit i of an array of 64-bit numbers."""
    bits[i >> 6] &= ~(_1 << np.uint64(i & 63))
