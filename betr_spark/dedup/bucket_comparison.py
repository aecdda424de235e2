"""Comparison within buckets on Arrow batches of documents with their signatures."""

from collections.abc import Iterator, Sequence

import pyarrow as pa

from betr_spark.dedup.bucket_representatives import Compared, Members
from betr_spark.dedup.bucket_rounds import REMAINING_BYTES, BucketRounds
from betr_spark.dedup.buckets import RANK_KEY_BYTES
from betr_spark.dedup.columns import BUCKET, EQUAL, KEEPER, KEEPER_PREVIOUSLY_KEPT, PREVIOUSLY_KEPT
from betr_spark.dedup.rank_keys import RANK_KEY
from betr_spark.dedup.thresholds import Thresholds
from betr_spark.kernels.arrow_buffers import binary_column, binary_rows
from betr_spark.schemas import SIGNATURE

_TYPES = {
    BUCKET: pa.int64(), PREVIOUSLY_KEPT: pa.bool_(), RANK_KEY: pa.binary(), SIGNATURE: pa.binary(), KEEPER: pa.binary(),
    KEEPER_PREVIOUSLY_KEPT: pa.bool_(), EQUAL: pa.int32(),
}  # fmt: skip
IN_BUCKETS = (
    f"{BUCKET} bigint, {PREVIOUSLY_KEPT} boolean, {RANK_KEY} binary, {SIGNATURE} binary, {KEEPER} binary, "
    f"{KEEPER_PREVIOUSLY_KEPT} boolean, {EQUAL} int"
)


def compare_in_buckets(
    batches: Iterator[pa.RecordBatch], *, thresholds: Thresholds, round_: int, memory_bytes: int = REMAINING_BYTES
) -> Iterator[pa.RecordBatch]:
    """Compare the documents of buckets, in this round and in all later ones for which a task has the memory.

    Args:
        batches: bucket, previously_kept, rank_key, signature; sorted by bucket, previously kept documents first, rank key.
        thresholds: limits for equal values.
        round_: number of this round, from 0.
        memory_bytes: as in `BucketRounds`.

    Yields:
        Columns of IN_BUCKETS. Rows with a keeper are pairs: rank_key is the candidate. Rows without a keeper are documents of
        round `round_` + 1, with their next bucket.
    """
    rounds: BucketRounds | None = None
    for batch in batches:
        if not batch.num_rows:
            continue
        if rounds is None:
            rounds = BucketRounds(
                n_values=thresholds.n_values, least_equal=thresholds.least, enough_equal=thresholds.enough,
                round_=round_, memory_bytes=memory_bytes,
            )  # fmt: skip
        members = Members(
            batch.column(BUCKET).to_numpy(),
            batch.column(PREVIOUSLY_KEPT).to_numpy(zero_copy_only=False),
            binary_rows(batch.column(RANK_KEY), RANK_KEY_BYTES),
            binary_rows(batch.column(SIGNATURE), thresholds.n_values),
        )
        yield _pairs(members, rounds.compare(members))
        yield from map(_left, rounds.left)
    if rounds is not None:
        for members, compared in rounds.later_rounds():
            yield _pairs(members, compared)


def _pairs(members: Members, compared: Compared) -> pa.RecordBatch:
    candidates, n = compared.candidate, len(compared.candidate)
    return _batch(
        [
            pa.array(members.buckets[candidates]),
            pa.array(members.previously_kept[candidates]),
            binary_column(members.rank_keys[candidates]),
            pa.nulls(n, pa.binary()),
            binary_column(compared.keeper),
            pa.array(compared.keeper_previously_kept),
            pa.array(compared.equal),
        ]
    )


def _left(members: Members) -> pa.RecordBatch:
    columns = [
        pa.array(members.buckets),
        pa.array(members.previously_kept),
        binary_column(members.rank_keys),
        binary_column(members.signatures),
    ]
    return _batch([*columns, *(pa.nulls(len(members.buckets), kind) for kind in list(_TYPES.values())[4:])])


def _batch(columns: Sequence[pa.Array]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(columns, schema=pa.schema(_TYPES))
