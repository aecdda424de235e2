"""LSH candidates: documents that share a bucket, compared with the bucket's leaders by their signatures."""

import itertools
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from scipy.special import bdtr, bdtrc

from betr_spark.dedup.buckets import PLACE_BYTES, Leaders, Members
from betr_spark.dedup.exact import PLACE
from betr_spark.features.buffers import binary_column, binary_rows
from betr_spark.schemas import BANDS, SIGNATURE

BETTER, WORSE, EQUAL = "better", "worse", "equal"
PUBLISHED, BETTER_PUBLISHED = "published", "better_published"
_BUCKET = "bucket"
_MEMBERS = f"{_BUCKET} bigint, {PUBLISHED} boolean, {PLACE} binary"
_COMPARED = f"{_MEMBERS}, {BETTER} binary, {BETTER_PUBLISHED} boolean, {EQUAL} int"


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

    A bucket of n documents costs at most 16 n comparisons a round, whatever its size, and none is skipped; see `Leaders`.
    Pairs of two published documents are not looked for.

    Args:
        documents: place, published, bands; one row a document.
        signatures: place, signature; of these documents, and maybe of others.
        thresholds: of equal values.
        materialise: computes a frame and cuts its lineage.

    Returns:
        better, better_published, worse, equal; each pair once. `better` is published, or comes before in the ranking.
    """
    old, new = documents.where(PUBLISHED), documents.where(f"not {PUBLISHED}")
    exploded = [rows.select(F.explode(BANDS).alias(_BUCKET), PUBLISHED, PLACE) for rows in (new, old)]
    buckets = exploded[0].select(_BUCKET).distinct()
    members = exploded[0].unionByName(exploded[1].join(buckets, on=_BUCKET, how="left_semi"))
    found: DataFrame | None = None
    for round_ in itertools.count():
        shared = (
            members.repartition(_BUCKET)
            .sortWithinPartitions(_BUCKET, PUBLISHED)
            .mapInArrow(_shared, _MEMBERS)
            .join(signatures, on=PLACE, how="inner")
        )
        compared = materialise(
            shared.select(_BUCKET, PUBLISHED, PLACE, SIGNATURE)
            .repartition(_BUCKET)
            .sortWithinPartitions(_BUCKET, F.desc(PUBLISHED), PLACE)
            .mapInArrow(partial(_compare, thresholds=thresholds, round_=round_), _COMPARED)
        )
        found = compared if found is None else found.unionByName(compared)
        members = compared.where(F.col(BETTER).isNull()).select(_BUCKET, PUBLISHED, PLACE)
        if not members.take(1):
            break
    assert found is not None
    pairs = found.where(F.col(BETTER).isNotNull())
    return pairs.select(BETTER, BETTER_PUBLISHED, F.col(PLACE).alias(WORSE), EQUAL).distinct()


def _shared(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Drop buckets of one document and those of published documents alone; rows come sorted by bucket, new ones first."""
    held: pa.RecordBatch | None = None  # the only row so far of the last bucket
    ended: tuple[int, bool] | None = None  # the last bucket, and whether its rows pass
    for batch in batches:
        rows = batch if held is None else pa.concat_batches([held, batch])
        if not rows.num_rows:
            continue
        buckets, published = (rows.column(name).to_numpy(zero_copy_only=False) for name in (_BUCKET, PUBLISHED))
        starts = np.flatnonzero(np.concatenate([[True], buckets[1:] != buckets[:-1]]))
        sizes = np.diff(np.concatenate([starts, [len(buckets)]]))
        passes = (sizes > 1) & ~published[starts]
        goes_on = held is None and ended is not None and ended[0] == buckets[0]
        if ended is not None and goes_on:
            passes[0] = ended[1]
        alone = sizes[-1] == 1 and not published[-1] and not (goes_on and len(starts) == 1)
        held = rows.slice(len(buckets) - 1) if alone else None
        ended = int(buckets[-1]), bool(passes[-1])
        yield rows.filter(pa.array(np.repeat(passes, sizes)))


def _compare(batches: Iterator[pa.RecordBatch], *, thresholds: Thresholds, round_: int) -> Iterator[pa.RecordBatch]:
    leaders: Leaders | None = None
    for batch in batches:
        if not batch.num_rows:
            continue
        signatures = binary_rows(batch.column(SIGNATURE), thresholds.n_values * 4).view(np.uint32)
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
                signatures,
            )
        )
        pairs = batch.select([_BUCKET, PUBLISHED, PLACE]).take(pa.array(found.worse))
        left = batch.select([PUBLISHED, PLACE]).take(pa.array(found.left))
        nothing = pa.nulls
        yield pa.RecordBatch.from_arrays(
            [
                pa.concat_arrays([pairs.column(0), pa.array(found.left_buckets, pa.int64())]),
                pa.concat_arrays([pairs.column(1), left.column(0)]),
                pa.concat_arrays([pairs.column(2), left.column(1)]),
                pa.concat_arrays([binary_column(found.better), nothing(left.num_rows, pa.binary())]),
                pa.concat_arrays([pa.array(found.better_published), nothing(left.num_rows, pa.bool_())]),
                pa.concat_arrays([pa.array(found.equal, pa.int32()), nothing(left.num_rows, pa.int32())]),
            ],
            [_BUCKET, PUBLISHED, PLACE, BETTER, BETTER_PUBLISHED, EQUAL],
        )
