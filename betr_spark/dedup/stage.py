"""Stage `dedup`: exact copies, LSH candidates, verification, components, survivors; table `duplicates`.

Documents that an earlier run with the same rule kept are previously kept: they stay, and what is new is held against
them. Their
texts are not read again, but for pairs whose signatures leave it open whether they are similar.
"""

import logging
import math
from collections.abc import Callable
from typing import NamedTuple

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from betr_spark import schemas
from betr_spark.config import LONGEST, Config
from betr_spark.dedup import guards
from betr_spark.dedup.candidates import CANDIDATE, EQUAL, KEEPER, Thresholds, candidate_pairs, linked_documents
from betr_spark.dedup.components import NODE, ROOT, connected_components
from betr_spark.dedup.exact import NEW, RANK_KEY, REMOVED, REPRESENTATIVE, SURVIVOR_SCORE, copies_of, with_rank_key
from betr_spark.dedup.survivors import KEPT, duplicates, removed_near, with_sizes
from betr_spark.dedup.verification import shingles_of, similar_by_shingles, similar_by_signature
from betr_spark.errors import DataError
from betr_spark.schemas import (
    BANDS,
    BATCH,
    CONTENT_HASH,
    DOC_ID,
    EVIDENCE,
    EXACT,
    INPUT_FILE,
    KEPT_DOC_ID,
    KIND,
    N_BYTES,
    NEAR,
    SIGNATURE,
    SIMILARITY,
    SOURCE,
    logit_column,
)
from betr_spark.storage import delta, hadoop_files, runs
from betr_spark.storage.runs import StageKey, StageRun, StageTimer
from betr_spark.storage.scratch import scratch

_SCRATCH_FOLDER = "_scratch/dedup"
_COMPONENTS = "_components"
_ROWS_A_PART = 2**23  # documents times bands; 420 MB while a part is sorted
_logger = logging.getLogger(__name__)
Materialise = Callable[[DataFrame], DataFrame]


def key(spark: SparkSession, config: Config) -> StageKey:
    """Key of `duplicates`: the rule, the guards, and the features."""
    features = runs.input_version(spark, config.table(schemas.FEATURES_TABLE))
    return StageKey.of("dedup", {"dedup": config.dedup, "rule": _rule(config)}, features=features)


def _rule(config: Config) -> str:
    """Key of what decides, without guards and history: an earlier run's documents stay under the same rule alone."""
    settings = {"similarity": config.dedup.similarity, "survivor": config.survivor(), "minhash": config.minhash}
    return StageKey.of("dedup", settings).key


class _History(NamedTuple):
    """What an earlier run left: batches of `features` up to `batch` were decided; `components` is a folder of Parquet."""

    batch: int
    components: str


class _Found(NamedTuple):
    rows: DataFrame
    components: DataFrame
    metrics: dict[str, int]


def run(spark: SparkSession, config: Config) -> list[StageRun]:
    """Find duplicates among the documents of `features`, what is new against what is previously kept."""
    wanted = key(spark, config)
    path = config.table(schemas.DUPLICATES_TABLE)
    if done := runs.finished(spark, config.output, path, wanted):
        _clear(spark, config, wanted)
        return [done]
    clock = StageTimer(wanted)
    features = delta.read(spark, config.table(schemas.FEATURES_TABLE))
    if lacking := [name for name in (_survivor_column(config), INPUT_FILE, BATCH) if name not in features.columns]:
        raise DataError(
            f"{config.table(schemas.FEATURES_TABLE)}: no column '{lacking[0]}'; `betr-spark features` makes it"
        )
    checkpoint, batch = _newest_batch(spark, config)
    history = _history(spark, config, checkpoint)
    with scratch(spark, config.table(_SCRATCH_FOLDER)) as materialise:
        documents = materialise(with_rank_key(_documents(spark, config, features, history, SOURCE)))
        found = _find(spark, config, features, history, documents, materialise)
        rows = materialise(found.rows)
        totals = guards.check(rows, features, config)
        done = clock.done(
            rows_in=totals.documents,
            rows_out=totals.exact + totals.near,
            dropped={EXACT: totals.exact, NEAR: totals.near},
            metrics={
                **found.metrics,
                "largest_component": totals.largest_component,
                "largest_source_loss": totals.largest_source_loss,
            },
        )
        # The components first, in a folder of their own: without the commit of `duplicates` nobody looks at them.
        found.components.write.mode("overwrite").parquet(config.table(f"{_COMPONENTS}/{wanted.key[:16]}"))
        delta.overwrite(
            rows.drop(SOURCE), path, user_metadata=done.to_json(checkpoint=checkpoint, batch=batch, rule=_rule(config))
        )
    runs.record(spark, config.output, done)
    _clear(spark, config, wanted)
    return [done]


def _clear(spark: SparkSession, config: Config, done: StageKey) -> None:
    """Remove what finished runs, and killed ones, left."""
    hadoop_files.delete(spark, config.table(_SCRATCH_FOLDER))
    for old in hadoop_files.children(spark, config.table(_COMPONENTS)):
        if old != done.key[:16]:
            hadoop_files.delete(spark, config.table(f"{_COMPONENTS}/{old}"))


def _newest_batch(spark: SparkSession, config: Config) -> tuple[str, int]:
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


