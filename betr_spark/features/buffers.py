"""Arrow string columns as plain buffers, without a copy of the text."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def string_buffers(array: pa.Array) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Give the bytes and the offsets of a string, large_string, binary or large_binary array, sliced or not.

    A null has whatever lies in its place, which is mostly nothing: fill nulls first where that matters.

    Returns:
        data uint8 (the whole buffer) and offsets int64 [len + 1] into it.

    Raises:
        TypeError: another type.
    """
    large = pa.types.is_large_string(array.type) or pa.types.is_large_binary(array.type)
    if not large and not (pa.types.is_string(array.type) or pa.types.is_binary(array.type)):
        raise TypeError(f"string or binary is wanted, found {array.type}")
    _, offsets, data = array.buffers()
    if not len(array) or offsets is None:
        return np.empty(0, np.uint8), np.zeros(len(array) + 1, np.int64)
    kind = np.int64 if large else np.int32
    taken = np.frombuffer(offsets, kind)[array.offset : array.offset + len(array) + 1]
    return np.empty(0, np.uint8) if data is None else np.frombuffer(data, np.uint8), taken.astype(np.int64)
