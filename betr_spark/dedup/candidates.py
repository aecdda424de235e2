"""Candidate pairs: documents that share an LSH bucket and have similar signatures."""

import itertools
import math
from collections.abc import Callable, Iterator
from functools import partial, reduce
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from scipy.special import bdtr, bdtrc

from betr_spark.dedup.bucket_representatives import BucketRepresentatives, Members
from betr_spark.dedup.buckets import RANK_KEY_BYTES
from betr_spark.dedup.exact import RANK_KEY
from betr_spark.kernels.arrow_buffers import binary_column, binary_rows
from betr_spark.kernels.minhash import equal_probability, equal_values
from betr_spark.schemas import SIGNATURE

KEEPER, CANDIDATE, EQUAL = "keeper", "candidate", "equal"
PREVIOUSLY_KEPT, KEEPER_PREVIOUSLY_KEPT = "previously_kept", "keeper_previously_kept"
BUCKET = "bucket"
LINKED = (
    f"{BUCKET} bigint, {PREVIOUSLY_KEPT} boolean, {RANK_KEY} binary, {KEEPER} binary, {KEEPER_PREVIOUSLY_KEPT} boolean"
)
_PAIRS = f"{KEEPER} binary, {KEEPER_PREVIOUSLY_KEPT} boolean, {CANDIDATE} binary, {EQUAL} int"
_SIDES = {CANDIDATE: "candidate_signature", KEEPER: "keeper_signature"}


class Thresholds(NamedTuple):
    """Limits for the number of equal values in two signatures.

    Attributes:
        n_values: values of a signature.
        least: pairs with fewer equal values are not similar.
        enough: pairs with this many equal values are similar by the estimate alone.
        sure: pairs with this many equal values are similar; between `least` and `sure` the true similarity decides.
    """

    n_values: int
    least: int
    enough: int
    sure: int

    @classmethod
    def of(cls, similarity: float, *, bands: int, rows: int) -> Self:
        """Choose the limits for a similarity.

        A pair of exactly this similarity has fewer than `least` equal values with P < 1e-3. It has `sure` or more equal values
        with P < 1e-5, given that one band is equal, because only pairs that share a bucket are compared.
        """
        n_values, probability = bands * rows, equal_probability(similarity)
        counts = np.arange(n_values + 1)
        least = int(np.max(counts[bdtr(counts - 1.0, n_values, probability) < 1e-3], initial=0))
        improbable = counts[bdtrc(counts - 1.0 - rows, n_values - rows, probability) < 1e-5]
        sure = int(np.min(improbable, initial=n_values + 1))
        return cls(n_values, least, math.ceil(probability * n_values), sure)


def candidate_pairs(
    linked: DataFrame,
    signatures: Callable[[DataFrame], DataFrame],
    thresholds: Thresholds,
    *,
    materialise: Callable[[DataFrame], DataFrame],
) -> DataFrame:
    """Pair documents that share a bucket and have at least `thresholds.least` equal values.

    First, every document is compared with the first document of each of its buckets; each distinct pair is compared once. This
    decides most buckets. Documents that are not similar to the first document of their bucket are then compared with the
    bucket's representatives (`BucketRepresentatives`), in rounds. A bucket of n documents costs n - 1 comparisons, and then at
    most 16 n comparisons in each round. No bucket is skipped, whatever its size. Two previously kept documents are not
    compared.

    Args:
        linked: as `linking.linked_documents` gives it; read several times.
        signatures: takes a frame of distinct rank_key, returns rank_key, signature.
        thresholds: limits for equal values.
        materialise: computes a frame and cuts its lineage.

    Returns:
        keeper, keeper_previously_kept, candidate, equal; each pair once. The keeper is previously kept, or has the smaller rank
        key.
    """
    new_members = linked.where((F.col(KEEPER) != F.col(RANK_KEY)) & ~F.col(PREVIOUSLY_KEPT))
    pairs = materialise(new_members.select(KEEPER, KEEPER_PREVIOUSLY_KEPT, F.col(RANK_KEY).alias(CANDIDATE)).distinct())
    if not pairs.take(1):
        return linked.sparkSession.createDataFrame([], _PAIRS)
    previously_kept = linked.where(PREVIOUSLY_KEPT)
    rank_keys = [
        pairs.select(F.col(KEEPER).alias(RANK_KEY)),
        pairs.select(F.col(CANDIDATE).alias(RANK_KEY)),
        previously_kept.select(RANK_KEY),
    ]
    signed = materialise(signatures(reduce(DataFrame.unionByName, rank_keys).distinct()))
    compared = materialise(_with_equal(pairs, signed, thresholds))
    similar = compared.where(F.col(EQUAL) >= thresholds.least)
    dissimilar = compared.where(F.col(EQUAL) < thresholds.enough).select(KEEPER, F.col(CANDIDATE).alias(RANK_KEY))
    remaining = materialise(new_members.join(dissimilar.hint("shuffle_hash"), on=[KEEPER, RANK_KEY], how="left_semi"))
    first = (
        remaining.where(~F.col(KEEPER_PREVIOUSLY_KEPT))
        .select(BUCKET, PREVIOUSLY_KEPT, F.col(KEEPER).alias(RANK_KEY))
        .distinct()
    )
    previously_kept = previously_kept.join(remaining.select(BUCKET).distinct(), on=BUCKET, how="left_semi")
    members = reduce(
        DataFrame.unionByName,
        [frame.select(BUCKET, PREVIOUSLY_KEPT, RANK_KEY) for frame in (remaining, first, previously_kept)],
    )
    for round_ in itertools.count():
        with_signature = members.join(signed, on=RANK_KEY, how="inner")
        with_signature = with_signature.select(BUCKET, PREVIOUSLY_KEPT, RANK_KEY, SIGNATURE)
        in_order = with_signature.repartition(BUCKET).sortWithinPartitions(BUCKET, F.desc(PREVIOUSLY_KEPT), RANK_KEY)
        compare = partial(_compare, thresholds=thresholds, round_=round_)
        compared = materialise(in_order.mapInArrow(compare, f"{LINKED}, {EQUAL} int"))
        pairs = compared.where(F.col(KEEPER).isNotNull()).withColumnRenamed(RANK_KEY, CANDIDATE)
        similar = similar.unionByName(pairs.select(KEEPER, KEEPER_PREVIOUSLY_KEPT, CANDIDATE, EQUAL))
        members = compared.where(F.col(KEEPER).isNull()).select(BUCKET, PREVIOUSLY_KEPT, RANK_KEY)
        if not members.take(1):
            break
    return similar.distinct()


