"""The only place that knows Delta: reading, atomic writes, the key in a commit's userMetadata, the `runs` table."""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from delta.tables import DeltaTable
from pyspark.sql import DataFrame, SparkSession

from betr_spark.errors import DataError

# Commits that move or remove files without changing a row: the table still is what its last writer made.
_HOUSEKEEPING = frozenset({"OPTIMIZE", "VACUUM START", "VACUUM END", "REORG"})
_USER_METADATA = "spark.databricks.delta.commitInfo.userMetadata"
_logger = logging.getLogger(__name__)


def to_json(values: Mapping[str, Any]) -> str:
    """Encode userMetadata."""
    return json.dumps(dict(values), sort_keys=True)


def as_object(text: str | None) -> dict[str, Any]:
    """Parse a JSON object; empty where it is anything else."""
    try:
        value = json.loads(text or "")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def exists(spark: SparkSession, path: str) -> bool:
    """Tell whether a Delta table is there."""
    return bool(DeltaTable.isDeltaTable(spark, path))


def read(spark: SparkSession, path: str, *, version: int | None = None) -> DataFrame:
    """Read a table.

    Args:
        spark: the session.
        path: of the table.
        version: number of the commit to read; the newest one by default.

    Raises:
        DataError: if there is no table; names the command that makes it.
    """
    if not exists(spark, path):
        raise DataError(f"{path}: no such Delta table; `betr-spark run` makes it")
    reader = spark.read.format("delta")
    return (reader if version is None else reader.option("versionAsOf", version)).load(path)


class Commit(NamedTuple):
    """A commit of a table's history."""

    version: int
    user_metadata: str


def commits(spark: SparkSession, path: str) -> Iterator[Commit]:
    """Yield a table's commits, newest first, without those of OPTIMIZE and VACUUM; none where there is no table."""
    if exists(spark, path):
        history = DeltaTable.forPath(spark, path).history().select("version", "operation", "userMetadata")
        for commit in history.toLocalIterator():
            if commit["operation"] not in _HOUSEKEEPING:
                yield Commit(int(commit["version"]), str(commit["userMetadata"] or ""))


def newest_commit(spark: SparkSession, path: str) -> Commit | None:
    """Return the newest of `commits`, None where there is none."""
    return next(commits(spark, path), None)


def table_id(spark: SparkSession, path: str) -> str:
    """The id that a table has from its making to its end."""
    row = DeltaTable.forPath(spark, path).detail().select("id").first()
    return str(row["id"]) if row else ""


def overwrite(table: DataFrame, path: str, *, user_metadata: str, transaction: tuple[str, int] | None = None) -> None:
    """Replace rows and schema in one commit; with `transaction` (name, number) a repeated call does nothing."""
    _writer(table, user_metadata, transaction).mode("overwrite").option("overwriteSchema", "true").save(path)


def append(table: DataFrame, path: str, *, user_metadata: str, transaction: tuple[str, int] | None = None) -> None:
    """Add rows in one commit; with `transaction` (name, number) a repeated call does nothing."""
    _writer(table, user_metadata, transaction).mode("append").save(path)


def _writer(table: DataFrame, user_metadata: str, transaction: tuple[str, int] | None) -> Any:
    writer = table.write.format("delta").option("userMetadata", user_metadata)
    if transaction is not None:
        writer = writer.option("txnAppId", transaction[0]).option("txnVersion", transaction[1])
    return writer


def mark(spark: SparkSession, path: str, *, name: str, value: str, user_metadata: str) -> None:
    """Make a commit that changes no row, to carry `user_metadata`; it sets the table property `betr.NAME`."""
    jvm: Any = spark._jvm  # noqa: SLF001 - SQL takes absolute paths only
    absolute = jvm.org.apache.hadoop.fs.Path(path)
    absolute = absolute.getFileSystem(spark._jsc.hadoopConfiguration()).makeQualified(absolute)  # noqa: SLF001
    location = str(absolute.toString()).replace("`", "``")
    with _session_metadata(spark, user_metadata):
        spark.sql(f"ALTER TABLE delta.`{location}` SET TBLPROPERTIES ('betr.{name}' = '{value}')")


@contextmanager
def _session_metadata(spark: SparkSession, user_metadata: str) -> Iterator[None]:
    spark.conf.set(_USER_METADATA, user_metadata)
    try:
        yield
    finally:
        spark.conf.unset(_USER_METADATA)


def input_stream(spark: SparkSession, path: str, *, max_bytes: int) -> DataFrame:
    """Follow a Delta source's appends; a commit that changes rows in place raises in the query."""
    return spark.readStream.format("delta").option("maxBytesPerTrigger", str(max_bytes)).load(path)
