"""The cache of compiled kernels: any copy of the same sources finds the code again, and changed sources never do.

Numba's own cache identifies a function by the absolute path of its file, and detects changes of that file only. Spark unpacks
an archive into a new folder for each application, so each application would compile again; and after a change of a kernel, the
functions in other files that call it would run its old code. The folder here is named for the package's version and the content
of the sources.
"""

import contextlib
import functools
import hashlib
import importlib.resources
import inspect
import os
import pickle
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import numba
from numba.core.caching import CompileResultCacheImpl, FunctionCache, IndexDataCacheFile, _CacheLocator

import betr_spark

_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_SHARED = {"betr_spark.kernels", "betr_spark.scoring"}  # packages whose kernels are compiled into their callers


class _KernelLocator(_CacheLocator):
    """Locates a function's cache by content, not by path and time of modification."""

    def __init__(self, function: Callable[..., Any], folder: Path, digest: str) -> None:
        self._py_file = inspect.getfile(function)  # for Numba's warnings
        self._folder, self._digest = folder / f"{betr_spark.__version__}-{digest[:16]}", digest
        self._disambiguator = f"{function.__module__}-{function.__code__.co_firstlineno}"

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], py_file: str) -> Self | None:  # noqa: ARG003 - Numba passes both
        folder = cache_folder()
        with contextlib.suppress(OSError):  # there is no source, such as at an interpreter's prompt
            return cls(py_func, folder, source_digest(py_func.__module__)) if folder else None
        return None

    def get_cache_path(self) -> str:
        return str(self._folder)

    def get_source_stamp(self) -> str:
        return self._digest

    def get_disambiguator(self) -> str:
        return self._disambiguator


class _KernelCacheImpl(CompileResultCacheImpl):
    _locator_classes = (_KernelLocator,)


class _OverloadFiles(IndexDataCacheFile):
    """One file for each overload, named for its types and the processor, without Numba's index of overloads.

    Processes that add overloads to an index at the same time choose the same file name for them, and an entry can then lead to
    the code of a different overload. Numba writes a file under a temporary name and renames it, so it is complete or absent.
    """

    def save(self, key: Any, data: Any) -> None:
        self._save_data(self._name(key), (key, data))

    def load(self, key: Any) -> Any:
        try:
            saved_key, data = self._load_data(self._name(key))
        except (OSError, EOFError, ImportError, AttributeError, IndexError, pickle.UnpicklingError):
            return None  # absent, damaged by a crash, or of code that is not here: compile and write again
        return data if saved_key == key else None

    def _name(self, key: Any) -> str:
        digest = hashlib.sha256(repr(key).encode()).digest()
        return str(self._data_name_pattern.format(number=int.from_bytes(digest[:8], "little")))


class KernelCache(FunctionCache):
    """The cache of one function. A failure to write, such as on a full disk, does not stop the run.

    Raises:
        RuntimeError: no folder can be written to, or the function has no source.
    """

    _impl_class = _KernelCacheImpl

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._cache_file = _OverloadFiles(self.cache_path, self._impl.filename_base, None)

    def save_overload(self, sig: Any, data: Any) -> None:
        """Write the code of one overload."""
        with contextlib.suppress(OSError):
            super().save_overload(sig, data)


def source_digest(module: str) -> str:
    """Digest of the sources that a module's functions can depend on, and of the versions of this package and Numba, hex.

    These are the modules of its own package and of those whose kernels others call; of a module elsewhere, its own source too.

    Raises:
        OSError: the module has no source.
    """
    digest = hashlib.sha256(f"{betr_spark.__version__} {numba.__version__}".encode())
    package = sys.modules[module].__package__ or ""
    if package.startswith("betr_spark."):
        packages = _SHARED | {package}
    else:
        packages = _SHARED
        digest.update(inspect.getsource(sys.modules[module]).encode())
    for name in sorted(packages):
        digest.update(_package_digest(name))
    return digest.hexdigest()


@functools.cache
def _package_digest(package: str) -> bytes:
    """Digest of a package's sources, in a folder or in a zip."""
    digest = hashlib.sha256(package.encode())
    for file in sorted(importlib.resources.files(package).iterdir(), key=lambda file: file.name):
        if file.name.endswith(".py"):
            digest.update(file.name.encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.digest()


@functools.cache
def cache_folder() -> Path | None:
    """Choose the folder for compiled code: the first that can be written to, and that is private; None if there is none.

    The candidates are in NUMBA_CACHE_DIR, in the user's cache folder, and in the temporary folder. Code is loaded from it: a
    folder that another user created, can write to or can replace is not used.
    """
    for folder in _candidates():
        with contextlib.suppress(OSError):
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
            if _is_private(folder):
                tempfile.TemporaryFile(dir=folder).close()
                return folder
    return None


def _candidates() -> Iterator[Path]:
    if numba.config.CACHE_DIR:
        yield Path(numba.config.CACHE_DIR) / "betr-spark"
    with contextlib.suppress(RuntimeError):  # an executor's user may have no home
        user_folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        if user_folder.is_absolute():
            yield user_folder / "betr-spark"
    yield Path(tempfile.gettempdir()) / f"betr-spark-{os.getuid()}"


def _is_private(folder: Path) -> bool:
    """Whether a folder is the user's, and no other user but root can write to it or put another one in its place."""
    own = folder.stat(follow_symlinks=False)
    if not stat.S_ISDIR(own.st_mode) or own.st_uid != os.getuid() or own.st_mode & _WRITABLE_BY_OTHERS:
        return False
    above = [parent.stat() for parent in folder.resolve().parents]
    return all(
        status.st_uid in (0, os.getuid())
        and (not status.st_mode & _WRITABLE_BY_OTHERS or status.st_mode & stat.S_ISVTX)
        for status in above
    )
