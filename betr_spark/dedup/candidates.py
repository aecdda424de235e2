"""LSH candidates: documents that share a bucket, compared with the bucket's leaders by their signatures."""

import itertools
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from scipy.special import bdtr, bdtrc

from betr_spark.dedup.buckets import PLACE_BYTES, Leaders, Members
from betr_spark.dedup.exact import PLACE
from betr_spark.features.buffers import binary_column, binary_rows
from betr_spark.features.minhash import equal_values
from betr_spark.schemas import BANDS, SIGNATURE

BETTER, WORSE, EQUAL = "better", "worse", "equal"
PUBLISHED, BETTER_PUBLISHED = "published", "better_published"
_BUCKET = "bucket"
_MEMBERS = f"{_BUCKET} bigint, {PUBLISHED} boolean, {PLACE} binary"
_LINKED = f"{_MEMBERS}, {BETTER} binary, {BETTER_PUBLISHED} boolean"
_PAIRS = f"{BETTER} binary, {BETTER_PUBLISHED} boolean, {WORSE} binary, {EQUAL} int"
_SIDES = {BETTER: "better_signature", WORSE: "worse_signature"}


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
    documents: DataFrame,
    signatures: DataFrame,
    thresholds: Thresholds,
    *,
    materialise: Callable[[DataFrame], DataFrame],
) -> DataFrame:
    """Pair documents that share a bucket and have at least `thresholds.least` equal values.

    First every document is compared with the first one of its buckets, each pair once: that settles most buckets, and takes a
    signature twice for each pair rather than once for each band. Where that leaves documents, the bucket is gone through by
    `Leaders`, in rounds. So a bucket of n documents costs n - 1 comparisons and then at most 16 n a round, whatever its
    size, and none is skipped. Pairs of two published documents are not looked for.

    Args:
        documents: place, published, bands; one row a document.
        signatures: place, signature; of these documents, and maybe of others.
        thresholds: of equal values.
        materialise: computes a frame and cuts its lineage.

    Returns:
        better, better_published, worse, equal; each pair once. `better` is published, or comes before in the ranking.
    """
    new, old = (documents.where(which).select(F.explode(BANDS).alias(_BUCKET), PUBLISHED, PLACE)
                for which in (f"not {PUBLISHED}", PUBLISHED))  # fmt: skip
    members = new.unionByName(old.join(new.select(_BUCKET).distinct(), on=_BUCKET, how="left_semi"))
    linked = materialise(_linked(members))
    if not linked.take(1):
        return members.sparkSession.createDataFrame([], _PAIRS)
    found = materialise(_with_equal(linked, signatures, thresholds))
    follows = found.where(F.col(EQUAL) >= thresholds.enough).select(BETTER, F.col(WORSE).alias(PLACE))
    left = linked.join(follows, on=[BETTER, PLACE], how="left_anti")
    open_ = left.where((F.col(BETTER) != F.col(PLACE)) & ~F.col(PUBLISHED)).select(_BUCKET).distinct()
    members = left.join(open_, on=_BUCKET, how="left_semi").select(_BUCKET, PUBLISHED, PLACE)
    for round_ in itertools.count():
        signed = members.join(signatures, on=PLACE, how="inner").select(_BUCKET, PUBLISHED, PLACE, SIGNATURE)
        compared = materialise(
            _by_bucket(signed).mapInArrow(
                partial(_compare, thresholds=thresholds, round_=round_), f"{_LINKED}, {EQUAL} int"
            )
        )
        found = found.unionByName(
            compared.where(F.col(BETTER).isNotNull()).select(BETTER, BETTER_PUBLISHED, F.col(PLACE).alias(WORSE), EQUAL)
        )
        members = compared.where(F.col(BETTER).isNull()).select(_BUCKET, PUBLISHED, PLACE)
        if not members.take(1):
            break
        members = _linked(members).select(_BUCKET, PUBLISHED, PLACE)
    return found.distinct()


def _by_bucket(members: DataFrame) -> DataFrame:
    return members.repartition(_BUCKET).sortWithinPartitions(_BUCKET, F.desc(PUBLISHED), PLACE)


def _linked(members: DataFrame) -> DataFrame:
    """Drop buckets of one document; add the first document of the bucket as `better` (to itself too)."""
    return _by_bucket(members).mapInArrow(_link, _LINKED)


