"""What the kernels share: a JIT that caches where it can, and white space in UTF-8."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

F = TypeVar("F", bound=Callable[..., Any])


def jit(function: F) -> F:
    """Compile without fast-math, so that sums are the same on every machine; cached on disk where the place allows it.

    The cache watches a function's own file only: after an edit to a kernel that others call, remove `*.nbi` and `*.nbc`.
    """
    try:
        compiled = numba.njit(cache=True, nogil=True)(function)
        place = Path(compiled.stats.cache_path)
        place.mkdir(parents=True, exist_ok=True)  # for code in a zip Numba itself does not look before the first call
        if os.access(place, os.W_OK):
            return compiled  # type: ignore[no-any-return]
    except (RuntimeError, OSError):
        pass
    return numba.njit(nogil=True)(function)  # type: ignore[no-any-return]


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
