"""Candidate pairs: documents that share an LSH bucket and have similar signatures."""

from collections.abc import Iterator
from functools import partial, reduce
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from betr_spark.dedup.bucket_comparison import IN_BUCKETS, compare_in_buckets
from betr_spark.dedup.columns import (
    BUCKET,
    BUCKETS,
    CANDIDATE,
    EQUAL,
    KEEPER,
    KEEPER_PREVIOUSLY_KEPT,
    LINKED,
    PREVIOUSLY_KEPT,
)
from betr_spark.dedup.rank_keys import MAX_BROADCAST, RANK_KEY, with_key_in
from betr_spark.dedup.thresholds import Thresholds
from betr_spark.kernels.arrow_buffers import binary_rows
from betr_spark.kernels.minhash import equal_values
from betr_spark.schemas import SIGNATURE
from betr_spark.spark.small_frames import small_frame
from betr_spark.storage.scratch import Materialise, counted

_CANDIDATE_SIGNATURE, _KEEPER_SIGNATURE = "candidate_signature", "keeper_signature"
_SIGNATURES = (_CANDIDATE_SIGNATURE, _KEEPER_SIGNATURE)
_COMPARED = f"{LINKED}, {EQUAL} int, {_CANDIDATE_SIGNATURE} binary, {_KEEPER_SIGNATURE} binary"
_PAIRS = f"{KEEPER} binary, {KEEPER_PREVIOUSLY_KEPT} boolean, {CANDIDATE} binary, {EQUAL} int"
_LINKS, _TO_COMPARE, _LEFT = "links", "to_compare", "left"
_SIMILAR, _UNSURE, _DISSIMILAR = "similar", "unsure", "dissimilar"


class Candidates(NamedTuple):
    """Candidate pairs and their numbers.

    Attributes:
        pairs: keeper, keeper_previously_kept, candidate, equal; each pair once. The keeper is previously kept, or has the
            smaller rank key.
        n: pairs.
        n_unsure: pairs with fewer than `Thresholds.sure` equal values.
    """

    pairs: DataFrame
    n: int
    n_unsure: int


def candidate_pairs(
    links: DataFrame, signatures: DataFrame, thresholds: Thresholds, *, n_parts: int, materialise: Materialise
) -> Candidates:
    """Pair documents that share a bucket and have at least `thresholds.least` equal values.

    First, every document is compared with the first document of each of its buckets; each distinct pair is compared once. This
    decides most buckets. Documents that are not similar to the first document of their bucket are then compared with the
    bucket's representatives (`BucketRepresentatives`), in rounds; they take their signatures with them. A bucket of n documents
    costs n - 1 comparisons, and then at most 16 n comparisons in each round. No bucket is skipped, whatever its size. Two
    previously kept documents are not compared.

    Args:
        links: as `linking.linked_documents` gives them; computed once.
        signatures: rank_key, signature; of all linked documents at least.
        thresholds: limits for equal values.
        n_parts: number of parts of the signatures; a task holds the pairs of a part in memory.
        materialise: computes a frame and cuts its lineage.
    """
    links, n = counted(materialise, links, {_LINKS: F.count("*"), _TO_COMPARE: F.count_if(~F.col(PREVIOUSLY_KEPT))})
    if not n[_TO_COMPARE]:
        return Candidates(small_frame(links.sparkSession, [], _PAIRS), 0, 0)
    if 2 * n[_LINKS] <= MAX_BROADCAST:
        linked = links.select(F.explode(F.array(KEEPER, CANDIDATE)).alias(RANK_KEY))
        signatures = with_key_in(signatures, linked, n=2 * n[_LINKS])
    compared, n = counted(
        materialise, _first_comparison(links, signatures, thresholds, n_parts=n_parts), _counts(thresholds)
    )
    columns = [KEEPER, KEEPER_PREVIOUSLY_KEPT, CANDIDATE, EQUAL]
    similar = compared.where(F.col(EQUAL) >= thresholds.least).select(*columns)
    if not n[_DISSIMILAR]:
        return Candidates(similar, n[_SIMILAR], n[_UNSURE])
    members = _members(compared, thresholds)
    round_, n_left = 0, 1
    while n_left:
        in_order = members.repartition(BUCKET).sortWithinPartitions(BUCKET, F.desc(PREVIOUSLY_KEPT), RANK_KEY)
        compare = partial(compare_in_buckets, thresholds=thresholds, round_=round_)
        left = {_LEFT: F.count_if(F.col(KEEPER).isNull())}
        compared, n = counted(materialise, in_order.mapInArrow(compare, IN_BUCKETS), left)
        pairs = compared.where(F.col(KEEPER).isNotNull()).withColumnRenamed(RANK_KEY, CANDIDATE)
        similar = similar.unionByName(pairs.select(*columns))
        members = compared.where(F.col(KEEPER).isNull()).select(BUCKET, PREVIOUSLY_KEPT, RANK_KEY, SIGNATURE)
        round_, n_left = round_ + 1, n[_LEFT]
    similar, n = counted(materialise, similar.distinct(), _counts(thresholds))
    return Candidates(similar, n[_SIMILAR], n[_UNSURE])


