"""Stage `dedup`: exact copies, LSH candidates, verification, components, survivors; table `duplicates`.

Documents that an earlier run with the same rule kept are previously kept: they stay, and what is new is held against
them. Their
texts are not read again, but for pairs whose signatures leave it open whether they are similar.
"""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from betr_spark import schemas
from betr_spark.config import LONGEST, Config
from betr_spark.dedup import guards
from betr_spark.dedup.candidates import CANDIDATE, EQUAL, KEEPER, Thresholds, candidate_pairs, linked_documents
from betr_spark.dedup.components import NODE, ROOT, connected_components
from betr_spark.dedup.exact import NEW, RANK_KEY, REMOVED, REPRESENTATIVE, SURVIVOR_SCORE, copies_of, with_rank_key
from betr_spark.dedup.history import COMPONENTS, SCRATCH_FOLDER, History, clear, find_history, newest_batch, rule_key
from betr_spark.dedup.survivors import KEPT, duplicates, removed_near, with_sizes
from betr_spark.dedup.verification import shingles_of, similar_by_shingles, similar_by_signature
from betr_spark.errors import DataError
from betr_spark.pipeline.stage import Result, RunContext, Stage
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
from betr_spark.storage import delta, runs
from betr_spark.storage.runs import Metrics, StageKey, StageRun
from betr_spark.storage.scratch import scratch

_ROWS_A_PART = 2**23  # documents times bands; 420 MB while a part is sorted
_logger = logging.getLogger(__name__)
Materialise = Callable[[DataFrame], DataFrame]


class _Found(NamedTuple):
    rows: DataFrame
    components: DataFrame
    metrics: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class DedupMetrics(Metrics):
    """Candidate pairs, those that signatures left undecided, texts read for these, and what the guards look at."""

    candidates: int | None
    undecided: int | None
    texts_new: int | None
    texts_previously_kept: int | None
    largest_component: int | None
    largest_source_loss: float | None


class Dedup(Stage):
    """Finds duplicates among the documents of `features`, what is new against what was previously kept."""

    def __init__(self) -> None:
        """Name the stage."""
        super().__init__("dedup")

    def outputs(self, config: Config) -> Sequence[str]:
        """`duplicates`."""
        return [config.table(schemas.DUPLICATES_TABLE)]

    def key(self, context: RunContext) -> StageKey:
        """The rule, the guards, and the features."""
        config = context.config
        features = runs.input_version(context.spark, config.table(schemas.FEATURES_TABLE))
        return StageKey.of("dedup", {"dedup": config.dedup, "rule": rule_key(config)}, features=features)

    @contextmanager
    def build(self, context: RunContext, key: StageKey) -> Iterator[Result]:
        """Exact copies, candidates, verification, components, survivors, guards."""
        spark, config = context.spark, context.config
        (path,) = self.outputs(config)
        features = delta.read(spark, config.table(schemas.FEATURES_TABLE))
        if lacking := [name for name in (_survivor_column(config), INPUT_FILE, BATCH) if name not in features.columns]:
            raise DataError(
                f"{config.table(schemas.FEATURES_TABLE)}: no column '{lacking[0]}'; `betr-spark features` makes it"
            )
        checkpoint, batch = newest_batch(spark, config)
        history = find_history(spark, config, checkpoint)
        with scratch(spark, config.table(SCRATCH_FOLDER)) as materialise:
            documents = materialise(with_rank_key(_documents(spark, config, features, history, SOURCE)))
            found = _find(spark, config, features, history, documents, materialise)
            rows = materialise(found.rows)
            totals = guards.check(rows, features, config)

            def commit(run: StageRun) -> None:
                # The components first, in a folder of their own: without the commit of `duplicates` nobody looks at them.
                found.components.write.mode("overwrite").parquet(config.table(f"{COMPONENTS}/{key.key[:16]}"))
                metadata = run.to_json(checkpoint=checkpoint, batch=batch, rule=rule_key(config))
                delta.overwrite(rows.drop(SOURCE), path, user_metadata=metadata)

            yield Result(
                rows_in=totals.documents,
                rows_out=totals.exact + totals.near,
                dropped={EXACT: totals.exact, NEAR: totals.near},
                metrics=DedupMetrics(
                    **found.metrics,
                    largest_component=totals.largest_component,
                    largest_source_loss=totals.largest_source_loss,
                ),
                commit=commit,
            )

    def clean_up(self, context: RunContext, key: StageKey) -> None:
        """Delete scratch data and components of other runs."""
        clear(context.spark, context.config, key)


def _survivor_column(config: Config) -> str:
    survivor = config.survivor()
    return N_BYTES if survivor == LONGEST else logit_column(survivor)


def _documents(
    spark: SparkSession, config: Config, features: DataFrame, history: History | None, *columns: str
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
    history: History | None,
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
        "undecided": n_unsure,
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
