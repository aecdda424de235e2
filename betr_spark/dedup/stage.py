"""Stage `dedup`: exact copies, candidate pairs, verification, components, survivors; writes table `duplicates`.

Documents that an earlier run with the same rule kept are previously kept: they stay, and new documents are compared with them.
Their texts are read again only for pairs whose signatures do not decide whether they are similar.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from betr_spark import schemas
from betr_spark.config import LONGEST, Config
from betr_spark.dedup import guards
from betr_spark.dedup.candidates import candidate_pairs
from betr_spark.dedup.columns import CANDIDATE, EQUAL, KEEPER
from betr_spark.dedup.components import NODE, ROOT, connected_components
from betr_spark.dedup.exact import NEW, REMOVED, copies_of, with_copies
from betr_spark.dedup.history import (
    History,
    earlier_components,
    newest_batch,
    read_history,
    removed_earlier,
    reopened,
    rule,
    rule_settings,
    with_removed,
    write_components,
)
from betr_spark.dedup.linking import LinkCounters, linked_documents
from betr_spark.dedup.rank_keys import RANK_KEY, SURVIVOR_SCORE, with_key_in, with_rank_key
from betr_spark.dedup.survivors import duplicates, named_components, removed_near
from betr_spark.dedup.thresholds import Thresholds
from betr_spark.dedup.verification import shingles_of, similar_by_shingles, similar_by_signature
from betr_spark.errors import DataError
from betr_spark.pipeline.stage import Result, RunContext, Stage
from betr_spark.schemas import (
    BATCH,
    COMPONENT_SIZE,
    CONTENT_HASH,
    DOC_ID,
    EXACT,
    INPUT_FILE,
    N_BYTES,
    NEAR,
    SIGNATURE,
    SOURCE,
    logit_column,
)
from betr_spark.scoring.combination import with_combined_logits
from betr_spark.spark.jobs import describe
from betr_spark.storage import delta, runs
from betr_spark.storage.runs import Metrics, StageKey, StageRun
from betr_spark.storage.scratch import Materialise, counted

_AGAIN, _DOCUMENTS = "again", "documents"
_TEXTS_NEW, _TEXTS_EARLIER = "texts_new", "texts_earlier"
_MEMBERS_PER_PART = 2**22  # documents times bands; `BucketLinker` gives the memory of a part


@dataclass(frozen=True, kw_only=True)
class DedupMetrics(Metrics):
    """Candidate pairs, texts read for those that signatures left undecided, buckets, and what the guards look at.

    `largest_bucket` is a number of documents; `bucket_bytes_spilled` went to the workers' local disks.
    """

    candidates: int | None
    unsure: int | None
    texts_new: int | None
    texts_previously_kept: int | None
    largest_bucket: int | None
    bucket_bytes_spilled: int | None
    largest_component: int | None = None
    largest_source_loss: float | None = None


class _Decisions(NamedTuple):
    """Rows of `duplicates` with their source; components with their sizes; counts."""

    rows: DataFrame
    components: DataFrame
    metrics: DedupMetrics


class Dedup(Stage):
    """Finds duplicates among the documents of `features`; new documents are compared with previously kept ones."""

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
        return StageKey.of("dedup", {"dedup": config.dedup, **rule_settings(config)}, features=features)

    @contextmanager
    def build(self, context: RunContext, key: StageKey) -> Iterator[Result]:
        """Exact copies, candidates, verification, components, survivors, guards.

        Raises:
            DataError: `features` lacks a column or has other signatures, a guard is exceeded, or a text was not found.
        """
        spark, config = context.spark, context.config
        (path,) = self.outputs(config)
        features = delta.read(spark, config.table(schemas.FEATURES_TABLE))
        if missing := [name for name in _required_columns(config) if name not in features.columns]:
            raise DataError(
                f"{config.table(schemas.FEATURES_TABLE)}: no column '{missing[0]}'; add it with `betr-spark features`"
            )
        features = with_combined_logits(features, config, [config.survivor()])
        checkpoint, batch = newest_batch(spark, config)
        history = read_history(spark, config, checkpoint)
        with context.scratch("dedup") as materialise:
            describe(spark, "dedup: order documents and find exact copies")
            scored = _documents(config, features, history, CONTENT_HASH, SOURCE, INPUT_FILE, SIGNATURE)
            ordered = with_rank_key(with_removed(spark, config, scored, history))
            documents, n = counted(materialise, with_copies(ordered).drop(REMOVED), {_DOCUMENTS: F.count("*")})
            decisions = _decide(context, history, documents, n[_DOCUMENTS], materialise)
            describe(spark, "dedup: choose survivors")
            rows = materialise(decisions.rows)
            describe(spark, "dedup: check guards")
            totals = guards.check(rows, documents, context)

            def commit(run: StageRun) -> None:
                describe(spark, "dedup: write")
                version = write_components(spark, config, decisions.components.select(NODE, ROOT, COMPONENT_SIZE), key)
                metadata = run.to_json(
                    checkpoint=checkpoint, batch=batch, rule=rule(config), components_version=version
                )
                delta.overwrite(rows.drop(SOURCE), path, user_metadata=metadata)

            yield Result(
                rows_in=totals.documents,
                rows_out=totals.exact + totals.near,
                dropped={EXACT: totals.exact, NEAR: totals.near},
                metrics=replace(
                    decisions.metrics,
                    largest_component=totals.largest_component,
                    largest_source_loss=totals.largest_source_loss,
                ),
                commit=commit,
            )

    def summary(self, run: StageRun) -> list[str]:
        """How many documents were removed."""
        counts = (
            f"{run.rows_in} documents, {run.rows_out} removed ({run.dropped[EXACT]} exact, {run.dropped[NEAR]} near)"
        )
        return [f"dedup: {counts}; {'skipped, up to date' if run.skipped else f'{run.seconds:.1f} s'}"]


def _survivor_column(config: Config) -> str:
    survivor = config.survivor()
    return N_BYTES if survivor == LONGEST else logit_column(survivor)


def _required_columns(config: Config) -> list[str]:
    combined = config.combinations().get(config.survivor(), ())
    return [*([logit_column(part) for part in combined] or [_survivor_column(config)]), INPUT_FILE, BATCH]


def _documents(config: Config, features: DataFrame, history: History | None, *columns: str) -> DataFrame:
    """Every document: doc_id, survivor_score, `columns`, new (not seen by an earlier run)."""
    score = F.col(_survivor_column(config)).cast("double").alias(SURVIVOR_SCORE)
    if history is None:
        return features.select(DOC_ID, score, *columns, F.lit(True).alias(NEW))
    rows = features.select(DOC_ID, score, *columns, (F.col(BATCH) > history.batch).alias(NEW))
    again = reopened(features.sparkSession, config)
    if again is None:
        return rows
    marked = rows.join(again.withColumn(_AGAIN, F.lit(True)), on=DOC_ID, how="left")
    return marked.withColumn(NEW, F.col(NEW) | F.coalesce(_AGAIN, F.lit(False))).drop(_AGAIN)


def _decide(
    context: RunContext,
    history: History | None,
    documents: DataFrame,
    n_documents: int,
    materialise: Materialise,
) -> _Decisions:
    spark, config = context.spark, context.config
    copies = copies_of(documents)
    thresholds = Thresholds.of(config.dedup.similarity, bands=config.minhash.bands, rows=config.minhash.rows)
    n_members = n_documents * config.minhash.bands
    n_parts = max(spark.sparkContext.defaultParallelism, math.ceil(n_members / _MEMBERS_PER_PART))
    counters = LinkCounters.of(spark)
    describe(spark, "dedup: compare signatures")
    links = linked_documents(documents, bands=config.minhash.bands, n_parts=n_parts, counters=counters)
    signatures = documents.where(F.col(SIGNATURE).isNotNull()).select(RANK_KEY, SIGNATURE)
    pairs, n_pairs, n_unsure = candidate_pairs(links, signatures, thresholds, n_parts=n_parts, materialise=materialise)
    edges = similar_by_signature(pairs, thresholds)
    n_texts: Mapping[str, int] = {_TEXTS_NEW: 0, _TEXTS_EARLIER: 0}
    if n_unsure:
        describe(spark, "dedup: compare texts of undecided pairs")
        unsure = pairs.where(F.col(EQUAL) < thresholds.sure)
        ends = unsure.select(F.explode(F.array(KEEPER, CANDIDATE)).alias(RANK_KEY))
        compared = with_key_in(documents, ends, n=2 * n_unsure)
        compared = compared.select(DOC_ID, RANK_KEY, NEW, INPUT_FILE, CONTENT_HASH)
        counts = {_TEXTS_NEW: F.count_if(NEW), _TEXTS_EARLIER: F.count_if(~F.col(NEW))}
        compared, n_texts = counted(materialise, compared, counts)
        sets, check = shingles_of(compared, context, n_documents=sum(n_texts.values()))
        similar = similar_by_shingles(unsure, sets, similarity=config.dedup.similarity, n_pairs=n_unsure)
        edges = materialise(edges.unionByName(similar))
        check()
    describe(spark, "dedup: find components")
    links = edges.select(F.col(KEEPER).alias(NODE), F.col(CANDIDATE).alias(ROOT))
    earlier = None
    if history is not None:
        links = links.unionByName(earlier_components(spark, config, history, documents))
        earlier = removed_earlier(spark, config, documents, copies)
    components = materialise(named_components(connected_components(links, materialise=materialise), documents))
    near = removed_near(edges, components)
    near = near if earlier is None else near.unionByName(earlier)
    rows = duplicates(copies, near, components)
    metrics = DedupMetrics(
        candidates=n_pairs,
        unsure=n_unsure,
        texts_new=n_texts[_TEXTS_NEW],
        texts_previously_kept=n_texts[_TEXTS_EARLIER],
        largest_bucket=counters.largest_bucket.value,
        bucket_bytes_spilled=counters.spilled_bytes.value,
    )
    return _Decisions(rows, components, metrics)
