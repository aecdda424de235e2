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
from betr_spark.spark.causes import causes
from betr_spark.spark.error_messages import DAMAGE, spark_error_line
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
    if progress := progress_if_any(spark, path, checkpoint):
        return progress
    raise DataError(
        f"{path}: no commit of checkpoint {checkpoint}; delete {CHECKPOINTS} in the output to read all again"
    )


def progress_if_any(spark: SparkSession, path: str, checkpoint: str) -> dict[str, int] | None:
    """As `progress_of`; None if there is no such commit."""
    for commit in delta.commits(spark, path):
        about = delta.as_object(commit.user_metadata)
        if about.get("checkpoint") == checkpoint:
            return {name: int(about.get(name, 0)) for name in ("rows_in", "copies", "forgotten", "batch")}
    return None


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
    spark, path = snapshot.spark, config.table(INPUTS_TABLE)
    current, newest = snapshot.content.inventory, delta.newest_commit(spark, path)
    last: dict[str, Any] = delta.as_object(newest.user_metadata) if newest else {}
    name = last.get("checkpoint")
    if why is not None:
        pass
    elif name is None or last.get("settings_key") != settings_key:
        why = "other settings, input path or scorer"
    elif delta.read(spark, path).join(current, on=IDENTITY, how="left_anti").take(1):
        why = "an input file was changed or deleted"
    elif reason := _apart(spark, config, name):
        why = reason
    elif newest and not delta.exists(spark, config.table(schemas.QUARANTINE_TABLE)):
        why = "the table of quarantined rows does not exist"
    if why is not None:
        name = f"{settings_key[:16]}-{uuid.uuid4().hex[:8]}"  # one that no commit of `features` has
        if newest:
            _logger.info("features: %s, the whole input is read again", why)
    metadata = {"settings_key": settings_key, "checkpoint": name, **snapshot.content.to_metadata()}
    delta.overwrite(current, path, user_metadata=delta.to_json(metadata))
    is_new = _newest(spark, config, str(name), "offsets") < 0
    return Checkpoint(str(name), is_new, delta.newest_version(spark, path))


def _apart(spark: SparkSession, config: Config, name: str) -> str | None:
    """Tell whether a checkpoint and `features` are of different times, such as after one was restored from a copy.

    Spark writes `offsets` before a batch is committed, and `commits` after it: going on from another state would lose rows.
    """
    progress = progress_if_any(spark, config.table(schemas.FEATURES_TABLE), name)
    batch = progress["batch"] if progress else -1
    if batch < _newest(spark, config, name, "commits"):
        return "the features table is not that of the checkpoint"
    if batch > _newest(spark, config, name, "offsets"):
        return "the checkpoint does not exist, or is older than the features table"
    return None


def is_damage(error: BaseException) -> bool:
    """Whether a query that ended before its first batch failed on its checkpoint.

    Spark has many errors for a file of a checkpoint that is cut, empty or gone, most of them without a condition. None of them
    is one of the environment, such as a store that cannot be reached.
    """
    return spark_error_line(error) is None or any(cause.is_a(*DAMAGE) for cause in causes(error))


def _newest(spark: SparkSession, config: Config, checkpoint: str, what: str) -> int:
    names = hadoop_files.children(spark, config.table(f"{CHECKPOINTS}/{checkpoint}/{what}"))
    return max((int(name) for name in names if name.isdigit()), default=-1)
