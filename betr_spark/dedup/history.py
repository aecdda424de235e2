"""What earlier runs decided: previously kept and removed documents, and their components."""

import logging
from typing import Any, NamedTuple

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from betr_spark import schemas
from betr_spark.config import Config
from betr_spark.dedup.components import NODE, ROOT
from betr_spark.dedup.exact import REMOVED, REPRESENTATIVE
from betr_spark.dedup.rank_keys import RANK_KEY
from betr_spark.dedup.survivors import KEPT
from betr_spark.errors import DataError
from betr_spark.schemas import DOC_ID, EVIDENCE, KEPT_DOC_ID, KIND, NEAR, SIMILARITY
from betr_spark.storage import delta
from betr_spark.storage.runs import StageKey

_BEST = "best"
_logger = logging.getLogger(__name__)


class History(NamedTuple):
    """What an earlier run left.

    Attributes:
        batch: the last batch of `features` that the run decided.
        components_version: the version of `_components` that the run wrote.
    """

    batch: int
    components_version: int


def rule(config: Config) -> str:
    """Key of the settings that decide which document stays; earlier decisions hold under the same rule only."""
    return StageKey.of("dedup", {"similarity": config.dedup.similarity, **rule_settings(config)}).key


def rule_settings(config: Config) -> dict[str, Any]:
    """The settings of the rule that are not in `dedup`."""
    survivor = config.survivor()
    return {"survivor": survivor, "minhash": config.minhash, **config.combined_settings(survivor)}


def newest_batch(spark: SparkSession, config: Config) -> tuple[str, int]:
    """Return the checkpoint of `features` and the number of its newest batch.

    Raises:
        DataError: `features` has signatures of other `minhash` settings.
    """
    path = config.table(schemas.FEATURES_TABLE)
    newest = delta.newest_commit(spark, path)
    metadata = delta.as_object(newest.user_metadata) if newest else {}
    built_with, configured = (
        delta.as_object(metadata.get("config")).get("minhash"),
        config.minhash.model_dump(mode="json"),
    )
    if built_with is not None and built_with != configured:
        name = next(name for name in configured if built_with.get(name) != configured[name])
        raise DataError(
            f"{path}: built with minhash.{name} {built_with.get(name)}, but the configuration has {configured[name]}; "
            "rerun `betr-spark features`"
        )
    return str(metadata.get("checkpoint", "")), int(metadata.get("batch", -1))


def read_history(spark: SparkSession, config: Config, checkpoint: str) -> History | None:
    """Find the run that wrote `duplicates`; None where its decisions do not hold and every decision is recomputed.

    Args:
        spark: the session.
        config: its `dedup.history` may ask for None.
        checkpoint: of `features`, as `newest_batch` gives it.
    """
    newest = delta.newest_commit(spark, config.table(schemas.DUPLICATES_TABLE))
    if newest is None or config.dedup.history == "replace":
        return None
    if config.survivor() in config.combinations():
        _logger.info("dedup: scores of a combination change with the corpus, so every decision is recomputed")
        return None
    metadata = delta.as_object(newest.user_metadata)
    version = int(metadata.get("components_version", -1))
    if metadata.get("rule") != rule(config):
        reason = "the last run used another rule"
    elif metadata.get("checkpoint") != checkpoint:
        reason = "`features` was rebuilt from scratch"
    elif not _has_components(spark, config, version=version, key=str(metadata.get("key", ""))):
        reason = f"{config.table(schemas.COMPONENTS_TABLE)} does not have the components of the last run"
    else:
        return History(int(metadata["batch"]), version)
    _logger.warning("dedup: %s; every decision is recomputed, and no document counts as previously kept", reason)
    return None


def _has_components(spark: SparkSession, config: Config, *, version: int, key: str) -> bool:
    """Tell whether `_components` still has a version, written by the run with this key."""
    for commit in delta.commits(spark, config.table(schemas.COMPONENTS_TABLE)):
        if commit.version <= version:
            return commit.version == version and delta.as_object(commit.user_metadata).get("key") == key
    return False


