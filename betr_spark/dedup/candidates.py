"""LSH candidates: documents that share a bucket, compared with the bucket's representatives by their signatures."""

import itertools
import math
from collections.abc import Callable, Iterator
from functools import partial, reduce
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from scipy.special import bdtr, bdtrc

from betr_spark.dedup.bucket_representatives import BucketRepresentatives, Members
from betr_spark.dedup.buckets import RANK_KEY_BYTES
from betr_spark.dedup.exact import RANK_KEY
from betr_spark.kernels.arrow_buffers import binary_column, binary_rows
from betr_spark.kernels.minhash import equal_values
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
    """Numbers of equal values of two signatures of `n_values`.

    Below `least` a pair is not similar, from `sure` on it is; between them true similarity decides. From `enough` on the
    estimate alone says that it is.
    """

    n_values: int
    least: int
    enough: int
    sure: int

    @classmethod
    def of(cls, similarity: float, *, bands: int, rows: int) -> Self:
        """Choose them so that a pair of exactly `similarity` falls below `least` with P < 1e-3, from `sure` on with P < 1e-5.

        The second counts one band as given, since only pairs that share one are looked at.
        """
        n_values = bands * rows
        counts = np.arange(n_values + 1)
        least = int(np.max(counts[bdtr(counts - 1.0, n_values, similarity) < 1e-3], initial=0))
        sure = counts[bdtrc(counts - 1.0 - rows, n_values - rows, similarity) < 1e-5]
        enough = math.ceil(similarity * n_values)
        return cls(n_values, least, enough, int(np.min(sure, initial=n_values + 1)))


def candidate_pairs(
    linked: DataFrame,
    signatures: Callable[[DataFrame], DataFrame],
    thresholds: Thresholds,
    *,
    materialise: Callable[[DataFrame], DataFrame],
) -> DataFrame:
    """Pair documents that share a bucket and have at least `thresholds.least` equal values.

    First every document is compared with the first one of its buckets, each pair once: that settles most buckets, and takes a
    signature twice for each pair rather than once for each band. Where that leaves documents, the bucket is gone through by
    `BucketRepresentatives`, in rounds. So a bucket of n documents costs n - 1 comparisons and then at most 16 n a
    round, whatever its
    size, and none is skipped. Pairs of two previously kept documents are not looked for.

    Args:
        linked: as `linking.linked_documents` gives it; read several times.
        signatures: gives rank_key, signature for a frame of rank_keys.
        thresholds: of equal values.
        materialise: computes a frame and cuts its lineage.

    Returns:
        keeper, keeper_previously_kept, candidate, equal; each pair once. `keeper` is previously kept, or comes
        before in the ranking.
    """
    rows = linked.where((F.col(KEEPER) != F.col(RANK_KEY)) & ~F.col(PREVIOUSLY_KEPT))
    pairs = materialise(rows.select(KEEPER, KEEPER_PREVIOUSLY_KEPT, F.col(RANK_KEY).alias(CANDIDATE)).distinct())
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
    found = compared.where(F.col(EQUAL) >= thresholds.least)
    strays = compared.where(F.col(EQUAL) < thresholds.enough).select(KEEPER, F.col(CANDIDATE).alias(RANK_KEY))
    left = materialise(rows.join(strays.hint("shuffle_hash"), on=[KEEPER, RANK_KEY], how="left_semi"))
    first = (
        left.where(~F.col(KEEPER_PREVIOUSLY_KEPT))
        .select(BUCKET, PREVIOUSLY_KEPT, F.col(KEEPER).alias(RANK_KEY))
        .distinct()
    )
    previously_kept = previously_kept.join(left.select(BUCKET).distinct(), on=BUCKET, how="left_semi")
    members = reduce(
        DataFrame.unionByName,
        [frame.select(BUCKET, PREVIOUSLY_KEPT, RANK_KEY) for frame in (left, first, previously_kept)],
    )
    for round_ in itertools.count():
        rows = members.join(signed, on=RANK_KEY, how="inner").select(BUCKET, PREVIOUSLY_KEPT, RANK_KEY, SIGNATURE)
        rows = rows.repartition(BUCKET).sortWithinPartitions(BUCKET, F.desc(PREVIOUSLY_KEPT), RANK_KEY)
        compare = partial(_compare, thresholds=thresholds, round_=round_)
        compared = materialise(rows.mapInArrow(compare, f"{LINKED}, {EQUAL} int"))
        more = compared.where(F.col(KEEPER).isNotNull())
        found = found.unionByName(more.select(KEEPER, KEEPER_PREVIOUSLY_KEPT, F.col(RANK_KEY).alias(CANDIDATE), EQUAL))
        members = compared.where(F.col(KEEPER).isNull()).select(BUCKET, PREVIOUSLY_KEPT, RANK_KEY)
        if not members.take(1):
            break
    return found.distinct()


def _with_equal(pairs: DataFrame, signed: DataFrame, thresholds: Thresholds) -> DataFrame:
    """Count equal values of each pair.

    The first join builds a hash table of the pairs by candidate, which is in as many pairs as it has bands. A keeper can be in
    millions of them, so that join must be able to spill.
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
        one, other = (_values(batch.column(name), thresholds.n_values) for name in _SIDES.values())
        equal = equal_values(one, other)
        yield batch.drop_columns(list(_SIDES.values())).append_column(EQUAL, pa.array(equal))


def _values(signatures: pa.Array, n_values: int) -> NDArray[np.uint32]:
    return binary_rows(signatures, n_values * 4).view(np.uint32)


def _compare(batches: Iterator[pa.RecordBatch], *, thresholds: Thresholds, round_: int) -> Iterator[pa.RecordBatch]:
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
        found = representatives.compare(
            Members(
                batch.column(BUCKET).to_numpy(),
                batch.column(PREVIOUSLY_KEPT).to_numpy(zero_copy_only=False),
                binary_rows(batch.column(RANK_KEY), RANK_KEY_BYTES),
                _values(batch.column(SIGNATURE), thresholds.n_values),
            )
        )
        pairs = batch.select([BUCKET, PREVIOUSLY_KEPT, RANK_KEY]).take(pa.array(found.candidate))
        left = batch.select([PREVIOUSLY_KEPT, RANK_KEY]).take(pa.array(found.left))
        yield pa.RecordBatch.from_arrays(
            [
                pa.concat_arrays([pairs.column(0), pa.array(found.left_buckets, pa.int64())]),
                pa.concat_arrays([pairs.column(1), left.column(0)]),
                pa.concat_arrays([pairs.column(2), left.column(1)]),
                pa.concat_arrays([binary_column(found.keeper), pa.nulls(left.num_rows, pa.binary())]),
                pa.concat_arrays([pa.array(found.keeper_previously_kept), pa.nulls(left.num_rows, pa.bool_())]),
                pa.concat_arrays([pa.array(found.equal, pa.int32()), pa.nulls(left.num_rows, pa.int32())]),
            ],
            [BUCKET, PREVIOUSLY_KEPT, RANK_KEY, KEEPER, KEEPER_PREVIOUSLY_KEPT, EQUAL],
        )
