"""The content hash: MurmurHash3 x64 128 (Austin Appleby, public domain), as a kernel over buffers."""

import numpy as np
from numpy.typing import NDArray

from betr_spark.kernels.jit import jit
from betr_spark.kernels.token_runs import first_eight, mix

_C1 = np.uint64(0x87C37B91114253D5)
_C2 = np.uint64(0x4CF5AD432745937F)
_N1, _N2 = np.uint64(0x52DCE729), np.uint64(0x38495AB5)
_5 = np.uint64(5)


@jit
def rotate_left(x: np.uint64, bits: int) -> np.uint64:
    """Rotate a 64-bit number to the left."""
    return np.uint64(x << np.uint64(bits)) | np.uint64(x >> np.uint64(64 - bits))


@jit
def content_hashes(data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Hash the bytes of each document to 128 bits: seed 0, two little-endian halves.

    Args:
        data: bytes of all documents.
        offsets: int64 [n + 1].

    Returns:
        uint8 [n, 16].
    """
    n = len(offsets) - 1
    out = np.empty((n, 2), np.uint64)
    for document in range(n):
        start, end = offsets[document], offsets[document + 1]
        length = end - start
        h1, h2 = np.uint64(0), np.uint64(0)
        for block in range(length // 16):
            at = np.uint64(start + 16 * block)
            k1, k2 = np.uint64(0), np.uint64(0)
            for k in range(8):  # the compiler turns this into one load each
                k1 |= np.uint64(data[at + np.uint64(k)]) << np.uint64(8 * k)
                k2 |= np.uint64(data[at + np.uint64(8 + k)]) << np.uint64(8 * k)
            h1 ^= np.uint64(rotate_left(np.uint64(k1 * _C1), 31) * _C2)
            h1 = np.uint64(np.uint64(rotate_left(h1, 27) + h2) * _5 + _N1)
            h2 ^= np.uint64(rotate_left(np.uint64(k2 * _C2), 33) * _C1)
            h2 = np.uint64(np.uint64(rotate_left(h2, 31) + h1) * _5 + _N2)
        tail, rest = start + 16 * (length // 16), length % 16
        if rest > 8:
            h2 ^= np.uint64(rotate_left(np.uint64(first_eight(data, tail + 8, rest - 8) * _C2), 33) * _C1)
        if rest > 0:
            h1 ^= np.uint64(rotate_left(np.uint64(first_eight(data, tail, min(rest, 8)) * _C1), 31) * _C2)
        h1 ^= np.uint64(length)
        h2 ^= np.uint64(length)
        h1 += h2
        h2 += h1
        h1, h2 = mix(h1), mix(h2)
        h1 += h2
        h2 += h1
        out[document, 0], out[document, 1] = h1, h2
    return out.view(np.uint8).reshape(n, 16)
