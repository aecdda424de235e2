"""Spark's errors as one line: recognised by error condition, exception class and chain of causes, never by their text."""

import errno
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import unquote

from py4j.java_gateway import is_instance_of
from py4j.protocol import Py4JError, Py4JJavaError
from pyspark import SparkContext
from pyspark.errors.exceptions.captured import CapturedException

from betr_spark.errors import BetrSparkError, DataError, StoreError

_MAX_CAUSES = 20
_REASON_LENGTH = 300
_ENDS_OF_FULL_DISK = ("No space left on device", "No space left on device)", "Disk quota exceeded")
_FULL_DISK = {errno.ENOSPC, errno.EDQUOT}
_RAISED_IN_WORKER = re.compile(r"betr_spark\.errors\.\w+: (.*)", re.DOTALL)
_FULL_DISK_IN_WORKER = re.compile(rf"OSError: \[Errno ({'|'.join(str(number) for number in _FULL_DISK)})\]")
_MEANINGS = {  # of exception classes that say little by themselves
    "java.io.EOFException": "truncated file",
    "java.io.FileNotFoundException": "no such file",
    "java.nio.file.NoSuchFileException": "no such file",
    "java.nio.file.AccessDeniedException": "access denied",
    "org.apache.hadoop.security.AccessControlException": "access denied",
    "com.github.luben.zstd.ZstdIOException": "invalid zstd data",
    "java.util.zip.ZipException": "invalid gzip data",
}
# Errors of a store's client, which come without a condition of Spark. The last ones are packages.
_STORE_CLASSES = (
    "java.io.FileNotFoundException",
    "java.nio.file.FileSystemException",
    "org.apache.hadoop.security.AccessControlException",
    "org.apache.hadoop.fs.UnsupportedFileSystemException",
    "org.apache.hadoop.fs.PathIOException",
    "org.apache.hadoop.fs.s3a.",
    "software.amazon.awssdk.",
)
_UNREACHABLE = (
    "java.net.ConnectException",
    "java.net.NoRouteToHostException",
    "java.net.UnknownHostException",
    "org.apache.hadoop.net.ConnectTimeoutException",
)

# The class of an exception, and what differs between two requests for the same thing.
_OF_THE_SDK = re.compile(
    r"software\.amazon\.awssdk\.[\w.]+: |, (?:Extended )?Request ID: [^,)]*| \(SDK Attempt Count: \d+\)"
)


class Cause(NamedTuple):
    """One exception of a chain of causes in the JVM."""

    class_names: tuple[str, ...]
    """Its class, then the superclasses."""
    message: str
    condition: str | None
    """Spark's (and Delta's) name of the error, such as FAILED_READ_FILE.NO_HINT."""
    parameters: dict[str, str]
    file: str | None
    """The file that a java.nio exception names."""

    def is_a(self, *prefixes: str) -> bool:
        """Tell whether its class or a superclass is one of these, or lies in a package that is."""
        return any(name == p or (p.endswith(".") and name.startswith(p)) for name in self.class_names for p in prefixes)

    def has(self, condition: str) -> bool:
        """Tell whether its condition is this one, or a sub-condition of it."""
        return self.condition is not None and f"{self.condition}.".startswith(f"{condition}.")


def causes(error: BaseException) -> list[Cause]:
    """List the JVM's exceptions of an error, the outermost first; empty for an error that did not come from the JVM.

    Follows `__cause__` in Python and `getCause()` in the JVM.
    """
    chain: list[Cause] = []
    for exception in _python_chain(error):
        if isinstance(exception, Py4JJavaError):
            thrown = exception.java_exception
        elif isinstance(exception, CapturedException):
            thrown = exception._origin  # noqa: SLF001 - its public methods stop at the outermost cause
        else:
            continue
        try:
            chain.extend(_cause(java_exception) for java_exception in _java_chain(thrown))
        except Py4JError:  # the JVM has ended
            break
    return chain


def spark_error_line(error: BaseException) -> str | None:
    """Return one line for a failure that the user can fix (an unreadable file, a full disk), None for any other."""
    chain = causes(error)
    line = (
        _full_disk(error, chain) or _concurrent_write(error, chain) or _raised(chain) or _unreachable(chain)
        or _unreadable(chain)
    )  # fmt: skip
    return None if line is None else " ".join(_OF_THE_SDK.sub("", line).split())


def user_error(error: BaseException) -> BetrSparkError | None:
    """Return a failure that the user can fix, or that may pass, as an error of this package; None for any other."""
    line = spark_error_line(error)
    if line is None:
        return None
    return StoreError(line) if _unreachable(causes(error)) else DataError(line)


@contextmanager
def translated() -> Iterator[None]:
    """Raise Spark's errors that the user can fix as one line; others pass unchanged."""
    try:
        yield
    except BetrSparkError:
        raise
    except Exception as error:
        known = user_error(error)
        if known is None:
            raise
        raise known from error


def problems_of(check: Callable[[], object]) -> Iterator[str]:
    """Call a check that raises, and give what it raises as lines."""
    try:
        with translated():
            check()
    except BetrSparkError as error:
        yield from str(error).splitlines()


