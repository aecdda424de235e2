"""Characters of UTF-8, byte by byte: which are white space, which stand alone, and whether they are characters at all."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from betr_spark.kernels.bits import ALL_64, byte_mask, lowest_one
from betr_spark.kernels.jit import jit

_non_ascii = byte_mask((0x80, 0xFF))
_1 = np.uint64(1)


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
def code_point(data: NDArray[np.uint8], i: int, end: int) -> tuple[Any, int]:
    """Code point and length at a byte >= 0x80; (0, 1) where it is no UTF-8, so that no neighbour is swallowed."""
    b = np.int64(data[i])
    if b < 0xC2 or b > 0xF4:
        return 0, 1
    length = 2 if b < 0xE0 else 3 if b < 0xF0 else 4
    if i + length > end:
        return 0, 1
    value = b & (0x7F >> length)
    for k in range(1, length):
        following = np.int64(data[i + k])
        if following & 0xC0 != 0x80:
            return 0, 1
        value = (value << 6) | (following & 0x3F)
    return value, length


@jit
def is_unspaced(c: int) -> bool:
    """Tell whether a character is of a script written without spaces: Thai, Lao, Myanmar, Khmer, Kana, Han."""
    if c < 0x0E00:
        return False
    if c < 0x2E80:
        return c <= 0x0EFF or 0x1000 <= c <= 0x109F or 0x1780 <= c <= 0x17FF or 0x19E0 <= c <= 0x19FF
    if c < 0x3040:
        return c <= 0x2FDF or 0x3005 <= c <= 0x3007 or 0x3021 <= c <= 0x3029 or 0x3038 <= c <= 0x303B
    if c < 0x3400:
        return c <= 0x30FF or 0x31F0 <= c <= 0x31FF or 0x32D0 <= c <= 0x32FE or 0x3300 <= c <= 0x3357
    if c < 0xF900:
        return c <= 0x4DBF or 0x4E00 <= c <= 0x9FFF or 0xA9E0 <= c <= 0xA9FF or 0xAA60 <= c <= 0xAA7F
    if c < 0x1AFF0:
        return c <= 0xFAFF or 0xFF66 <= c <= 0xFF9F
    return c <= 0x1AFFE or 0x1B000 <= c <= 0x1B16F or 0x20000 <= c <= 0x3FFFF


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
        after = i  # the character before has ended here
        while i < end and valid[document]:
            bits = ALL_64 >> np.uint64(64 - min(64, end - i))
            if i + 64 <= len(data):
                bits &= _non_ascii(data, i)
            while bits != 0:
                at = i + lowest_one(bits)
                bits &= bits - _1
                if at >= after:
                    length = 1 if data[at] < 0x80 else _utf8_length(data, at, end)
                    after = at + length
                    if length == 0:
                        valid[document] = False
                        break
            i += 64
    return valid
