"""Deletes rows from Delta tables, compacts them, and deletes files that they do not need any more."""

from typing import NamedTuple

from delta.tables import DeltaTable
from pyspark.sql import DataFrame, SparkSession

from betr_spark.storage import hadoop_files
from betr_spark.storage.delta import USER_METADATA, session_conf, sql_name

DEFAULT_RETENTION_HOURS = 168  # Delta's: readers of older versions have a week
_RETENTION_CHECK = "spark.databricks.delta.retentionDurationCheck.enabled"
_LOG = "_delta_log"


class Upkept(NamedTuple):
    """What was done to a table, or would be: data files before and after compaction, and unused files that were deleted."""

    files_before: int
    files_after: int | None
    deleted_files: int


def delete_rows(table: str, keys: DataFrame, *, on: str, user_metadata: str) -> None:
    """Delete the rows whose column `on` is in `keys`, in one commit; no commit if there are none.

    Args:
        table: path.
        keys: one column, `on`, without duplicates.
        on: name of the column.
        user_metadata: of the commit.
    """
    spark = keys.sparkSession
    with session_conf(spark, USER_METADATA, user_metadata):
        merge = DeltaTable.forPath(spark, table).alias("table").merge(keys.alias("keys"), f"table.{on} = keys.{on}")
        merge.whenMatchedDelete().execute()


def table_paths(spark: SparkSession, output: str) -> list[str]:
    """Paths of the Delta tables in an output."""
    root = output.rstrip("/")
    names = hadoop_files.children(spark, root)
    folders = [f"{root}/{name}" for name in names if name not in ("selected", "scorers")]
    folders += [f"{root}/selected/{name}" for name in hadoop_files.children(spark, f"{root}/selected")]
    return [folder for folder in folders if _LOG in hadoop_files.children(spark, folder)]


def compact_and_vacuum(spark: SparkSession, path: str, *, retention_hours: float, dry_run: bool) -> Upkept:
    """Write small files of a table together, and delete files that no version of the last `retention_hours` needs.

    With 0 hours, only the newest version can be read afterwards.
    """
    table = DeltaTable.forPath(spark, path)
    detail = table.detail().select("numFiles", "properties").first()
    n_files, properties = (detail["numFiles"], detail["properties"]) if detail else (0, {})
    unused = f"VACUUM {sql_name(spark, path)} RETAIN {retention_hours:g} HOURS"
    with session_conf(spark, _RETENTION_CHECK, "false"):
        if dry_run:
            unused_files = 0 if _files(spark, path) == n_files else spark.sql(f"{unused} DRY RUN").count()
            return Upkept(n_files, None, unused_files)
        if n_files <= 1 and _files(spark, path) == n_files:
            return Upkept(n_files, n_files, 0)
        if (properties or {}).get("delta.enableDeletionVectors") == "true":
            spark.sql(f"REORG TABLE {sql_name(spark, path)} APPLY (PURGE)")  # deleted rows are in the files until then
        table.optimize().executeCompaction()
        before = _files(spark, path)
        spark.sql(unused)
        after = table.detail().select("numFiles").first()
        return Upkept(n_files, after["numFiles"] if after else None, before - _files(spark, path))


def _files(spark: SparkSession, path: str) -> int:
    """Number of files in the folder of a table that is not partitioned, those of the log left out."""
    return sum(name.endswith(".parquet") for name in hadoop_files.children(spark, path))