def write_components(spark: SparkSession, config: Config, components: DataFrame, key: StageKey) -> int:
    """Write `_components` and return its version, which no run reads until a commit of `duplicates` names it."""
    path = config.table(schemas.COMPONENTS_TABLE)
    delta.overwrite(components, path, user_metadata=delta.to_json({"key": key.key}))
    commit = delta.newest_commit(spark, path)
    assert commit is not None
    return commit.version


def earlier_components(spark: SparkSession, config: Config, history: History, documents: DataFrame) -> DataFrame:
    """Components at the end of an earlier run: node, root.

    A forgotten document leaves its component, which otherwise stays as it was; its best other document becomes the root.

    Args:
        spark: the session.
        config: for the output.
        history: of the earlier run.
        documents: rank_key; one row for each document.
    """
    table = delta.read(spark, config.table(schemas.COMPONENTS_TABLE), version=history.components_version)
    nodes = table.select(NODE, ROOT)
    if not delta.exists(spark, config.table(schemas.TOMBSTONES_TABLE)):
        return nodes
    nodes = nodes.join(documents.select(F.col(RANK_KEY).alias(NODE)), on=NODE, how="left_semi")
    best = nodes.groupBy(ROOT).agg(F.min(NODE).alias(_BEST))
    return nodes.join(best, on=ROOT, how="inner").select(NODE, F.col(_BEST).alias(ROOT))


def reopened(spark: SparkSession, config: Config) -> DataFrame | None:
    """Documents whose keeper was forgotten (doc_id): they are decided like new ones. None where nothing was ever forgotten."""
    if not delta.exists(spark, config.table(schemas.TOMBSTONES_TABLE)):
        return None
    rows = delta.read(spark, config.table(schemas.DUPLICATES_TABLE))
    return rows.join(_keepers(spark, config), on=KEPT_DOC_ID, how="left_anti").select(DOC_ID)


def with_removed(spark: SparkSession, config: Config, documents: DataFrame, history: History | None) -> DataFrame:
    """Add `removed` to documents: whether an earlier run removed the document."""
    if history is None:
        return documents.withColumn(REMOVED, F.lit(False))
    removed = _removed(spark, config).select(DOC_ID, F.lit(True).alias(REMOVED))
    return documents.join(removed, on=DOC_ID, how="left").fillna(value=False, subset=[REMOVED])


def removed_earlier(spark: SparkSession, config: Config, documents: DataFrame, copies: DataFrame) -> DataFrame:
    """Representatives that an earlier run removed as near-duplicates, in the form of `survivors.removed_near`."""
    near = _removed(spark, config).where(F.col(KIND) == NEAR)
    not_representative = copies.where(F.col(RANK_KEY) != F.col(REPRESENTATIVE))
    representatives = documents.select(DOC_ID, RANK_KEY).join(not_representative, on=RANK_KEY, how="left_anti")
    kept = documents.select(F.col(DOC_ID).alias(KEPT_DOC_ID), F.col(RANK_KEY).alias(KEPT))
    rows = near.join(representatives, on=DOC_ID, how="inner").join(kept, on=KEPT_DOC_ID, how="inner")
    return rows.select(RANK_KEY, KEPT, SIMILARITY, EVIDENCE)


def _removed(spark: SparkSession, config: Config) -> DataFrame:
    """Rows of `duplicates`, without those whose keeper was forgotten."""
    rows = delta.read(spark, config.table(schemas.DUPLICATES_TABLE))
    if not delta.exists(spark, config.table(schemas.TOMBSTONES_TABLE)):
        return rows
    return rows.join(_keepers(spark, config), on=KEPT_DOC_ID, how="left_semi")


def _keepers(spark: SparkSession, config: Config) -> DataFrame:
    return delta.read(spark, config.table(schemas.FEATURES_TABLE)).select(F.col(DOC_ID).alias(KEPT_DOC_ID))