def _python_chain(error: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = error
    for _ in range(_MAX_CAUSES):
        if current is None:
            return
        yield current
        current = current.__cause__


def _java_chain(thrown: Any) -> Iterator[Any]:
    for _ in range(_MAX_CAUSES):
        if thrown is None:
            return
        yield thrown
        thrown = thrown.getCause()


def _cause(thrown: Any) -> Cause:
    names, java_class = [], thrown.getClass()
    while java_class is not None:
        names.append(str(java_class.getName()))
        java_class = java_class.getSuperclass()
    condition, parameters = None, {}
    if is_instance_of(SparkContext._gateway, thrown, "org.apache.spark.SparkThrowable"):  # noqa: SLF001
        utils = SparkContext._jvm.PythonErrorUtils  # type: ignore[union-attr]  # noqa: SLF001
        condition, parameters = utils.getCondition(thrown), dict(utils.getMessageParameters(thrown))
    file = thrown.getFile() if "java.nio.file.FileSystemException" in names else None
    return Cause(tuple(names), str(thrown.getMessage() or ""), condition, parameters, file)


def _full_disk(error: BaseException, chain: list[Cause]) -> str | None:
    in_python = any(isinstance(e, OSError) and e.errno in _FULL_DISK for e in _python_chain(error))
    in_jvm = any(cause.is_a("java.io.IOException") and cause.message.endswith(_ENDS_OF_FULL_DISK) for cause in chain)
    in_worker = any(_FULL_DISK_IN_WORKER.match(_last_error(cause)) for cause in chain)
    if not (in_python or in_jvm or in_worker):
        return None
    return (
        "a disk is full (No space left on device): the output's disk, or the disk of temporary files, here "
        f"{tempfile.gettempdir()}; set TMPDIR, and spark.local.dir for Spark's own, to a folder on another disk"
    )


def _concurrent_write(error: BaseException, chain: list[Cause]) -> str | None:
    # Delta's Python package puts classes of its own, with neither condition nor origin, in place of the JVM's.
    in_python = any(type(e).__module__.startswith("delta.exceptions") for e in _python_chain(error))
    if not in_python and not any(cause.is_a("io.delta.exceptions.") for cause in chain):
        return None
    return "output: another run wrote to the same table at the same time; nothing is lost: run again after it has ended"


def _raised(chain: list[Cause]) -> str | None:
    """Return the message of an error that this package raised, in a worker or by `raise_error`."""
    for cause in chain:
        if cause.has("USER_RAISED_EXCEPTION"):
            return cause.parameters["errorMessage"]
        if raised := _RAISED_IN_WORKER.fullmatch(_last_error(cause)):
            return raised[1]
    return None


def _last_error(cause: Cause) -> str:
    """Return the last error of a Python worker's traceback, `module.Class: message`; empty for any other exception."""
    lines = cause.parameters.get("traceback", "").rstrip().splitlines() if cause.has("PYTHON_EXCEPTION") else []
    frames = [number for number, line in enumerate(lines) if line.startswith("  ")]
    return "\n".join(lines[frames[-1] + 1 :]) if frames else ""


def _unreachable(chain: list[Cause]) -> str | None:
    for cause in chain:
        if cause.is_a(*_UNREACHABLE):
            reason = _OF_THE_SDK.sub("", cause.message)[:_REASON_LENGTH]
            return f"the store cannot be reached; run again when it can: {reason}"
    return None


def _unreadable(chain: list[Cause]) -> str | None:
    for number, cause in enumerate(chain):
        path = cause.parameters.get("path", "input")
        if cause.has("PATH_NOT_FOUND"):
            return f"{path}: no such file or folder"
        if cause.has("FAILED_READ_FILE"):
            if not cause.has("FAILED_READ_FILE.CANNOT_READ_FILE_FOOTER"):  # all but this one give an encoded URI
                path = unquote(path)
            if cause.has("FAILED_READ_FILE.FILE_NOT_EXIST"):
                return f"{path}: no such file; it was deleted or replaced after the run had listed it"
            return f"{path}: cannot be read ({_reason(chain[number + 1 :], path) or cause.condition})"
        if cause.has("CANNOT_MERGE_SCHEMAS"):
            left, right = (cause.parameters[side].strip('"') for side in ("left", "right"))
            return f"input: the files have columns of different types: {left} and {right}"
        if cause.has("DELTA_READ_TABLE_WITHOUT_COLUMNS"):
            return f"{cause.parameters.get('tableName', 'input')}: cannot be read (the Delta table has no columns)"
        if cause.is_a("java.lang.ClassNotFoundException") and cause.message.endswith("FileSystem not found"):
            return f"Hadoop: {cause.message}; add the jars of this file system, for example by spark-submit --packages"
        if cause.is_a(*_STORE_CLASSES):
            inner = chain[number + 1].message if chain[number + 1 :] else ""
            repeats = (
                inner and inner in cause.message
            )  # S3A's messages name the file and repeat the SDK's, which does not
            reason = _reason(chain[number : number + 1] if repeats else chain[number:], cause.file or "")
            return f"{cause.file}: cannot be read or written ({reason})" if cause.file else reason
    return None


def _reason(chain: list[Cause], path: str) -> str:
    """Join the messages of causes, without the file's own name and without what an inner cause says again."""
    parts: list[str] = []
    for cause in reversed(chain):
        text = cause.message.removeprefix(path).lstrip(": ") or cause.class_names[0].rpartition(".")[2]
        meaning = _MEANINGS.get(cause.class_names[0])
        if not parts or parts[0] not in text:
            parts.insert(0, f"{meaning}: {text}" if meaning else text)
    return ": ".join(parts)[:_REASON_LENGTH]
