"""Case folding of UTF-8 bytes: texts that differ in case only become equal bytes, and every character keeps its bytes.

A character folds to the single character of Unicode's case folding (`str.casefold`), so a final sigma equals a sigma. The
folded text has the same tokens (`shingle_tokens`) at the same bytes, because some characters are left as they are: those whose
folding has another number of bytes or characters (listed in tests/kernels/test_case_folding.py, such as U+0130 and U+00DF), and
those that are not parts of tokens in Unicode 14.0. Composed and decomposed characters stay different.
"""

import numpy as np
from numpy.typing import NDArray

from betr_spark.kernels.bits import byte_mask, last_block, lowest_bit
from betr_spark.kernels.jit import jit
from betr_spark.kernels.shingle_tokens import token_kind

_CASED = """
    80-587 10A0-10FF 13A0-13FD 1C80-1CBF 1D79-1D8E 1E00-1FFF 2100-2188 2C00-2D2D A640-A7FF AB53-ABBF FF21-FF5A
    10400-105BC 10C80-10CF2 118A0-118DF 16E40-16E7F 1E900-1E943
"""  # the ranges that are searched for characters with a case
_N_CODE_POINTS = 0x200000  # 21 bits: what four bytes can hold, valid or not


def foldings() -> dict[int, int]:
    """Compute the code points that fold, and what each folds to."""
    folded = {}
    for text in _CASED.split():
        first, last = (int(number, 16) for number in text.split("-"))
        for code_point in range(first, last + 1):
            character = chr(code_point)
            folding = character.casefold()
            if (
                folding != character
                and len(folding) == 1
                and len(folding.encode()) == len(character.encode())
                and token_kind(code_point) == token_kind(ord(folding)) == 1
            ):
                folded[code_point] = ord(folding)
    return folded


def _ranges(values: set[int]) -> list[tuple[int, int]]:
    """Ranges of consecutive numbers, both ends included."""
    firsts = sorted(value for value in values if value - 1 not in values)
    return list(zip(firsts, sorted(value for value in values if value + 1 not in values), strict=True))


_FOLDINGS = foldings()
_DIFFERENCES = np.zeros(_N_CODE_POINTS, np.int32)
_DIFFERENCES[list(_FOLDINGS)] = [folded - code_point for code_point, folded in _FOLDINGS.items()]
# The block of zeros and each block of 256 code points in which some fold, and the block's number for every 256 code points.
_USED = np.unique(np.array(list(_FOLDINGS)) >> 8)
_BLOCKS = np.concatenate([np.zeros((1, 256), np.int32), _DIFFERENCES.reshape(-1, 256)[_USED]])
_BLOCK_NUMBERS = np.zeros(_N_CODE_POINTS >> 8, np.uint8)
_BLOCK_NUMBERS[_USED] = np.arange(1, len(_USED) + 1)
_leads = byte_mask(*_ranges({chr(code_point).encode()[0] for code_point in _FOLDINGS}))

_1, _LOW_6 = np.uint64(1), 0x3F


@jit
def fold_case(text: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], bool]:
    """Fold the case of a text; bytes that are not UTF-8 stay as they are.

    Returns:
        The folded copy, uint8 [len(text)]; and whether a character that is not ASCII has changed.
    """
    size, changed = len(text), False
    folded = np.empty(size, np.uint8)
    for i in range(size):
        byte = text[i]
        folded[i] = byte | (np.uint8(np.uint8(byte - np.uint8(0x41)) <= np.uint8(25)) << np.uint8(5))
    end = last_block(text)
    for block in range(size // 64 + 1):
        leads = _leads(text, 64 * block) if block < size // 64 else _leads(end, 0)
        while leads != 0:
            i = 64 * block + lowest_bit(leads)
            leads &= leads - _1
            changed |= _fold_character(text, i, folded)
    return folded, changed


@jit
def _fold_character(text: NDArray[np.uint8], i: int, folded: NDArray[np.uint8]) -> bool:
    """Write the folding of the character of two to four bytes at byte i; return whether it is another character."""
    lead = np.int64(text[i])
    n_bytes = 2 + (lead >= 0xE0) + (lead >= 0xF0)
    if i + n_bytes > len(text):
        return False
    code_point = lead & (0x7F >> n_bytes)
    for k in range(1, n_bytes):
        low_6 = np.int64(text[i + k]) ^ 0x80  # 64 or more: not a continuation byte
        if low_6 > _LOW_6:
            return False
        code_point = code_point << 6 | low_6
    difference = np.int64(_BLOCKS[_BLOCK_NUMBERS[code_point >> 8], code_point & 0xFF])
    if difference == 0:
        return False
    code_point += difference
    for k in range(n_bytes - 1, 0, -1):
        folded[i + k] = 0x80 | (code_point & _LOW_6)
        code_point >>= 6
    folded[i] = ((0xF00 >> n_bytes) & 0xFF) | code_point
    return True