def _counts(thresholds: Thresholds) -> dict[str, Column]:
    equal = F.col(EQUAL)
    return {
        _SIMILAR: F.count_if(equal >= thresholds.least),
        _UNSURE: F.count_if((equal >= thresholds.least) & (equal < thresholds.sure)),
        _DISSIMILAR: F.count_if(equal < thresholds.enough),
    }


def _first_comparison(links: DataFrame, signatures: DataFrame, thresholds: Thresholds, *, n_parts: int) -> DataFrame:
    """Count the equal values of each pair; pairs of previously kept documents have none.

    The signatures are shuffled once: both joins read the same exchange. Each join builds a hash table of a part, of at most one
    row for each band of a document, and streams the other side, so that a keeper may have millions of candidates.
    """
    default = int(links.sparkSession.conf.get("spark.sql.shuffle.partitions") or 1)
    n_parts = max(n_parts, default)  # with fewer parts than its default, Spark shuffles again
    parts = signatures.select(RANK_KEY, SIGNATURE).repartition(n_parts, RANK_KEY)
    of_candidates = parts.withColumnsRenamed({RANK_KEY: CANDIDATE, SIGNATURE: _CANDIDATE_SIGNATURE})
    of_keepers = parts.withColumnsRenamed({RANK_KEY: KEEPER, SIGNATURE: _KEEPER_SIGNATURE})
    by_candidate = links.repartition(n_parts, CANDIDATE)
    rows = of_candidates.join(by_candidate.hint("shuffle_hash"), on=CANDIDATE, how="inner").repartition(n_parts, KEEPER)
    distinct = (
        links.select(KEEPER).repartition(n_parts, KEEPER).distinct()
    )  # not a semi join, which Spark moves below `parts`
    keepers = of_keepers.join(distinct.hint("shuffle_hash"), on=KEEPER, how="inner")
    rows = rows.join(keepers.hint("shuffle_hash"), on=KEEPER, how="inner")
    names = [field.split()[0] for field in LINKED.split(", ")]
    rows = rows.select(*names, _CANDIDATE_SIGNATURE, _KEEPER_SIGNATURE)
    return rows.mapInArrow(partial(_count_equal, thresholds=thresholds), _COMPARED)


def _count_equal(batches: Iterator[pa.RecordBatch], *, thresholds: Thresholds) -> Iterator[pa.RecordBatch]:
    """Add `equal`; keep buckets and signatures only where the rounds need them."""
    for batch in batches:
        signatures = [binary_rows(batch.column(name), thresholds.n_values) for name in _SIGNATURES]
        equal = equal_values(*signatures)
        earlier = batch.column(PREVIOUSLY_KEPT).to_numpy(zero_copy_only=False)
        goes_on = earlier | (equal < thresholds.enough)
        of_keeper = ~earlier & goes_on & ~batch.column(KEEPER_PREVIOUSLY_KEPT).to_numpy(zero_copy_only=False)
        arrays = {name: batch.column(name) for name in batch.schema.names}
        arrays[BUCKETS] = _where(goes_on, arrays[BUCKETS])
        arrays[EQUAL] = pa.array(equal, mask=earlier)
        arrays[_CANDIDATE_SIGNATURE] = _where(goes_on, arrays[_CANDIDATE_SIGNATURE])
        arrays[_KEEPER_SIGNATURE] = _where(of_keeper, arrays[_KEEPER_SIGNATURE])
        names = [field.split()[0] for field in _COMPARED.split(", ")]
        yield pa.RecordBatch.from_arrays([arrays[name] for name in names], names)


def _where(condition: NDArray[np.bool_], values: pa.Array) -> pa.Array:
    """Replace values by null where the condition does not hold."""
    return values.take(pa.array(np.arange(len(values)), mask=~condition))


def _members(compared: DataFrame, thresholds: Thresholds) -> DataFrame:
    """Members of the buckets that the first comparison does not decide: bucket, previously_kept, rank_key, signature."""
    bucket = F.explode(BUCKETS).alias(BUCKET)
    columns: list[Column | str] = [
        bucket,
        PREVIOUSLY_KEPT,
        F.col(CANDIDATE).alias(RANK_KEY),
        F.col(_CANDIDATE_SIGNATURE).alias(SIGNATURE),
    ]
    dissimilar = compared.where(F.col(EQUAL) < thresholds.enough)
    remaining = dissimilar.select(*columns)
    new_keepers = dissimilar.where(~F.col(KEEPER_PREVIOUSLY_KEPT))
    first = new_keepers.select(
        bucket, PREVIOUSLY_KEPT, F.col(KEEPER).alias(RANK_KEY), F.col(_KEEPER_SIGNATURE).alias(SIGNATURE)
    ).distinct()
    earlier = compared.where(PREVIOUSLY_KEPT).select(*columns)
    earlier = earlier.join(remaining.select(BUCKET).distinct(), on=BUCKET, how="left_semi")
    return reduce(DataFrame.unionByName, [remaining, first, earlier])
