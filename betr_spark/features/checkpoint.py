"""Which streaming checkpoint `features` continues with, and how far it is."""

import logging
import uuid
from typing import Any, NamedTuple

from pyspark.sql import SparkSession

from betr_spark import schemas
from betr_spark.config import Config
from betr_spark.corpus.listing import IDENTITY
from betr_spark.corpus.scored_state import INPUTS_TABLE
from betr_spark.corpus.snapshot import InputSnapshot
from betr_spark.errors import DataError
from betr_spark.storage import delta, hadoop_files

CHECKPOINTS = "_checkpoints/features"
_logger = logging.getLogger(__name__)


class Checkpoint(NamedTuple):
    """A streaming checkpoint.

    Attributes:
        name: of its folder.
        is_new: whether no query has used it.
        inputs_version: version of `_inputs`, which lists the files that the query is started for.
    """

    name: str
    is_new: bool
    inputs_version: int


def progress_of(spark: SparkSession, path: str, checkpoint: str) -> dict[str, int]:
    """Counts so far, from the newest batch's or summary's commit of this checkpoint."""
    for commit in delta.commits(spark, path):
        about = delta.as_object(commit.user_metadata)
        if about.get("checkpoint") == checkpoint:
            return {name: int(about.get(name, 0)) for name in ("rows_in", "copies", "forgotten", "batch")}
    raise DataError(
        f"{path}: no commit of checkpoint {checkpoint}; delete {CHECKPOINTS} in the output to read all again"
    )


def choose_checkpoint(
    snapshot: InputSnapshot, config: Config, settings_key: str, why: str | None = None
) -> Checkpoint:  # fmt: skip
    """Choose the checkpoint to continue with, or a new one (always with `why`), and record it with the snapshot's files.

    Args:
        snapshot: the input as it is now.
        config: of the run.
        settings_key: what a batch's rows depend on besides its documents.
        why: reason to read the whole input again.
    """
    spark, path, features = snapshot.spark, config.table(INPUTS_TABLE), config.table(schemas.FEATURES_TABLE)
    current, newest = snapshot.content.inventory, delta.newest_commit(spark, path)
    last: dict[str, Any] = delta.as_object(newest.user_metadata) if newest else {}

    def committed(checkpoint: str) -> bool:
        commits = (delta.as_object(commit.user_metadata) for commit in delta.commits(spark, features))
        return any(about.get("checkpoint") == checkpoint for about in commits)

    name = last.get("checkpoint")
    if why is not None:
        pass
    elif name is None or last.get("settings_key") != settings_key:
        why = "other settings, input path or scorer"
    elif delta.read(spark, path).join(current, on=IDENTITY, how="left_anti").take(1):
        why = "an input file was changed or deleted"
    elif _has(spark, config, name, "commits") and not committed(name):
        why = "the features table is not that of the checkpoint"
    elif committed(name) and not _has(spark, config, name, "offsets"):
        why = "the checkpoint does not exist"
    elif newest and not delta.exists(spark, config.table(schemas.QUARANTINE_TABLE)):
        why = "the table of quarantined rows does not exist"
    if why is not None:
        name = f"{settings_key[:16]}-{uuid.uuid4().hex[:8]}"  # one that no commit of `features` has
        if newest:
            _logger.info("features: %s, the whole input is read again", why)
    metadata = {"settings_key": settings_key, "checkpoint": name, **snapshot.content.to_metadata()}
    delta.overwrite(current, path, user_metadata=delta.to_json(metadata))
    is_new = not _has(spark, config, str(name), "offsets")
    return Checkpoint(str(name), is_new, delta.newest_version(spark, path))


def _has(spark: SparkSession, config: Config, checkpoint: str, what: str) -> bool:
    return bool(hadoop_files.children(spark, config.table(f"{CHECKPOINTS}/{checkpoint}/{what}")))
