"""A JIT that caches where it can."""

import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba

F = TypeVar("F", bound=Callable[..., Any])


def jit(function: F) -> F:
    """Compile without fast-math, so that sums are the same on every machine; cached on disk, once a machine.

    Where neither the code's folder nor the home can be written to (code in an archive, an executor without a home), the
    cache lies in the temporary folder. It watches a function's own file only: after an edit to a kernel that others call,
    remove `*.nbi` and `*.nbc`.
    """
    cached = _cached(function)
    if cached is None and (place := _own_temporary_folder()) is not None:
        os.environ["XDG_CACHE_HOME"] = str(place)
        cached = _cached(function)
    return cached or numba.njit(nogil=True)(function)


def _cached(function: F) -> F | None:
    try:
        compiled = numba.njit(cache=True, nogil=True)(function)
        place = Path(compiled.stats.cache_path)
        place.mkdir(parents=True, exist_ok=True)  # for code in a zip Numba itself does not look before the first call
        return compiled if os.access(place, os.W_OK) else None
    except (RuntimeError, OSError):
        return None


def _own_temporary_folder() -> Path | None:
    place = Path(tempfile.gettempdir()) / f"betr-spark-{os.getuid()}"
    try:
        place.mkdir(mode=0o700, exist_ok=True)
        about = place.stat(follow_symlinks=False)
    except OSError:
        return None
    return place if about.st_uid == os.getuid() and stat.S_IMODE(about.st_mode) == 0o700 else None
