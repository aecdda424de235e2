"""Bring documents that share an LSH bucket together, each with the first document of the bucket."""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple, Self

import pyarrow as pa
from pyspark import Accumulator, AccumulatorParam
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from betr_spark.dedup.bucket_linker import BucketLinker
from betr_spark.dedup.buckets import MEMBER, RANK_KEY_BYTES, packed
from betr_spark.dedup.candidates import BUCKET, KEEPER, KEEPER_PREVIOUSLY_KEPT, LINKED, PREVIOUSLY_KEPT
from betr_spark.dedup.exact import NEW, RANK_KEY, add_rank_key, with_hashes
from betr_spark.kernels.arrow_buffers import binary_column, binary_pieces, binary_rows, string_buffers
from betr_spark.schemas import BANDS
from betr_spark.storage.scratch import spill_file

_PART, _MEMBERS = "part", "members"


class _Maximum(AccumulatorParam[int]):
    """The largest of the added values."""

    def zero(self, value: int) -> int:
        return value

    def addInPlace(self, value1: int, value2: int) -> int:  # noqa: N802 - Spark's name
        return max(value1, value2)


class LinkCounters(NamedTuple):
    """Accumulators that the tasks of `linked_documents` add to; complete when its rows were computed.

    Attributes:
        largest_bucket: documents in the largest shared bucket.
        spilled_bytes: bytes that tasks wrote to local files; a repeated task counts again.
    """

    largest_bucket: "Accumulator[int]"
    spilled_bytes: "Accumulator[int]"

    @classmethod
    def of(cls, spark: SparkSession) -> Self:
        """Create both with the value 0."""
        return cls(spark.sparkContext.accumulator(0, _Maximum()), spark.sparkContext.accumulator(0))


def linked_documents(documents: DataFrame, *, n_parts: int, counters: LinkCounters) -> DataFrame:
    """Link every document to the first document of each of its buckets.

    The memory of a task does not grow with the size of a bucket; see `BucketLinker` for the bound.

    Args:
        documents: doc_id, survivor_score, new, bands; one row for each distinct content, without those that an earlier run
            removed.
        n_parts: number of parts that share the buckets; one task links a part.
        counters: to add to.

    Returns:
        bucket, previously_kept, rank_key, keeper, keeper_previously_kept, for all buckets with at least two documents of
        which at least one is new. The keeper is the first document of the bucket; its own row has it as its keeper, too.
    """
    parts = with_hashes(documents).mapInArrow(partial(_pack, n_parts=n_parts), f"{_PART} int, {_MEMBERS} binary")
    link = partial(_link, counters=counters)
    return parts.repartitionById(n_parts, F.col(_PART)).select(_MEMBERS).mapInArrow(link, LINKED)


def _pack(batches: Iterator[pa.RecordBatch], *, n_parts: int) -> Iterator[pa.RecordBatch]:
    for batch in add_rank_key(batches):
        bands = batch.column(BANDS)
        parts = packed(
            bands.flatten().to_numpy(),
            bands.value_lengths().to_numpy().astype("int64"),
            binary_rows(batch.column(RANK_KEY), RANK_KEY_BYTES),
            batch.column(NEW).to_numpy(zero_copy_only=False),
            n_parts=n_parts,
        )
        pieces = binary_pieces(parts.members.view("uint8"), parts.bounds * MEMBER.itemsize)
        yield pa.RecordBatch.from_arrays([pa.array(parts.parts), pieces], [_PART, _MEMBERS])


def _link(batches: Iterator[pa.RecordBatch], *, counters: LinkCounters) -> Iterator[pa.RecordBatch]:
    with spill_file() as spill:
        linker = BucketLinker(spill)
        for batch in batches:
            data, offsets = string_buffers(batch.column(_MEMBERS))
            linker.add(data[offsets[0] : offsets[-1]].view(MEMBER))
        for linked in linker.linked():
            arrays = [
                pa.array(linked.buckets),
                pa.array(linked.previously_kept),
                binary_column(linked.rank_keys),
                binary_column(linked.first),
                pa.array(linked.first_previously_kept),
            ]
            yield pa.RecordBatch.from_arrays(
                arrays, [BUCKET, PREVIOUSLY_KEPT, RANK_KEY, KEEPER, KEEPER_PREVIOUSLY_KEPT]
            )
    counters.largest_bucket.add(linker.largest_bucket)
    counters.spilled_bytes.add(linker.spilled_bytes)
