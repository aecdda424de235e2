"""The history of a Delta table, read from its log: which commits changed rows, and what they say of themselves."""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import takewhile
from typing import Any, NamedTuple

from delta.tables import DeltaTable
from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from betr_spark.errors import REPAIR, DataError
from betr_spark.spark.causes import causes
from betr_spark.storage import hadoop_files

# Operations of a table's history that change no row and no column's name: they move or delete files, or set properties,
# comments, constraints and statistics. CHANGE COLUMN sets a comment or position, or widens a type: the values stay.
_CHANGES_NO_ROW = frozenset({
    "ADD CONSTRAINT", "CHANGE COLUMN", "CHANGE COLUMNS", "CLUSTER BY", "COMPUTE STATS", "DOMAIN METADATA CLEANUP",
    "DROP CONSTRAINT", "DROP FEATURE", "OPTIMIZE", "OPTIMIZE CHECKPOINT", "REORG", "REORG TABLE UPGRADE UNIFORM",
    "ROW TRACKING BACKFILL", "ROW TRACKING UNBACKFILL", "SET TBLPROPERTIES", "UNSET TBLPROPERTIES", "UPGRADE PROTOCOL",
    "VACUUM END", "VACUUM START",
})  # fmt: skip
PROPERTY_PREFIX = "betr."
_COMMIT_FILE = re.compile(r"\d{20}\.json")


def to_json(values: Mapping[str, Any]) -> str:
    """Encode userMetadata."""
    return json.dumps(dict(values), sort_keys=True)


def as_object(text: str | None) -> dict[str, Any]:
    """Parse a JSON object; return an empty one for anything else."""
    try:
        value = json.loads(text or "")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


class Commit(NamedTuple):
    """A commit of a table's history."""

    version: int
    user_metadata: str
    timestamp_ms: int
    """Since the epoch, by the clock of the writer."""


class _Operation(NamedTuple):
    """What a commit says of itself."""

    version: int
    name: str
    parameters: Mapping[str, Any]
    user_metadata: str
    timestamp_ms: int

    @property
    def changes_rows(self) -> bool:
        return self.name not in _CHANGES_NO_ROW

    @property
    def is_mark(self) -> bool:
        properties = as_object(self.parameters.get("properties"))
        return self.name == "SET TBLPROPERTIES" and any(name.startswith(PROPERTY_PREFIX) for name in properties)


def commits(spark: SparkSession, path: str) -> Iterator[Commit]:
    """Yield the commits that changed rows or that `mark` made, newest first; none where there is no table."""
    for operation in _history(spark, path):
        if operation.changes_rows or operation.is_mark:
            yield Commit(operation.version, operation.user_metadata, operation.timestamp_ms)


def _history(spark: SparkSession, path: str) -> Iterator[_Operation]:
    """Yield what the log has, newest first; nothing where there is no table.

    `DeltaTable.history` reads all commits with a Spark job; here one small file is read for each that is asked for.
    """
    check_whole(spark, path)
    for version in _versions(spark, path):
        file = _file(path, version)
        line = hadoop_files.first_line(spark, file)
        if line is not None and not as_object(line):
            raise DataError(_damaged(file))
        about = as_object(line).get("commitInfo")
        if about is None:  # other writers may put it further down, or leave it out
            yield from _history_by_spark(spark, path, newest=version)
            return
        yield _Operation(
            version,
            str(about.get("operation")),
            about.get("operationParameters") or {},
            about.get("userMetadata") or "",
            int(about.get("inCommitTimestamp") or about.get("timestamp") or 0),
        )


def check_whole(spark: SparkSession, path: str) -> None:
    """Raise DataError if a table's newest commit is not whole: a disk that failed or a copy that was cut."""
    version = newest_version(spark, path)
    if version < 0:
        return
    file = _file(path, version)
    try:
        whole = hadoop_files.last_bytes(spark, file, 2).rstrip().endswith(b"}")
    except Py4JJavaError as error:
        if not any(cause.is_a("org.apache.hadoop.fs.ChecksumException") for cause in causes(error)):
            raise
        whole = False
    if not whole:
        raise DataError(_damaged(file))


def _file(path: str, version: int) -> str:
    return f"{path.rstrip('/')}/_delta_log/{version:020d}.json"


def _damaged(file: str) -> str:
    return f"{file}: damaged: not a whole commit of a Delta table; {REPAIR}"


def _versions(spark: SparkSession, path: str) -> list[int]:
    names = hadoop_files.children(spark, f"{path.rstrip('/')}/_delta_log")
    return sorted((int(name[:20]) for name in names if _COMMIT_FILE.fullmatch(name)), reverse=True)


def _history_by_spark(spark: SparkSession, path: str, *, newest: int) -> Iterator[_Operation]:
    history = DeltaTable.forPath(spark, path).history().where(f"version <= {newest}")
    milliseconds = F.unix_millis("timestamp")
    columns = history.select("version", "operation", "operationParameters", "userMetadata", milliseconds)
    for version, name, parameters, user_metadata, timestamp_ms in columns.toLocalIterator():
        yield _Operation(int(version), str(name), parameters or {}, user_metadata or "", int(timestamp_ms))


def newest_with_same_rows(spark: SparkSession, path: str, version: int) -> int:
    """Return the last version before the first commit after `version` that changed a row."""
    newest = version
    for operation in _history(spark, path):  # newest first
        if operation.version <= version:
            break
        if operation.changes_rows:
            newest = version
        elif newest == version:
            newest = operation.version
    return newest


def version_before_change(spark: SparkSession, path: str) -> int | None:
    """Return the version before the newest commit that changed rows; None if that is the first one, or not in the log."""
    changed = next((operation.version for operation in _history(spark, path) if operation.changes_rows), 0)
    return changed - 1 if changed else None


def newest_commit(spark: SparkSession, path: str) -> Commit | None:
    """Return the first of `commits`, None where there is none."""
    return next(commits(spark, path), None)


def newest_version(spark: SparkSession, path: str) -> int:
    """Number of the newest commit of a table, whatever it did; -1 where there is no table."""
    return next(iter(_versions(spark, path)), -1)


def vacuumed_since(spark: SparkSession, path: str, version: int) -> bool:
    """Whether VACUUM has deleted files after a version."""
    later = takewhile(lambda operation: operation.version > version, _history(spark, path))
    return any(operation.name == "VACUUM END" for operation in later)


def commit_at(spark: SparkSession, path: str, as_of: str) -> Commit:
    """Return the newest of `commits` up to a version or a time.

    Args:
        spark: the session.
        path: of a table.
        as_of: number of a version, or a time in ISO 8601; UTC where it has no offset.

    Raises:
        DataError: the value is neither, or the history has no such commit.
    """
    time_ms = None if as_of.isdigit() else _milliseconds(as_of)
    for commit in commits(spark, path):
        if commit.version <= int(as_of) if time_ms is None else commit.timestamp_ms <= time_ms:
            return commit
    raise DataError(f"{path}: no version as of {as_of} in the table's history")


def _milliseconds(time: str) -> int:
    try:
        parsed = datetime.fromisoformat(time)
    except ValueError:
        raise DataError(f"--as-of: {time}: a version or a time such as 2026-01-31T06:00:00 is required") from None
    return int((parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp() * 1000)
