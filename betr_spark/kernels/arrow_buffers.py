"""Conversion between Arrow string or binary columns and plain buffers, without a Python object for each row."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def string_buffers(array: pa.Array) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the bytes and the offsets of a string, large_string, binary or large_binary array, sliced or not.

    The bytes of a null are undefined, though usually there are none: fill nulls first if they matter.

    Returns:
        data uint8 (the whole buffer) and offsets int64 [len(array) + 1] into it.

    Raises:
        TypeError: the array has a different type.
    """
    large = pa.types.is_large_string(array.type) or pa.types.is_large_binary(array.type)
    if not large and not (pa.types.is_string(array.type) or pa.types.is_binary(array.type)):
        raise TypeError(f"array: found type {array.type}; string, large_string, binary or large_binary is required")
    _, offsets, data = array.buffers()
    if not len(array) or offsets is None:
        return np.empty(0, np.uint8), np.zeros(len(array) + 1, np.int64)
    of_slice = np.frombuffer(offsets, np.int64 if large else np.int32)[array.offset : array.offset + len(array) + 1]
    return np.empty(0, np.uint8) if data is None else np.frombuffer(data, np.uint8), of_slice.astype(np.int64)


def binary_rows(array: pa.Array, width: int) -> NDArray[np.uint8]:
    """Return a binary column without nulls, all rows of `width` bytes, as uint8 [n, width]."""
    data, offsets = string_buffers(array)
    return data[offsets[0] : offsets[-1]].reshape(len(array), width)


def binary_column(rows: NDArray[np.uint8], valid: NDArray[np.bool_] | None = None) -> pa.Array:
    """Return uint8 [n, width] as a binary column, null where `valid` is False."""
    count, width = rows.shape
    offsets = pa.py_buffer(
        np.arange(0, (count + 1) * width, width, dtype=np.int32) if width else np.zeros(count + 1, np.int32)
    )
    mask = None if valid is None else pa.py_buffer(np.packbits(valid, bitorder="little"))
    return pa.Array.from_buffers(pa.binary(), count, [mask, offsets, pa.py_buffer(np.ascontiguousarray(rows))])


def binary_pieces(values: NDArray[np.uint8], offsets: NDArray[np.int64]) -> pa.Array:
    """Return consecutive pieces of a buffer of less than 2 GiB as a binary column; offsets in bytes, int64 [n + 1], from 0."""
    bounds = offsets.astype(np.int32)
    return pa.Array.from_buffers(pa.binary(), len(offsets) - 1, [None, pa.py_buffer(bounds), pa.py_buffer(values)])
