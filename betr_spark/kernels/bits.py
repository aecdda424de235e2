"""Many bytes as bits: 64 of them to a number, the first one lowest."""

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
    """Build a compiled function of (data, i): 64 bits, of which bit k tells whether data[i + k] lies in one of the ranges.

    Both ends of a range belong to it. Compilers make a few vector instructions of all 64 bytes; nobody checks that there
    are so many.
    """

    @intrinsic
    def mask(_: object, data: Any, i: Any) -> Any:
        if not isinstance(data, types.Array) or data.layout != "C" or not isinstance(i, types.Integer):
            return None

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            array = context.make_array(signature.args[0])(context, builder, arguments[0])
            kind = ir.VectorType(ir.IntType(8), 64)
            place = builder.bitcast(builder.gep(array.data, [arguments[1]]), kind.as_pointer())
            eight_bits = builder.load(place, align=1)
            found = ir.Constant(ir.VectorType(ir.IntType(1), 64), [0] * 64)
            for least, most in ranges:
                above = builder.sub(eight_bits, ir.Constant(kind, [least] * 64))
                within = builder.icmp_unsigned("<=", above, ir.Constant(kind, [most - least] * 64))
                found = builder.or_(found, within)
            return builder.bitcast(found, ir.IntType(64))

        return types.uint64(data, types.intp), generate

    return mask


@jit
def last_block(data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Give the bytes behind the last full 64, and zeroes, uint8 [64]."""
    block, full = np.zeros(64, np.uint8), len(data) // 64 * 64
    block[: len(data) - full] = data[full:]
    return block


@jit
def lowest_one(bits: np.uint64) -> Any:
    """Give the place of the lowest one among 64 bits."""
    return np.int64(trailing_zeros(bits))


@jit
def count_ones(bits: np.uint64) -> np.uint64:
    """Count the ones of a number; compilers know this form of it."""
    twos = bits - ((bits >> _1) & _TWOS)
    fours = (twos & _FOURS) + ((twos >> _2) & _FOURS)
    return (((fours + (fours >> _4)) & _EIGHTS) * _EACH_BYTE) >> _56


@jit
def set_bit(bits: NDArray[np.uint64], i: int) -> None:
    """Set bit i of many, 64 a number, the least first."""
    bits[i >> 6] |= _1 << np.uint64(i & 63)


@jit
def clear_bit(bits: NDArray[np.uint64], i: int) -> None:
    """Clear bit i of many."""
    bits[i >> 6] &= ~(_1 << np.uint64(i & 63))
