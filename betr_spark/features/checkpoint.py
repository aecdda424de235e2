"""Which streaming checkpoint `features` goes on with, and how far it is."""

import logging
import uuid
from typing import Any

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from betr_spark import schemas
from betr_spark.config import Config
from betr_spark.errors import DataError
from betr_spark.storage import delta, hadoop_files

_logger = logging.getLogger(__name__)


CHECKPOINTS = "_checkpoints/features"


_INPUTS = "_inputs"


def progress_of(spark: SparkSession, path: str, checkpoint: str) -> dict[str, int]:
    """Counts so far, from the newest batch's or summary's commit of this checkpoint."""
    for commit in delta.commits(spark, path):
        found = delta.as_object(commit.user_metadata)
        if found.get("checkpoint") == checkpoint:
            return {name: int(found[name]) for name in ("rows_in", "copies", "batch")}
    raise DataError(f"{path}: no commit of checkpoint {checkpoint}; delete the output's _checkpoints to start anew")


def choose_checkpoint(spark: SparkSession, config: Config, settings_key: str, why: str | None = None) -> str:
    """Name of the checkpoint to go on with, or of a new one (with `why`, always); written down before the query starts."""
    path, features = config.table(_INPUTS), config.table(schemas.FEATURES_TABLE)
    names = ["file", "n_bytes", "modified"]
    if config.input.format == "delta":
        # One row, since Delta records no commit, nor its userMetadata, that changes nothing.
        current = spark.range(1).select(
            F.lit(delta.table_id(spark, config.input.path)).alias("file"),
            F.lit(0).cast("bigint").alias("n_bytes"),
            F.lit(0).cast("timestamp").alias("modified"),
        )
    else:
        current = hadoop_files.listing(spark, config.input.path)
    newest = delta.newest_commit(spark, path)
    last: dict[str, Any] = delta.as_object(newest.user_metadata) if newest else {}

    def committed(checkpoint: str) -> bool:
        found = (delta.as_object(commit.user_metadata) for commit in delta.commits(spark, features))
        return any(about.get("checkpoint") == checkpoint for about in found)

    name = last.get("checkpoint")
    if why is not None:
        pass
    elif name is None or last.get("settings_key") != settings_key:
        why = "other settings, input path or scorer"
    elif delta.read(spark, path).join(current, on=names, how="left_anti").take(1):
        why = "an input file was changed or taken away"
    elif _has(spark, config, name, "commits") and not committed(name):
        why = "the features table is not the one of the checkpoint"
    elif committed(name) and not _has(spark, config, name, "offsets"):
        why = "the checkpoint is gone"
    elif newest and not delta.exists(spark, config.table(schemas.QUARANTINE_TABLE)):
        why = "the table of quarantined rows is gone"
    if why is not None:
        name = f"{settings_key[:16]}-{uuid.uuid4().hex[:8]}"  # one that no commit of `features` has
        if newest:
            _logger.info("features: %s, the whole input is read again", why)
    metadata = delta.to_json({"settings_key": settings_key, "checkpoint": name})
    delta.overwrite(current, path, user_metadata=metadata)
    return str(name)


def _has(spark: SparkSession, config: Config, checkpoint: str, what: str) -> bool:
    return bool(hadoop_files.children(spark, config.table(f"{CHECKPOINTS}/{checkpoint}/{what}")))
