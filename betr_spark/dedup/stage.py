"""Stage `dedup`: exact copies, LSH candidates, verification, components, survivors; table `duplicates`."""

import contextlib
from collections.abc import Iterator

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from betr_spark import files, schemas, tables
from betr_spark.config import Config
from betr_spark.dedup.candidates import BETTER, WORSE, candidate_pairs, with_similarity
from betr_spark.dedup.components import connected_components
from betr_spark.dedup.exact import COPIES, REPRESENTATIVE, with_representative
from betr_spark.dedup.survivors import duplicates, removed_near
from betr_spark.schemas import (
    BANDS,
    CONTENT_HASH,
    DOC_ID,
    EXACT,
    KIND,
    LOGIT,
    NEAR,
    SIGNATURE,
    SIMILARITY,
    logit_column,
)
from betr_spark.tables import Clock, StageKey, StageRun

_SCRATCH_FOLDER = "_scratch/dedup"


def key(spark: SparkSession, config: Config) -> StageKey:
    """Key of `duplicates`: the rule, the order of survivors, and the features."""
    settings = {"dedup": config.dedup, "survivor": config.survivor_scorer(), "minhash": config.minhash}
    features = tables.input_version(spark, config.table(schemas.FEATURES_TABLE))
    return StageKey.of("dedup", settings, features=features)


def run(spark: SparkSession, config: Config) -> list[StageRun]:
    """Find duplicates among all documents of `features`."""
    wanted = key(spark, config)
    path = config.table(schemas.DUPLICATES_TABLE)
    if done := tables.finished(spark, config.output, path, wanted):
        return [done]
    clock = Clock(wanted)
    features = tables.read(spark, config.table(schemas.FEATURES_TABLE))
    logit = F.col(logit_column(config.survivor_scorer())).alias(LOGIT)
    with _scratch(spark, config.table(_SCRATCH_FOLDER)):
        documents = _materialise(
            with_representative(features.select(DOC_ID, CONTENT_HASH, logit)).select(
                DOC_ID, REPRESENTATIVE, COPIES, LOGIT
            )
        )
        representatives = documents.where(F.col(DOC_ID) == F.col(REPRESENTATIVE)).select(DOC_ID, LOGIT)
        sketched = features.where(F.col(SIGNATURE).isNotNull()).select(DOC_ID, BANDS, SIGNATURE)
        sketched = sketched.join(representatives, on=DOC_ID, how="inner")
        pairs = candidate_pairs(sketched.select(DOC_ID, BANDS, LOGIT))
        verified = _materialise(with_similarity(pairs, sketched.select(DOC_ID, SIGNATURE), left=BETTER, right=WORSE))
        edges = verified.where(F.col(SIMILARITY) >= F.lit(config.dedup.similarity).cast("float"))
        near = removed_near(edges, representatives, materialise=_materialise)
        components = connected_components(edges.select(BETTER, WORSE), materialise=_materialise)
        found = _materialise(duplicates(documents, near.rows, components))
        kinds = {row[KIND]: row["count"] for row in found.groupBy(KIND).count().collect()}  # two rows
        n_documents = documents.count()
        done = clock.done(
            rows_in=n_documents,
            rows_out=sum(kinds.values()),
            dropped={kind: kinds.get(kind, 0) for kind in (EXACT, NEAR)},
            metrics={"candidates": verified.count(), "verified": edges.count(), "rounds": near.rounds},
        )
        tables.overwrite(found, path, user_metadata=done.to_json())
    tables.record(spark, config.output, done)
    return [done]


def _materialise(frame: DataFrame) -> DataFrame:
    """Compute a frame, store it in the scratch folder, and go on from what is stored."""
    return frame.checkpoint(eager=True)


@contextlib.contextmanager
def _scratch(spark: SparkSession, folder: str) -> Iterator[None]:
    """Reliable checkpoints in a folder that is emptied before and after."""
    files.delete(spark, folder)
    spark.sparkContext.setCheckpointDir(folder)
    try:
        yield
    finally:
        files.delete(spark, folder)