def _link(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    held: pa.RecordBatch | None = None  # the only row so far of the last bucket
    first: pa.RecordBatch | None = None  # the first row of the last bucket, when it has more than one
    for batch in batches:
        rows = batch if held is None else pa.concat_batches([held, batch])
        if not rows.num_rows:
            continue
        buckets = rows.column(_BUCKET).to_numpy()
        goes_on = first is not None and first.column(_BUCKET)[0].as_py() == buckets[0]
        if first is not None and goes_on:
            rows, buckets = pa.concat_batches([first, rows]), np.concatenate([buckets[:1], buckets])
        starts = np.flatnonzero(np.concatenate([[True], buckets[1:] != buckets[:-1]]))
        sizes = np.diff(np.concatenate([starts, [len(buckets)]]))
        held = rows.slice(len(buckets) - 1) if sizes[-1] == 1 else None
        first = None if sizes[-1] == 1 else rows.slice(starts[-1], 1)
        passes = np.repeat(sizes > 1, sizes)
        passes[0] &= not goes_on  # it was given with its own batch
        leaders = rows.select([PLACE, PUBLISHED]).take(pa.array(np.repeat(starts, sizes)))
        linked = pa.RecordBatch.from_arrays(
            [*rows.columns, *leaders.columns], [*rows.schema.names, BETTER, BETTER_PUBLISHED]
        )
        yield linked.filter(pa.array(passes))


def _with_equal(linked: DataFrame, signatures: DataFrame, thresholds: Thresholds) -> DataFrame:
    """Compare each new document with the first ones of its buckets: pairs with at least `thresholds.least` equal values."""
    pairs = linked.where((F.col(BETTER) != F.col(PLACE)) & ~F.col(PUBLISHED))
    pairs = pairs.select(BETTER, BETTER_PUBLISHED, F.col(PLACE).alias(WORSE)).distinct()
    for side, column in _SIDES.items():
        pairs = pairs.join(
            signatures.select(F.col(PLACE).alias(side), F.col(SIGNATURE).alias(column)), on=side, how="inner"
        )
    rows = pairs.select(BETTER, BETTER_PUBLISHED, WORSE, *_SIDES.values())
    return rows.mapInArrow(partial(_count_equal, thresholds=thresholds), _PAIRS)


def _count_equal(batches: Iterator[pa.RecordBatch], *, thresholds: Thresholds) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        one, other = (_values(batch.column(name), thresholds.n_values) for name in _SIDES.values())
        equal = equal_values(one, other)
        rows = batch.drop_columns(list(_SIDES.values())).append_column(EQUAL, pa.array(equal))
        yield rows.filter(pa.array(equal >= thresholds.least))


def _values(signatures: pa.Array, n_values: int) -> NDArray[np.uint32]:
    return binary_rows(signatures, n_values * 4).view(np.uint32)


def _compare(batches: Iterator[pa.RecordBatch], *, thresholds: Thresholds, round_: int) -> Iterator[pa.RecordBatch]:
    leaders: Leaders | None = None
    for batch in batches:
        if not batch.num_rows:
            continue
        if leaders is None:
            leaders = Leaders(
                n_values=thresholds.n_values,
                least_equal=thresholds.least,
                enough_equal=thresholds.enough,
                round_=round_,
            )
        found = leaders.compare(
            Members(
                batch.column(_BUCKET).to_numpy(),
                batch.column(PUBLISHED).to_numpy(zero_copy_only=False),
                binary_rows(batch.column(PLACE), PLACE_BYTES),
                _values(batch.column(SIGNATURE), thresholds.n_values),
            )
        )
        pairs = batch.select([_BUCKET, PUBLISHED, PLACE]).take(pa.array(found.worse))
        left = batch.select([PUBLISHED, PLACE]).take(pa.array(found.left))
        yield pa.RecordBatch.from_arrays(
            [
                pa.concat_arrays([pairs.column(0), pa.array(found.left_buckets, pa.int64())]),
                pa.concat_arrays([pairs.column(1), left.column(0)]),
                pa.concat_arrays([pairs.column(2), left.column(1)]),
                pa.concat_arrays([binary_column(found.better), pa.nulls(left.num_rows, pa.binary())]),
                pa.concat_arrays([pa.array(found.better_published), pa.nulls(left.num_rows, pa.bool_())]),
                pa.concat_arrays([pa.array(found.equal, pa.int32()), pa.nulls(left.num_rows, pa.int32())]),
            ],
            [_BUCKET, PUBLISHED, PLACE, BETTER, BETTER_PUBLISHED, EQUAL],
        )
