"""What an earlier run decided, and whether a run may build on it."""

import logging
from typing import NamedTuple

from pyspark.sql import SparkSession

from betr_spark import schemas
from betr_spark.config import Config
from betr_spark.errors import DataError
from betr_spark.storage import delta, hadoop_files
from betr_spark.storage.runs import StageKey

SCRATCH_FOLDER = "_scratch/dedup"
_logger = logging.getLogger(__name__)


COMPONENTS = "_components"


def rule_key(config: Config) -> str:
    """Key of what decides, without guards and history: an earlier run's documents stay under the same rule alone."""
    settings = {"similarity": config.dedup.similarity, "survivor": config.survivor(), "minhash": config.minhash}
    return StageKey.of("dedup", settings).key


class History(NamedTuple):
    """What an earlier run left: batches of `features` up to `batch` were decided; `components` is a folder of Parquet."""

    batch: int
    components: str


def newest_batch(spark: SparkSession, config: Config) -> tuple[str, int]:
    """Checkpoint and number of the newest batch in `features`: rows of an earlier run are those of batches up to its.

    Raises:
        DataError: the features were made with other `minhash` settings.
    """
    path = config.table(schemas.FEATURES_TABLE)
    newest = delta.newest_commit(spark, path)
    found = delta.as_object(newest.user_metadata) if newest else {}
    made, wanted = delta.as_object(found.get("config")).get("minhash"), config.minhash.model_dump(mode="json")
    if made is not None and made != wanted:
        name = next(name for name in wanted if made.get(name) != wanted[name])
        raise DataError(
            f"{path}: made with minhash.{name} {made.get(name)}, the configuration has {wanted[name]}; "
            "`betr-spark features` makes it anew"
        )
    return str(found.get("checkpoint", "")), int(found.get("batch", -1))


def find_history(spark: SparkSession, config: Config, checkpoint: str) -> History | None:
    """Find what an earlier run previously_kept; None where all is to be decided anew."""
    newest = delta.newest_commit(spark, config.table(schemas.DUPLICATES_TABLE))
    if newest is None or config.dedup.history == "replace":
        return None
    about = delta.as_object(newest.user_metadata)
    components = config.table(f"{COMPONENTS}/{about.get('key', '')[:16]}")
    if about.get("rule") != rule_key(config):
        why = "another rule"
    elif about.get("checkpoint") != checkpoint:
        why = "the features were made anew"
    elif not hadoop_files.exists(spark, f"{components}/_SUCCESS"):
        why = "the components of the last run are gone"
    else:
        return History(int(about["batch"]), components)
    _logger.warning("dedup: %s, so no document is previously kept yet and all are decided anew", why)
    return None


def clear(spark: SparkSession, config: Config, done: StageKey) -> None:
    """Remove what finished runs, and killed ones, left."""
    hadoop_files.delete(spark, config.table(SCRATCH_FOLDER))
    for old in hadoop_files.children(spark, config.table(COMPONENTS)):
        if old != done.key[:16]:
            hadoop_files.delete(spark, config.table(f"{COMPONENTS}/{old}"))