def _with_equal(pairs: DataFrame, signed: DataFrame, thresholds: Thresholds) -> DataFrame:
    """Count the equal values of each pair.

    The join by candidate builds a hash table of pairs in memory: a candidate is in at most as many pairs as it has bands. The
    join by keeper has no such hint, because a keeper can be in millions of pairs; Spark sorts and spills there.
    """
    pairs = pairs.hint("shuffle_hash")
    for side, column in _SIDES.items():
        pairs = pairs.join(
            signed.select(F.col(RANK_KEY).alias(side), F.col(SIGNATURE).alias(column)), on=side, how="inner"
        )
    rows = pairs.select(KEEPER, KEEPER_PREVIOUSLY_KEPT, CANDIDATE, *_SIDES.values())
    return rows.mapInArrow(partial(_count_equal, thresholds=thresholds), _PAIRS)


def _count_equal(batches: Iterator[pa.RecordBatch], *, thresholds: Thresholds) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        signatures = [binary_rows(batch.column(name), thresholds.n_values) for name in _SIDES.values()]
        equal = equal_values(*signatures)
        yield batch.drop_columns(list(_SIDES.values())).append_column(EQUAL, pa.array(equal))


def _compare(batches: Iterator[pa.RecordBatch], *, thresholds: Thresholds, round_: int) -> Iterator[pa.RecordBatch]:
    """Rows with a keeper are pairs; rows without a keeper are documents of the next round, with their next bucket."""
    representatives: BucketRepresentatives | None = None
    for batch in batches:
        if not batch.num_rows:
            continue
        if representatives is None:
            representatives = BucketRepresentatives(
                n_values=thresholds.n_values,
                least_equal=thresholds.least,
                enough_equal=thresholds.enough,
                round_=round_,
            )
        compared = representatives.compare(
            Members(
                batch.column(BUCKET).to_numpy(),
                batch.column(PREVIOUSLY_KEPT).to_numpy(zero_copy_only=False),
                binary_rows(batch.column(RANK_KEY), RANK_KEY_BYTES),
                binary_rows(batch.column(SIGNATURE), thresholds.n_values),
            )
        )
        pairs = batch.select([BUCKET, PREVIOUSLY_KEPT, RANK_KEY]).take(pa.array(compared.candidate))
        remaining = batch.select([PREVIOUSLY_KEPT, RANK_KEY]).take(pa.array(compared.remaining))
        yield pa.RecordBatch.from_arrays(
            [
                pa.concat_arrays([pairs.column(0), pa.array(compared.next_buckets, pa.int64())]),
                pa.concat_arrays([pairs.column(1), remaining.column(0)]),
                pa.concat_arrays([pairs.column(2), remaining.column(1)]),
                pa.concat_arrays([binary_column(compared.keeper), pa.nulls(remaining.num_rows, pa.binary())]),
                pa.concat_arrays([pa.array(compared.keeper_previously_kept), pa.nulls(remaining.num_rows, pa.bool_())]),
                pa.concat_arrays([pa.array(compared.equal, pa.int32()), pa.nulls(remaining.num_rows, pa.int32())]),
            ],
            [BUCKET, PREVIOUSLY_KEPT, RANK_KEY, KEEPER, KEEPER_PREVIOUSLY_KEPT, EQUAL],
        )
