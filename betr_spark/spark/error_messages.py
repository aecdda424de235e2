"""Spark's errors as one line: recognised by error condition, exception class and chain of causes, never by their text."""

import errno
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import unquote

from betr_spark.errors import REPAIR, BetrSparkError, DataError, StoreError
from betr_spark.spark.causes import Cause, causes, python_chain

_REASON_LENGTH = 300
_ENDS_OF_FULL_DISK = ("No space left on device", "No space left on device)", "Disk quota exceeded")
_FULL_DISK = {errno.ENOSPC, errno.EDQUOT}
_REFUSED = {errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE}  # of Python's own access to a file
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
    "org.apache.hadoop.fs.ChecksumException",
    "org.apache.hadoop.fs.s3a.",
    "software.amazon.awssdk.",
)
# Conditions of a Delta table whose log is not complete, and classes of errors about a file that is no JSON or was cut.
_DAMAGED_LOG = (
    "DELTA_STATE_RECOVER_ERROR",
    "DELTA_TRUNCATED_TRANSACTION_LOG",
    "DELTA_VERSIONS_NOT_CONTIGUOUS",
    "DELTA_LOG_FILE_NOT_FOUND",
    "DELTA_MISSING_PART_FILES",
    "DELTA_TXN_LOG_FAILED_INTEGRITY",
)
DAMAGE = ("com.fasterxml.jackson.core.JacksonException", "org.apache.hadoop.fs.ChecksumException")
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


def spark_error_line(error: BaseException) -> str | None:
    """Return one line for a failure that the user can fix (an unreadable file, a full disk), None for any other."""
    chain = causes(error)
    line = (
        _full_disk(error, chain) or _concurrent_write(error, chain) or _raised(chain) or _unreachable(chain)
        or _unreadable(chain) or _damaged_log(chain) or _refused(error)
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


def _full_disk(error: BaseException, chain: list[Cause]) -> str | None:
    in_python = any(isinstance(e, OSError) and e.errno in _FULL_DISK for e in python_chain(error))
    in_jvm = any(cause.is_a("java.io.IOException") and cause.message.endswith(_ENDS_OF_FULL_DISK) for cause in chain)
    in_worker = any(_FULL_DISK_IN_WORKER.match(_last_error(cause)) for cause in chain)
    if not (in_python or in_jvm or in_worker):
        return None
    return (
        "a disk is full (No space left on device): the output's disk, or the disk of temporary files, here "
        f"{tempfile.gettempdir()}; set TMPDIR, and spark.local.dir for Spark's own, to a folder on another disk"
    )


def _refused(error: BaseException) -> str | None:
    for exception in python_chain(error):
        if isinstance(exception, OSError) and exception.errno in _REFUSED and exception.filename:
            return f"{exception.filename}: cannot be read or written ({exception.strerror})"
    return None


def _concurrent_write(error: BaseException, chain: list[Cause]) -> str | None:
    # Delta's Python package puts classes of its own, with neither condition nor origin, in place of the JVM's.
    in_python = any(type(e).__module__.startswith("delta.exceptions") for e in python_chain(error))
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
            return _unreadable_file(cause, chain[number + 1 :])
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


def _unreadable_file(cause: Cause, inner: list[Cause]) -> str:
    path = cause.parameters.get("path", "input")
    if not cause.has("FAILED_READ_FILE.CANNOT_READ_FILE_FOOTER"):  # all but this one give an encoded URI
        path = unquote(path)
    if "/_delta_log/" in path:
        return f"{path}: damaged: not a whole commit of a Delta table; {REPAIR}"
    if cause.has("FAILED_READ_FILE.FILE_NOT_EXIST"):
        gone = "no such file; it was deleted or replaced after the run had listed it"
        return f"{path}: {gone}; if a table lost it: {REPAIR}"
    return f"{path}: cannot be read ({_reason(inner, path) or cause.condition})"


def _damaged_log(chain: list[Cause]) -> str | None:
    for cause in chain:
        if cause.is_a(*DAMAGE) or any(cause.has(condition) for condition in _DAMAGED_LOG):
            reason = cause.message.partition("\n at [Source")[0][:_REASON_LENGTH]
            return f"Delta: the log of a table is damaged ({reason}); {REPAIR}"
    return None


def _reason(chain: list[Cause], path: str) -> str:
    """Join the messages of causes, without the file's own name and without what an inner cause says again."""
    parts: list[str] = []
    for cause in reversed(chain):
        text = cause.message.removeprefix(path).lstrip(": ") or cause.class_names[0].rpartition(".")[2]
        meaning = _MEANINGS.get(cause.class_names[0])
        if cause.class_names[0] == "java.io.FileNotFoundException" and text.endswith(")"):
            meaning = None  # `PATH (Permission denied)`
        if not parts or parts[0] not in text:
            parts.insert(0, f"{meaning}: {text}" if meaning else text)
    return ": ".join(parts)[:_REASON_LENGTH]
