"""The only module that knows Delta: reading, history, and atomic writes with a record in the commit's userMetadata."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import takewhile
from typing import Any, NamedTuple

from delta.tables import DeltaTable
from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession

from betr_spark.errors import DataError
from betr_spark.spark.error_messages import causes
from betr_spark.storage import hadoop_files

# Operations of a table's history that change no row and no column's name: they move or delete files, or set properties,
# comments, constraints and statistics. CHANGE COLUMN sets a comment or position, or widens a type: the values stay.
_CHANGES_NO_ROW = frozenset({
    "ADD CONSTRAINT", "CHANGE COLUMN", "CHANGE COLUMNS", "CLUSTER BY", "COMPUTE STATS", "DOMAIN METADATA CLEANUP",
    "DROP CONSTRAINT", "DROP FEATURE", "OPTIMIZE", "OPTIMIZE CHECKPOINT", "REORG", "REORG TABLE UPGRADE UNIFORM",
    "ROW TRACKING BACKFILL", "ROW TRACKING UNBACKFILL", "SET TBLPROPERTIES", "UNSET TBLPROPERTIES", "UPGRADE PROTOCOL",
    "VACUUM END", "VACUUM START",
})  # fmt: skip
_PROPERTY_PREFIX = "betr."
_COMMIT_FILE = re.compile(r"\d{20}\.json")
USER_METADATA = "spark.databricks.delta.commitInfo.userMetadata"
_SKIP_EMPTY_COMMITS = "spark.databricks.delta.skipRecordingEmptyCommits"


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


def exists(spark: SparkSession, path: str) -> bool:
    """Tell whether the path has a Delta table."""
    return bool(DeltaTable.isDeltaTable(spark, path))


def read(spark: SparkSession, path: str, *, version: int | None = None) -> DataFrame:
    """Read a table: the newest rows, or those of a version.

    Where later commits changed no row (OPTIMIZE, a property), the newest of the versions with the same rows is read: after
    OPTIMIZE, VACUUM deletes the files of `version` itself.

    Raises:
        DataError: there is no table, or its history has no such version any more.
    """
    if not exists(spark, path):
        raise DataError(f"{path}: table not found; create it with `betr-spark run`")
    reader = spark.read.format("delta")
    if version is None:
        return reader.load(path)
    try:
        return reader.option("versionAsOf", _newest_with_same_rows(spark, path, version)).load(path)
    except AnalysisException as error:
        if error.getCondition() != "DELTA_VERSION_NOT_FOUND":
            raise
        bounds = error.getMessageParameters() or {}
        raise DataError(
            f"{path}: version {version} not found; the table's history has versions "
            f"{bounds.get('earliest')} to {bounds.get('latest')}"
        ) from None


class Commit(NamedTuple):
    """A commit of a table's history."""

    version: int
    user_metadata: str


class _Operation(NamedTuple):
    """What a commit says of itself."""

    version: int
    name: str
    parameters: Mapping[str, Any]
    user_metadata: str

    @property
    def changes_rows(self) -> bool:
        return self.name not in _CHANGES_NO_ROW

    @property
    def is_mark(self) -> bool:
        properties = as_object(self.parameters.get("properties"))
        return self.name == "SET TBLPROPERTIES" and any(name.startswith(_PROPERTY_PREFIX) for name in properties)


def commits(spark: SparkSession, path: str) -> Iterator[Commit]:
    """Yield the commits that changed rows or that `mark` made, newest first; none where there is no table."""
    for operation in _history(spark, path):
        if operation.changes_rows or operation.is_mark:
            yield Commit(operation.version, operation.user_metadata)


def _history(spark: SparkSession, path: str) -> Iterator[_Operation]:
    """Yield what the log has, newest first; nothing where there is no table.

    `DeltaTable.history` reads all commits with a Spark job; here one small file is read for each that is asked for.
    """
    log = f"{path.rstrip('/')}/_delta_log"
    for version in _versions(spark, path):
        line = hadoop_files.first_line(spark, f"{log}/{version:020d}.json")
        about = as_object(line).get("commitInfo")
        if about is None:  # other writers may put it further down, or leave it out
            yield from _history_by_spark(spark, path, newest=version)
            return
        yield _Operation(
            version,
            str(about.get("operation")),
            about.get("operationParameters") or {},
            about.get("userMetadata") or "",
        )


