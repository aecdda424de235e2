"""UTF-8: which bytes are white space, and which texts are valid."""

import numpy as np
from numpy.typing import NDArray

from betr_spark.kernels.bits import ALL_64, byte_mask, lowest_bit
from betr_spark.kernels.jit import jit

_non_ascii, _continuations = byte_mask((0x80, 0xFF)), byte_mask((0x80, 0xBF))
# Lead bytes of two bytes and more, of three and more, of four (RFC 3629); and the second bytes that some leads do not permit:
# overlong forms, surrogates, and code points above U+10FFFF.
_leads, _long_leads, _leads_of_four = byte_mask((0xC2, 0xF4)), byte_mask((0xE0, 0xF4)), byte_mask((0xF0, 0xF4))
_E0, _80_to_9F = byte_mask((0xE0, 0xE0)), byte_mask((0x80, 0x9F))
_ED, _A0_to_BF = byte_mask((0xED, 0xED)), byte_mask((0xA0, 0xBF))
_F0, _80_to_8F = byte_mask((0xF0, 0xF0)), byte_mask((0x80, 0x8F))
_F4, _90_to_BF = byte_mask((0xF4, 0xF4)), byte_mask((0x90, 0xBF))
_1, _2, _3 = np.uint64(1), np.uint64(2), np.uint64(3)


@jit
def separator_length(data: NDArray[np.uint8], i: int, end: int) -> int:
    """Return the length, 1 to 3 bytes, of the white-space character (str.isspace) or NUL at byte i; 0 if there is none."""
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
def valid_utf8(data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Check whether each document is UTF-8 (RFC 3629: no overlong forms, no surrogates, at most U+10FFFF).

    Args:
        data: bytes of all documents, uint8.
        offsets: int64 [n + 1].

    Returns:
        bool [n].
    """
    valid = np.ones(len(offsets) - 1, np.bool_)
    tail = np.zeros(64, np.uint8)
    for document in range(len(offsets) - 1):
        i, end = offsets[document], offsets[document + 1]
        while i < end:
            n_bytes = min(64, end - i)
            if i + 64 <= len(data):
                if _non_ascii(data, i) == 0:
                    i += 64
                    continue
                n_whole = _whole_characters(data, i, n_bytes)
            else:
                tail[:n_bytes] = data[i : i + n_bytes]
                n_whole = _whole_characters(tail, 0, n_bytes)
            if n_whole == 0:
                valid[document] = False
                break
            i += n_whole
    return valid


@jit
def _whole_characters(data: NDArray[np.uint8], at: int, n_bytes: int) -> int:
    """Count the bytes of complete characters among `n_bytes` (1 to 64) from `at` on; 64 bytes must exist.

    A last character that needs more bytes does not count. The result is 0 if the bytes before it are not UTF-8.
    """
    inside = ALL_64 >> np.uint64(64 - n_bytes)
    non_ascii = _non_ascii(data, at) & inside
    if non_ascii == 0:
        return n_bytes
    leads, long, four = _leads(data, at) & inside, _long_leads(data, at) & inside, _leads_of_four(data, at) & inside
    incomplete = (leads & ~(inside >> _1)) | (long & ~(inside >> _2)) | (four & ~(inside >> _3))
    if incomplete != 0:
        n_bytes = lowest_bit(incomplete)
        if n_bytes == 0:
            return 0
        inside = ALL_64 >> np.uint64(64 - n_bytes)
        non_ascii, leads, long, four = non_ascii & inside, leads & inside, long & inside, four & inside
    continuations = _continuations(data, at) & inside
    if (leads << _1 | long << _2 | four << _3) != continuations or (leads | continuations) != non_ascii:
        return 0
    if long != 0:
        wrong = (_E0(data, at) << _1 & _80_to_9F(data, at)) | (_ED(data, at) << _1 & _A0_to_BF(data, at))
        if four != 0:
            wrong |= (_F0(data, at) << _1 & _80_to_8F(data, at)) | (_F4(data, at) << _1 & _90_to_BF(data, at))
        if wrong & inside != 0:
            return 0
    return n_bytes
