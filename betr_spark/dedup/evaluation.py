"""Precision and recall of a finished deduplication by true Jaccard similarity, from samples."""

import math
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from betr_spark import schemas
from betr_spark.config import Config, MinHashConfig
from betr_spark.dedup.columns import CANDIDATE, KEEPER, KEEPER_PREVIOUSLY_KEPT
from betr_spark.dedup.evaluation_figures import Evaluation, Share
from betr_spark.dedup.exhaustive_search import Index, exhaustive_search
from betr_spark.dedup.rank_keys import RANK_KEY
from betr_spark.dedup.verification import shingles_of, similar_by_shingles
from betr_spark.kernels.arrow_buffers import string_buffers
from betr_spark.kernels.shingles import shingle_sets
from betr_spark.pipeline.stage import RunContext
from betr_spark.schemas import (
    COMPONENT_ID,
    CONTENT_HASH,
    DOC_ID,
    EXACT,
    INPUT_FILE,
    KEPT_DOC_ID,
    KIND,
    NEAR,
    REASON,
    SHINGLES,
    SIGNATURE,
    SIMILARITY,
    TEXT,
)
from betr_spark.storage import delta

_MAX_COMPONENTS, _MAX_MEMBERS = 100, 20  # sampled components; documents of each, the first by id
_NUMBER, _SAMPLED, _REMOVED = "number", "sampled", "removed"


def evaluate(context: RunContext, *, documents: int, seed: int) -> Evaluation:
    """Sample documents, removed documents and components, and compute true similarities. Reads the text of the corpus once.

    Args:
        context: of a finished `dedup`; intermediate results are stored in its scratch folder.
        documents: number of sampled documents, and of sampled removed documents.
        seed: of the samples.
    """
    spark, config = context.spark, context.config
    features = delta.read(spark, config.table(schemas.FEATURES_TABLE)).where(F.col(SIGNATURE).isNotNull())
    removed = delta.read(spark, config.table(schemas.DUPLICATES_TABLE))
    copies = removed.where(F.col(KIND) == EXACT).select(DOC_ID)
    distinct = features.select(DOC_ID, INPUT_FILE).join(copies, on=DOC_ID, how="left_anti")
    order = [F.xxhash64(F.lit(seed), DOC_ID), F.col(DOC_ID)]
    with context.scratch("dedup-eval") as materialise:
        sampled = materialise(distinct.orderBy(*order).limit(documents))
        near = materialise(removed.where(F.col(KIND) == NEAR).orderBy(*order).limit(documents))
        components = near.select(COMPONENT_ID).distinct().orderBy(F.xxhash64(F.lit(seed), COMPONENT_ID))
        components = components.limit(_MAX_COMPONENTS)
        members = materialise(_members(components, removed))
        removals = near.select(F.col(KEPT_DOC_ID).alias(KEEPER), F.col(DOC_ID).alias(CANDIDATE))
        pairs = removals.unionByName(_all_pairs(members))
        ids = pairs.select(F.col(KEEPER).alias(DOC_ID)).unionByName(pairs.select(F.col(CANDIDATE).alias(DOC_ID)))
        ids = ids.unionByName(sampled.select(DOC_ID)).distinct()
        compared = features.select(DOC_ID, INPUT_FILE, CONTENT_HASH).join(ids, on=DOC_ID, how="inner")
        compared = materialise(compared.withColumn(RANK_KEY, _key(DOC_ID)))
        sets, check = shingles_of(compared, context)
        sets = materialise(sets)
        check()
        similarities = materialise(_true_similarity(pairs, sets))
        similar_pairs = materialise(_similar_pairs(context, sampled, sets, copies))
        return Evaluation(
            n_documents=distinct.count(),
            n_sampled=sampled.count(),
            precision=_precision(near, similarities, config),
            recall=_recall(similar_pairs, removed, config),
            n_components=components.count(),
            **_inside_components(members, similarities, removed, config),
        )


def _key(column: str) -> Column:
    """Take the doc_id itself for the rank key, which only names a document here."""
    return F.col(column).cast("binary")


def _members(components: DataFrame, removed: DataFrame) -> DataFrame:
    """Documents of some components, kept ones included: component_id, doc_id."""
    removed = removed.join(components, on=COMPONENT_ID, how="left_semi")
    documents = removed.where(F.col(KIND) == NEAR).select(COMPONENT_ID, DOC_ID)
    documents = documents.unionByName(removed.select(COMPONENT_ID, F.col(KEPT_DOC_ID).alias(DOC_ID))).distinct()
    position = F.row_number().over(Window.partitionBy(COMPONENT_ID).orderBy(DOC_ID))
    return documents.withColumn(_NUMBER, position).where(F.col(_NUMBER) <= _MAX_MEMBERS).drop(_NUMBER)


def _all_pairs(members: DataFrame) -> DataFrame:
    keepers, candidates = (members.select(COMPONENT_ID, F.col(DOC_ID).alias(name)) for name in (KEEPER, CANDIDATE))
    pairs = keepers.join(candidates, on=COMPONENT_ID, how="inner")
    return pairs.where(F.col(KEEPER) < F.col(CANDIDATE)).select(KEEPER, CANDIDATE)


def _true_similarity(pairs: DataFrame, sets: DataFrame) -> DataFrame:
    """Add the true similarity to pairs (keeper, candidate; doc_ids)."""
    pairs = pairs.distinct().select(
        _key(KEEPER).alias(KEEPER), F.lit(False).alias(KEEPER_PREVIOUSLY_KEPT), _key(CANDIDATE).alias(CANDIDATE)
    )
    similarities = similar_by_shingles(pairs, sets, similarity=0.0)
    return similarities.select(*(F.col(name).cast("string").alias(name) for name in (KEEPER, CANDIDATE)), SIMILARITY)