def _history(spark: SparkSession, config: Config, checkpoint: str) -> _History | None:
    """Find what an earlier run previously_kept; None where all is to be decided anew."""
    newest = delta.newest_commit(spark, config.table(schemas.DUPLICATES_TABLE))
    if newest is None or config.dedup.history == "replace":
        return None
    about = delta.as_object(newest.user_metadata)
    components = config.table(f"{_COMPONENTS}/{about.get('key', '')[:16]}")
    if about.get("rule") != _rule(config):
        why = "another rule"
    elif about.get("checkpoint") != checkpoint:
        why = "the features were made anew"
    elif not hadoop_files.exists(spark, f"{components}/_SUCCESS"):
        why = "the components of the last run are gone"
    else:
        return _History(int(about["batch"]), components)
    _logger.warning("dedup: %s, so no document is previously kept yet and all are decided anew", why)
    return None


def _survivor_column(config: Config) -> str:
    survivor = config.survivor()
    return N_BYTES if survivor == LONGEST else logit_column(survivor)


def _documents(
    spark: SparkSession, config: Config, features: DataFrame, history: _History | None, *columns: str
) -> DataFrame:
    """Every document, as `with_rank_key` wants it: doc_id, survivor_score, content_hash, columns, new, removed (earlier)."""
    wanted = features.select(
        DOC_ID, F.col(_survivor_column(config)).alias(SURVIVOR_SCORE), CONTENT_HASH, BATCH, *columns
    )
    if history is None:
        return wanted.drop(BATCH).withColumns({NEW: F.lit(True), REMOVED: F.lit(False)})
    removed = delta.read(spark, config.table(schemas.DUPLICATES_TABLE)).select(DOC_ID, F.lit(True).alias(REMOVED))
    wanted = wanted.withColumn(NEW, F.col(BATCH) > history.batch).drop(BATCH)
    return wanted.join(removed, on=DOC_ID, how="left").fillna(value=False, subset=[REMOVED])


def _find(
    spark: SparkSession,
    config: Config,
    features: DataFrame,
    history: _History | None,
    documents: DataFrame,
    materialise: Materialise,
) -> _Found:
    copies = materialise(copies_of(documents))

    def signatures(rank_keys: DataFrame) -> DataFrame:
        named = documents.select(DOC_ID, RANK_KEY).join(rank_keys.hint("shuffle_hash"), on=RANK_KEY, how="left_semi")
        signed = features.select(DOC_ID, SIGNATURE).join(named.hint("shuffle_hash"), on=DOC_ID, how="inner")
        return signed.select(RANK_KEY, SIGNATURE)

    thresholds = Thresholds.of(config.dedup.similarity, bands=config.minhash.bands, rows=config.minhash.rows)
    members = documents.count() * config.minhash.bands
    n_parts = max(spark.sparkContext.defaultParallelism, math.ceil(members / _ROWS_A_PART))
    banded = _documents(spark, config, features.where(F.size(BANDS) > 0), history, BANDS)
    linked = materialise(linked_documents(banded, n_parts=n_parts))
    pairs = materialise(candidate_pairs(linked, signatures, thresholds, materialise=materialise))
    edges = similar_by_signature(pairs, thresholds)
    unsure = pairs.where(F.col(EQUAL) < thresholds.sure)
    n_pairs, n_unsure = pairs.agg(F.count("*"), F.count_if(F.col(EQUAL) < thresholds.sure)).first() or (0, 0)
    texts = {}
    if n_unsure:
        ends = (
            unsure.select(F.col(KEEPER).alias(RANK_KEY))
            .unionByName(unsure.select(F.col(CANDIDATE).alias(RANK_KEY)))
            .distinct()
        )
        wanted = documents.join(ends, on=RANK_KEY, how="left_semi").select(DOC_ID, RANK_KEY, NEW)
        wanted = materialise(wanted.join(features.select(DOC_ID, INPUT_FILE), on=DOC_ID, how="inner"))
        texts = {bool(row[NEW]): int(row["count"]) for row in wanted.groupBy(NEW).count().collect()}  # two rows
        sets = shingles_of(wanted, config, materialise=materialise)
        edges = materialise(edges.unionByName(similar_by_shingles(unsure, sets, similarity=config.dedup.similarity)))
    links = edges.select(F.col(KEEPER).alias(NODE), F.col(CANDIDATE).alias(ROOT))
    earlier = None
    if history is not None:
        links = links.unionByName(spark.read.schema(f"{NODE} binary, {ROOT} binary").parquet(history.components))
        earlier = _decided(spark, config, documents, copies)
    components = materialise(with_sizes(connected_components(links, materialise=materialise), copies))
    near = removed_near(edges, components)
    near = near if earlier is None else near.unionByName(earlier)
    rows = duplicates(documents, copies, near, components, materialise=materialise)
    metrics = {
        "candidates": n_pairs,
        "unsure": n_unsure,
        "texts_new": texts.get(True, 0),
        "texts_previously_kept": texts.get(False, 0),
    }
    return _Found(rows, components, metrics)


def _decided(spark: SparkSession, config: Config, documents: DataFrame, copies: DataFrame) -> DataFrame:
    """Near-duplicates that an earlier run removed, as `removed_near` gives them."""
    near = delta.read(spark, config.table(schemas.DUPLICATES_TABLE)).where(F.col(KIND) == NEAR)
    others = copies.where(F.col(RANK_KEY) != F.col(REPRESENTATIVE))
    own = documents.select(DOC_ID, RANK_KEY).join(others, on=RANK_KEY, how="left_anti")
    kept = documents.select(F.col(DOC_ID).alias(KEPT_DOC_ID), F.col(RANK_KEY).alias(KEPT))
    joined = near.join(own, on=DOC_ID, how="inner").join(kept, on=KEPT_DOC_ID, how="inner")
    return joined.select(RANK_KEY, KEPT, SIMILARITY, EVIDENCE)