def _versions(spark: SparkSession, path: str) -> list[int]:
    names = hadoop_files.children(spark, f"{path.rstrip('/')}/_delta_log")
    return sorted((int(name[:20]) for name in names if _COMMIT_FILE.fullmatch(name)), reverse=True)


def _history_by_spark(spark: SparkSession, path: str, *, newest: int) -> Iterator[_Operation]:
    history = DeltaTable.forPath(spark, path).history().where(f"version <= {newest}")
    columns = history.select("version", "operation", "operationParameters", "userMetadata")
    for version, name, parameters, user_metadata in columns.toLocalIterator():
        yield _Operation(int(version), str(name), parameters or {}, user_metadata or "")


def _newest_with_same_rows(spark: SparkSession, path: str, version: int) -> int:
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


def table_id(spark: SparkSession, path: str) -> str:
    """Return the id that a table keeps from its creation until it is deleted."""
    row = DeltaTable.forPath(spark, path).detail().select("id").first()
    return str(row["id"]) if row else ""


def overwrite(
    table: DataFrame, path: str, *, user_metadata: str, transaction: tuple[str, int] | None = None,
    statistics: Sequence[str] = (),
) -> None:  # fmt: skip
    """Replace rows and schema in one commit, also if there were no rows and are none.

    With `transaction` (name, number), a repeated call does nothing. A new table has statistics in its log of the columns
    `statistics` alone, if they are given: those of a text are the start of a text, and logs are kept for a month.
    """
    writer = _writer(table, user_metadata, transaction).mode("overwrite").option("overwriteSchema", "true")
    if statistics:
        writer = writer.option("delta.dataSkippingStatsColumns", ",".join(statistics))
    with session_conf(table.sparkSession, _SKIP_EMPTY_COMMITS, "false"):  # or the commit's metadata is lost
        writer.save(path)


def append(
    table: DataFrame, path: str, *, user_metadata: str, transaction: tuple[str, int] | None = None, add_columns: bool = False
) -> None:  # fmt: skip
    """Add rows in one commit. With `transaction` (name, number), a repeated call does nothing.

    `add_columns` adds the columns that the table does not have.
    """
    _writer(table, user_metadata, transaction).mode("append").option("mergeSchema", str(add_columns)).save(path)


def _writer(table: DataFrame, user_metadata: str, transaction: tuple[str, int] | None) -> Any:
    writer = table.write.format("delta").option("userMetadata", user_metadata)
    if transaction is not None:
        writer = writer.option("txnAppId", transaction[0]).option("txnVersion", transaction[1])
    return writer


def mark(spark: SparkSession, path: str, *, name: str, value: str, user_metadata: str) -> None:
    """Commit `user_metadata` without a change of rows, by setting the table property `betr.NAME`."""
    with session_conf(spark, USER_METADATA, user_metadata):
        spark.sql(f"ALTER TABLE {sql_name(spark, path)} SET TBLPROPERTIES ('{_PROPERTY_PREFIX}{name}' = '{value}')")


def sql_name(spark: SparkSession, path: str) -> str:
    """Name of a table in SQL, which takes absolute paths only."""
    return f"delta.`{hadoop_files.qualified(spark, path).replace('`', '``')}`"


@contextmanager
def session_conf(spark: SparkSession, name: str, value: str) -> Iterator[None]:
    """Set a setting of the session for some statements."""
    before = spark.conf.get(name, None)
    spark.conf.set(name, value)
    try:
        yield
    finally:
        if before is None:
            spark.conf.unset(name)
        else:
            spark.conf.set(name, before)


def input_stream(spark: SparkSession, path: str, *, max_bytes: int) -> DataFrame:
    """Follow a table's appends; the query fails at a commit that changes or deletes rows."""
    return spark.readStream.format("delta").option("maxBytesPerTrigger", str(max_bytes)).load(path)


def cannot_follow(error: BaseException, in_batch: BaseException | None) -> bool:
    """Whether a stream of a Delta source failed because the source's history cannot be followed by appends alone.

    That is: rows were changed or deleted, columns renamed, the table was created again, or its log or files are gone.

    Args:
        error: that ended the query.
        in_batch: that ended the function of a batch, if it was that; there Delta's errors are those of the tables written to.
    """
    if in_batch is not None:
        return any(cause.is_a("java.io.FileNotFoundException") for cause in causes(in_batch))
    return any(cause.is_a("org.apache.spark.sql.delta.") for cause in causes(error))
