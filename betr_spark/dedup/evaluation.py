"""How good a finished deduplication is: precision and recall by true Jaccard similarity, from samples."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from betr_spark import schemas
from betr_spark.config import Config, MinHashConfig
from betr_spark.corpus.snapshot import InputSnapshot
from betr_spark.dedup.candidates import CANDIDATE, KEEPER, KEEPER_PREVIOUSLY_KEPT
from betr_spark.dedup.exact import RANK_KEY
from betr_spark.dedup.exhaustive_search import Index, exhaustive_search
from betr_spark.dedup.verification import shingles_of, similar_by_shingles
from betr_spark.kernels.arrow_buffers import string_buffers
from betr_spark.kernels.shingles import shingle_sets
from betr_spark.schemas import (
    COMPONENT_ID,
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
from betr_spark.storage.scratch import scratch

_SCRATCH_FOLDER = "_scratch/dedup-eval"
_COMPONENTS, _MEMBERS = 100, 20  # looked at whole; and documents of each, the first by id
_NUMBER, _ONE, _GONE = "number", "one", "gone"


class Share(NamedTuple):
    """`n` of `of` pairs with a similarity in [low, high)."""

    low: float
    high: float
    n: int
    of: int

    def __str__(self) -> str:
        """Give the band, the counts and the interval."""
        low, high = self.interval()
        band = f"[{self.low:.2f}, {'1.00]' if self.high > 1 else f'{self.high:.2f})'}"
        figure = f"= {self.n / self.of:.4f}, 95 % in [{low:.4f}, {high:.4f}]" if self.of else "(none drawn)"
        return f"{band:13} {self.n} of {self.of} {figure}"

    def interval(self) -> tuple[float, float]:
        """95 % interval of the share (Wilson); (0, 1) without pairs."""
        if not self.of:
            return 0.0, 1.0
        z, share = 1.96, self.n / self.of
        middle = share + z * z / (2 * self.of)
        spread = z * math.sqrt(share * (1 - share) / self.of + z * z / (4 * self.of * self.of))
        return (middle - spread) / (1 + z * z / self.of), (middle + spread) / (1 + z * z / self.of)


class Evaluation(NamedTuple):
    """Figures of one deduplication.

    `precision`: of sampled near-duplicates that were removed, those whose true similarity to the kept document reaches the
    threshold, by recorded similarity. `recall`: of all pairs with a true similarity of the threshold or more that one of
    `n_sampled` documents has with any other, those not both kept, by true similarity. `inside`: of the pairs inside
    `n_components` components, those that are similar; `both_kept`: of these, those of which both stay.
    """

    n_documents: int
    n_sampled: int
    precision: list[Share]
    recall: list[Share]
    n_components: int
    inside: Share
    both_kept: Share

    def lines(self, similarity: float) -> list[str]:
        """The figures as text."""
        least = f"a true similarity of {similarity:g}"
        of = f"{self.n_sampled} of {self.n_documents} distinct documents"
        inside = f"{self.inside.n} of {self.inside.of} pairs inside are similar"
        return [
            f"precision: removed near-duplicates with {least} to the kept one, by recorded similarity",
            *(f"  {share}" for share in self.precision),
            f"recall: pairs with {least} of {of} with any other, not both kept, by true similarity",
            *(f"  {share}" for share in self.recall),
            f"{self.n_components} components looked at: {inside}; of these both are kept in {self.both_kept.n}",
        ]


def evaluate(spark: SparkSession, config: Config, *, documents: int, seed: int) -> Evaluation:
    """Draw documents, removed documents and components; compute true similarities. Reads the text of the corpus once.

    Args:
        spark: the session.
        config: of a finished `dedup`.
        documents: how many documents, and how many removed ones, are drawn.
        seed: of the draw.
    """
    features = delta.read(spark, config.table(schemas.FEATURES_TABLE)).where(F.col(SIGNATURE).isNotNull())
    removed = delta.read(spark, config.table(schemas.DUPLICATES_TABLE))
    copies = removed.where(F.col(KIND) == EXACT).select(DOC_ID)
    distinct = features.select(DOC_ID, INPUT_FILE).join(copies, on=DOC_ID, how="left_anti")
    order = [F.xxhash64(F.lit(seed), DOC_ID), F.col(DOC_ID)]
    with scratch(spark, config.table(_SCRATCH_FOLDER)) as materialise:
        drawn = materialise(distinct.orderBy(*order).limit(documents))
        near = materialise(removed.where(F.col(KIND) == NEAR).orderBy(*order).limit(documents))
        chosen = near.select(COMPONENT_ID).distinct().orderBy(F.xxhash64(F.lit(seed), COMPONENT_ID)).limit(_COMPONENTS)
        members = materialise(_members(chosen, removed))
        pairs = near.select(F.col(KEPT_DOC_ID).alias(KEEPER), F.col(DOC_ID).alias(CANDIDATE)).unionByName(
            _all_pairs(members)
        )
        wanted = pairs.select(F.col(KEEPER).alias(DOC_ID)).unionByName(pairs.select(F.col(CANDIDATE).alias(DOC_ID)))
        wanted = wanted.unionByName(drawn.select(DOC_ID)).distinct()
        wanted = materialise(
            features.select(DOC_ID, INPUT_FILE)
            .join(wanted, on=DOC_ID, how="inner")
            .withColumn(RANK_KEY, _place(DOC_ID))
        )
        sets = shingles_of(wanted, config, materialise=materialise)
        similar = materialise(_true_similarity(pairs, sets))
        found = materialise(_partners(spark, config, drawn, sets, copies))
        return Evaluation(
            n_documents=distinct.count(),
            n_sampled=drawn.count(),
            precision=_precision(near, similar, config),
            recall=_recall(found, removed, config),
            n_components=chosen.count(),
            **_components(members, similar, removed, config),
        )


def _place(column: str) -> Column:
    return F.col(column).cast("binary")


def _members(chosen: DataFrame, removed: DataFrame) -> DataFrame:
    """Documents of the chosen components, kept ones included: component_id, doc_id."""
    own = removed.join(chosen, on=COMPONENT_ID, how="left_semi")
    both = own.where(F.col(KIND) == NEAR).select(COMPONENT_ID, DOC_ID)
    both = both.unionByName(own.select(COMPONENT_ID, F.col(KEPT_DOC_ID).alias(DOC_ID))).distinct()
    position = F.row_number().over(Window.partitionBy(COMPONENT_ID).orderBy(DOC_ID))
    return both.withColumn(_NUMBER, position).where(F.col(_NUMBER) <= _MEMBERS).drop(_NUMBER)


def _all_pairs(members: DataFrame) -> DataFrame:
    one, other = (members.select(COMPONENT_ID, F.col(DOC_ID).alias(name)) for name in (KEEPER, CANDIDATE))
    return (
        one.join(other, on=COMPONENT_ID, how="inner").where(F.col(KEEPER) < F.col(CANDIDATE)).select(KEEPER, CANDIDATE)
    )


def _true_similarity(pairs: DataFrame, sets: DataFrame) -> DataFrame:
    """Add the true similarity to pairs (keeper, candidate; doc_ids)."""
    named = pairs.distinct().select(
        _place(KEEPER).alias(KEEPER), F.lit(False).alias(KEEPER_PREVIOUSLY_KEPT), _place(CANDIDATE).alias(CANDIDATE)
    )
    found = similar_by_shingles(named, sets, similarity=0.0)
    return found.select(*(F.col(name).cast("string").alias(name) for name in (KEEPER, CANDIDATE)), SIMILARITY)


def _partners(spark: SparkSession, config: Config, drawn: DataFrame, sets: DataFrame, copies: DataFrame) -> DataFrame:
    """Every document that is truly similar to a drawn one: one, doc_id, similarity. Passes over the whole text."""
    own = sets.withColumn(DOC_ID, F.col(RANK_KEY).cast("string")).join(drawn, on=DOC_ID, how="left_semi")
    known = own.select(DOC_ID, SHINGLES).toArrow()  # bounded by the sample
    shingles = [np.frombuffer(row.as_py(), np.uint64) for row in known.column(SHINGLES)]
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in shingles])]).astype(np.int64)
    index = Index.of(np.concatenate([*shingles, np.empty(0, np.uint64)]), offsets)
    shared = spark.sparkContext.broadcast((index, known.column(DOC_ID).to_pylist()))
    least, minhash = config.dedup.similarity, config.minhash

    def find(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        index, ids = shared.value
        for batch in batches:
            hashes, bounds = _sets_of(batch, minhash)
            found = exhaustive_search(hashes, bounds, index, least=least)
            ones = pa.array([ids[number] for number in found.sets], pa.string())
            others = batch.column(DOC_ID).take(pa.array(found.rows))
            yield pa.RecordBatch.from_arrays([ones, others, pa.array(found.similarity)], [_ONE, DOC_ID, SIMILARITY])

    texts = InputSnapshot.scored(spark, config).documents().where(F.col(REASON).isNull()).select(DOC_ID, TEXT)
    pairs = texts.mapInArrow(find, f"{_ONE} string, {DOC_ID} string, {SIMILARITY} double")
    return pairs.where(F.col(_ONE) != F.col(DOC_ID)).join(copies, on=DOC_ID, how="left_anti").distinct()


def _sets_of(batch: pa.RecordBatch, minhash: MinHashConfig) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    return shingle_sets(*string_buffers(batch.column(TEXT)), ngram=minhash.ngram, seed=minhash.seed)


def _bands(config: Config) -> list[tuple[float, float]]:
    least = config.dedup.similarity
    edges = [least + (1 - least) * part for part in (0.0, 0.2, 0.4)]
    return [*zip(edges, [*edges[1:], math.inf], strict=True)] if least < 1 else [(1.0, math.inf)]


def _by_band(pairs: DataFrame, right: Column, config: Config) -> list[Share]:
    counts = [
        column
        for low, high in _bands(config)
        for inside in [(F.col(SIMILARITY) >= low) & (F.col(SIMILARITY) < high)]
        for column in (F.count_if(inside & right), F.count_if(inside))
    ]
    found = list(pairs.agg(*counts).first() or ())
    return [Share(*band, *found[2 * i : 2 * i + 2]) for i, band in enumerate(_bands(config))]


def _precision(near: DataFrame, similar: DataFrame, config: Config) -> list[Share]:
    true = similar.select(
        F.col(KEEPER).alias(KEPT_DOC_ID), F.col(CANDIDATE).alias(DOC_ID), F.col(SIMILARITY).alias("true")
    )
    pairs = near.join(true, on=[KEPT_DOC_ID, DOC_ID], how="inner")
    return _by_band(pairs, F.col("true") >= F.lit(config.dedup.similarity).cast("float"), config)


def _recall(found: DataFrame, removed: DataFrame, config: Config) -> list[Share]:
    gone = removed.select(DOC_ID, F.lit(True).alias(_GONE))
    pairs = found.join(gone.withColumnRenamed(DOC_ID, _ONE).withColumnRenamed(_GONE, "one_gone"), on=_ONE, how="left")
    pairs = pairs.join(gone, on=DOC_ID, how="left")
    return _by_band(pairs, F.coalesce(F.col(_GONE), F.col("one_gone"), F.lit(False)), config)


def _components(members: DataFrame, similar: DataFrame, removed: DataFrame, config: Config) -> dict[str, Share]:
    gone = removed.select(DOC_ID, F.lit(True).alias(_GONE))
    pairs = _all_pairs(members).join(similar, on=[KEEPER, CANDIDATE], how="inner")
    for side in (KEEPER, CANDIDATE):
        own = gone.withColumnRenamed(DOC_ID, side).withColumnRenamed(_GONE, f"{side}_gone")
        pairs = pairs.join(own, on=side, how="left")
    least = config.dedup.similarity
    is_similar = F.col(SIMILARITY) >= F.lit(least).cast("float")
    both_kept = F.col(f"{KEEPER}_gone").isNull() & F.col(f"{CANDIDATE}_gone").isNull()
    row = pairs.agg(F.count("*"), F.count_if(is_similar), F.count_if(is_similar & both_kept)).first()
    n, n_similar, n_kept = row or (0, 0, 0)
    return {"inside": Share(least, math.inf, n_similar, n), "both_kept": Share(least, math.inf, n_kept, n_similar)}
