"""The decorator that compiles kernels."""

import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

import numba

from betr_spark.kernels.compiled_code import KernelCache

F = TypeVar("F", bound=Callable[..., Any])


def jit(function: F) -> F:
    """Compile without fast-math, so that sums are the same on every machine; cache the machine code (`compiled_code`)."""
    kernel: Any = numba.njit(nogil=True)(function)
    with contextlib.suppress(RuntimeError):  # there is no folder for the cache: each process compiles
        kernel._cache = KernelCache(function)  # noqa: SLF001 - njit(cache=True) sets Numba's own cache the same way
    compiled: F = kernel
    return compiled
