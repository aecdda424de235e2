"""Compacts the tables of an output, and deletes files, intermediate results and checkpoints that nothing needs any more."""

from collections.abc import Iterator
from typing import NamedTuple

from betr_spark import schemas
from betr_spark.corpus.scored_state import INPUT_VERSION, INPUTS_TABLE
from betr_spark.features.checkpoint import CHECKPOINTS
from betr_spark.pipeline.stage import RunContext
from betr_spark.spark.jobs import describe
from betr_spark.storage import delta, hadoop_files
from betr_spark.storage.delta_upkeep import Upkept, compact_and_vacuum, table_paths
from betr_spark.storage.scratch import scratch_folder


class Maintained(NamedTuple):
    """A table or folder, and what was done to it, or would be (None: left as it is, for the reason)."""

    path: str
    result: Upkept | None
    reason: str = ""

    def line(self, *, dry_run: bool) -> str:
        """As a line of text."""
        if self.result is None:
            return f"{self.path}: {self.reason}"
        if dry_run:
            unused = f"{self.result.deleted_files} that are unused now, and those that are rewritten, would be deleted"
            return f"{self.path}: files: {self.result.files_before} in use; {unused}"
        in_use = f"{self.result.files_before} -> {self.result.files_after} in use"
        return f"{self.path}: files: {in_use}; {self.result.deleted_files} unused deleted"


def maintain(context: RunContext, *, retention_hours: float, dry_run: bool) -> Iterator[Maintained]:
    """Yield what is done to each table and folder. The caller holds the lease, unless it is a dry run.

    Args:
        context: of an output.
        retention_hours: files that a version of this time needs stay.
        dry_run: tell what would be done.
    """
    spark, config = context.spark, context.config
    for path in _orphans(context):
        yield Maintained(path, None, "would be deleted" if dry_run else "deleted")
        if not dry_run:
            hadoop_files.delete(spark, path)
    needed = _needed_versions(context)
    for path in table_paths(spark, config.output):
        describe(spark, f"maintain: {path.removeprefix(config.output)}")
        newest = delta.newest_commit(spark, path)
        if path in needed and newest is not None and newest.version != needed[path]:
            yield Maintained(path, None, f"left as it is: an unfinished run still needs version {needed[path]}")
        else:
            yield Maintained(path, compact_and_vacuum(spark, path, retention_hours=retention_hours, dry_run=dry_run))


def _orphans(context: RunContext) -> Iterator[str]:
    """Intermediate results of runs that were killed, and checkpoints that `features` does not continue with."""
    spark, config = context.spark, context.config
    scratch = scratch_folder(config.output)
    yield from (f"{scratch}/{name}" for name in hadoop_files.children(spark, scratch) if name != context.run_id)
    newest = delta.newest_commit(spark, config.table(INPUTS_TABLE))
    current = delta.as_object(newest.user_metadata if newest else None).get("checkpoint")
    for name in hadoop_files.children(spark, config.table(CHECKPOINTS)):
        if current is not None and name != current:
            yield config.table(f"{CHECKPOINTS}/{name}")


def _needed_versions(context: RunContext) -> dict[str, int]:
    """Versions of tables that commits of other tables name, by path."""
    spark, config = context.spark, context.config
    needed = {}
    for table, field, named in (
        (schemas.FEATURES_TABLE, INPUT_VERSION, INPUTS_TABLE),
        (schemas.DUPLICATES_TABLE, "components_version", schemas.COMPONENTS_TABLE),
    ):
        newest = delta.newest_commit(spark, config.table(table))
        version = delta.as_object(newest.user_metadata if newest else None).get(field)
        if version is not None:
            needed[config.table(named)] = int(version)
    return needed
