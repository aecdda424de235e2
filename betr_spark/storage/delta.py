"""Delta tables: reading, and atomic writes with a record in the commit's userMetadata. Their history is in `delta_log`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from delta.tables import DeltaTable
from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession

from betr_spark.errors import DataError
from betr_spark.spark.causes import causes
from betr_spark.storage import hadoop_files
from betr_spark.storage.delta_log import (
    PROPERTY_PREFIX,
    Commit,
    as_object,
    check_whole,
    commit_at,
    commits,
    newest_commit,
    newest_version,
    newest_with_same_rows,
    to_json,
    vacuumed_since,
    version_before_change,
)

__all__ = [
    "Commit",
    "append",
    "as_object",
    "cannot_follow",
    "commit_at",
    "commits",
    "exists",
    "has_files",
    "input_stream",
    "mark",
    "newest_commit",
    "newest_version",
    "overwrite",
    "previous",
    "read",
    "table_id",
    "to_json",
]  # fmt: skip

USER_METADATA = "spark.databricks.delta.commitInfo.userMetadata"
_FILES_CHECKED = 100
_SKIP_EMPTY_COMMITS = "spark.databricks.delta.skipRecordingEmptyCommits"


def exists(spark: SparkSession, path: str) -> bool:
    """Tell whether the path has a Delta table."""
    return bool(DeltaTable.isDeltaTable(spark, path))


def read(spark: SparkSession, path: str, *, version: int | None = None) -> DataFrame:
    """Read a table: the newest rows, or those of a version.

    Where later commits changed no row (OPTIMIZE, a property), the newest of the versions with the same rows is read: after
    OPTIMIZE, VACUUM deletes the files of `version` itself.

    Raises:
        DataError: there is no table, its newest commit is damaged, or its history has no such version any more.
    """
    if not exists(spark, path):
        raise DataError(f"{path}: table not found; create it with `betr-spark run`")
    check_whole(spark, path)
    reader = spark.read.format("delta")
    if version is None:
        return reader.load(path)
    try:
        return reader.option("versionAsOf", newest_with_same_rows(spark, path, version)).load(path)
    except AnalysisException as error:
        if error.getCondition() != "DELTA_VERSION_NOT_FOUND":
            raise
        bounds = error.getMessageParameters() or {}
        raise DataError(
            f"{path}: version {version} not found; the table's history has versions "
            f"{bounds.get('earliest')} to {bounds.get('latest')}"
        ) from None


def has_files(spark: SparkSession, path: str, version: int) -> bool:
    """Whether VACUUM has left the files of a version; up to 100 of those that the newest version lacks are looked for.

    Raises:
        DataError: the history has no such version any more.
    """
    files = read(spark, path, version=version).inputFiles() if vacuumed_since(spark, path, version) else []
    kept = set(read(spark, path).inputFiles()) if files else set()
    removed = [file for file in files if file not in kept][:_FILES_CHECKED]
    return all(hadoop_files.exists(spark, file) for file in removed)


def previous(spark: SparkSession, path: str) -> tuple[int, DataFrame] | None:
    """Return the version before the newest commit that changed rows, and its rows.

    None if there is no such version, it is not in the table's history any more, or VACUUM has deleted its files.
    """
    version = version_before_change(spark, path)
    if version is None:
        return None
    try:
        rows = read(spark, path, version=version)
        return (version, rows) if has_files(spark, path, version) else None
    except DataError:  # the table is whole, so its history does not have the version any more
        return None


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
        spark.sql(f"ALTER TABLE {sql_name(spark, path)} SET TBLPROPERTIES ('{PROPERTY_PREFIX}{name}' = '{value}')")


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