def _similar_pairs(context: RunContext, sampled: DataFrame, sets: DataFrame, copies: DataFrame) -> DataFrame:
    """All similar pairs of a sampled document and any document: sampled, doc_id, similarity. Reads the text of the corpus."""
    spark, config = context.spark, context.config
    sets = sets.withColumn(DOC_ID, F.col(RANK_KEY).cast("string")).join(sampled, on=DOC_ID, how="left_semi")
    rows = sets.select(DOC_ID, SHINGLES).toArrow()  # bounded by the sample
    shingles = [np.frombuffer(row.as_py(), np.uint64) for row in rows.column(SHINGLES)]
    offsets = np.concatenate([[0], np.cumsum([len(hashes) for hashes in shingles])]).astype(np.int64)
    index = Index.of(np.concatenate([*shingles, np.empty(0, np.uint64)]), offsets)
    shared = spark.sparkContext.broadcast((index, rows.column(DOC_ID).to_pylist()))
    least, minhash = config.dedup.similarity, config.minhash

    def find(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        index, ids = shared.value
        for batch in batches:
            hashes, bounds = _sets_of(batch, minhash)
            matches = exhaustive_search(hashes, bounds, index, least=least)
            sampled = pa.array([ids[number] for number in matches.sets], pa.string())
            columns = [sampled, batch.column(DOC_ID).take(pa.array(matches.rows)), pa.array(matches.similarity)]
            yield pa.RecordBatch.from_arrays(columns, [_SAMPLED, DOC_ID, SIMILARITY])

    texts = context.scored_input().documents().where(F.col(REASON).isNull()).select(DOC_ID, TEXT)
    pairs = texts.mapInArrow(find, f"{_SAMPLED} string, {DOC_ID} string, {SIMILARITY} double")
    return pairs.where(F.col(_SAMPLED) != F.col(DOC_ID)).join(copies, on=DOC_ID, how="left_anti").distinct()


def _sets_of(batch: pa.RecordBatch, minhash: MinHashConfig) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    return shingle_sets(*string_buffers(batch.column(TEXT)), ngram=minhash.ngram, seed=minhash.seed)


def _bands(config: Config) -> list[tuple[float, float]]:
    least = config.dedup.similarity
    edges = [least + (1 - least) * part for part in (0.0, 0.2, 0.4)]
    return [*zip(edges, [*edges[1:], math.inf], strict=True)] if least < 1 else [(1.0, math.inf)]


def _by_band(pairs: DataFrame, condition: Column, config: Config) -> list[Share]:
    """Share of the pairs that meet a condition, in each band of similarity."""
    bands = _bands(config)
    counts = [
        column
        for low, high in bands
        for in_band in [(F.col(SIMILARITY) >= low) & (F.col(SIMILARITY) < high)]
        for column in (F.count_if(in_band & condition), F.count_if(in_band))
    ]
    values = list(pairs.agg(*counts).first() or ())
    return [Share(*band, *values[2 * i : 2 * i + 2]) for i, band in enumerate(bands)]


def _precision(near: DataFrame, similarities: DataFrame, config: Config) -> list[Share]:
    true = similarities.select(
        F.col(KEEPER).alias(KEPT_DOC_ID), F.col(CANDIDATE).alias(DOC_ID), F.col(SIMILARITY).alias("true")
    )
    pairs = near.join(true, on=[KEPT_DOC_ID, DOC_ID], how="inner")
    return _by_band(pairs, F.col("true") >= F.lit(config.dedup.similarity).cast("float"), config)


def _recall(similar_pairs: DataFrame, removed: DataFrame, config: Config) -> list[Share]:
    pairs = _with_removed(_with_removed(similar_pairs, _SAMPLED, removed), DOC_ID, removed)
    return _by_band(pairs, F.col(f"{_SAMPLED}_{_REMOVED}") | F.col(f"{DOC_ID}_{_REMOVED}"), config)


def _inside_components(
    members: DataFrame, similarities: DataFrame, removed: DataFrame, config: Config
) -> dict[str, Share]:
    pairs = _all_pairs(members).join(similarities, on=[KEEPER, CANDIDATE], how="inner")
    pairs = _with_removed(_with_removed(pairs, KEEPER, removed), CANDIDATE, removed)
    least = config.dedup.similarity
    is_similar = F.col(SIMILARITY) >= F.lit(least).cast("float")
    both_kept = ~F.col(f"{KEEPER}_{_REMOVED}") & ~F.col(f"{CANDIDATE}_{_REMOVED}")
    row = pairs.agg(F.count("*"), F.count_if(is_similar), F.count_if(is_similar & both_kept)).first()
    n, n_similar, n_kept = row or (0, 0, 0)
    return {"inside": Share(least, math.inf, n_similar, n), "both_kept": Share(least, math.inf, n_kept, n_similar)}


def _with_removed(pairs: DataFrame, doc_id: str, removed: DataFrame) -> DataFrame:
    """Add whether the document in a column was removed."""
    flag = f"{doc_id}_{_REMOVED}"
    flags = removed.select(F.col(DOC_ID).alias(doc_id), F.lit(True).alias(flag))
    return pairs.join(flags, on=doc_id, how="left").fillna(value=False, subset=[flag])
