"""Bring documents that share an LSH bucket together, each with the first document of the bucket."""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa
from pyspark import Accumulator, AccumulatorParam
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from betr_spark.dedup.bucket_linker import BucketLinker
from betr_spark.dedup.buckets import MEMBER, RANK_KEY_BYTES, packed
from betr_spark.dedup.columns import BUCKETS, CANDIDATE, KEEPER, KEEPER_PREVIOUSLY_KEPT, LINKED, PREVIOUSLY_KEPT
from betr_spark.dedup.exact import NEW
from betr_spark.dedup.links import LINK, Pairs, distinct_pairs, packed_links
from betr_spark.dedup.rank_keys import RANK_KEY
from betr_spark.kernels.arrow_buffers import binary_column, binary_pieces, binary_rows, string_buffers
from betr_spark.kernels.minhash import band_keys
from betr_spark.schemas import SIGNATURE
from betr_spark.storage.scratch import spill_file

_PART, _MEMBERS, _LINKS = "part", "members", "links"
_PAIRS_IN_BATCH = 2**14


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


def linked_documents(documents: DataFrame, *, bands: int, n_parts: int, counters: LinkCounters) -> DataFrame:
    """Link every document to the first document of each of its buckets.

    Two shuffles: by bucket, and by document, so that a pair that shares several buckets is one row. The memory of a task does
    not grow with the size of a bucket: see `BucketLinker` for the bound, and a document has at most one link a band.

    Args:
        documents: rank_key, new, signature; one row for each distinct content, without those that an earlier run removed. A
            document without a signature has no bucket.
        bands: of a signature; each is a bucket.
        n_parts: number of parts that share the buckets; one task links a part. The links are in twice as many parts.
        counters: to add to.

    Returns:
        keeper, keeper_previously_kept, candidate, previously_kept (of the candidate), buckets (those of the candidate whose
        first document is the keeper), for all buckets with at least two documents of which at least one is new. Each new
        document is there with every other document that is the first of one of its buckets, and each previously kept document
        with every first document, also if that is itself.
    """
    members = documents.where(F.col(SIGNATURE).isNotNull()).select(RANK_KEY, NEW, SIGNATURE)
    parts = members.mapInArrow(partial(_pack, bands=bands, n_parts=n_parts), f"{_PART} int, {_MEMBERS} binary")
    link = partial(_link, n_parts=2 * n_parts, counters=counters)
    links = parts.repartitionById(n_parts, F.col(_PART)).select(_MEMBERS)
    links = links.mapInArrow(link, f"{_PART} int, {_LINKS} binary")
    return links.repartitionById(2 * n_parts, F.col(_PART)).select(_LINKS).mapInArrow(_pairs, LINKED)


def _pack(batches: Iterator[pa.RecordBatch], *, bands: int, n_parts: int) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        if not len(batch):
            continue
        data, offsets = string_buffers(batch.column(SIGNATURE))
        keys = band_keys(data[offsets[0] : offsets[-1]].reshape(len(batch), -1), bands)
        parts = packed(
            keys.reshape(-1),
            np.full(len(keys), bands, np.int64),
            binary_rows(batch.column(RANK_KEY), RANK_KEY_BYTES),
            batch.column(NEW).to_numpy(zero_copy_only=False),
            n_parts=n_parts,
        )
        pieces = binary_pieces(parts.members.view("uint8"), parts.bounds * MEMBER.itemsize)
        yield pa.RecordBatch.from_arrays([pa.array(parts.parts), pieces], [_PART, _MEMBERS])


def _link(batches: Iterator[pa.RecordBatch], *, n_parts: int, counters: LinkCounters) -> Iterator[pa.RecordBatch]:
    with spill_file() as spill:
        linker = BucketLinker(spill)
        for batch in batches:
            data, offsets = string_buffers(batch.column(_MEMBERS))
            linker.add(data[offsets[0] : offsets[-1]].view(MEMBER))
        for linked in linker.linked():
            parts = packed_links(linked, n_parts=n_parts)
            pieces = binary_pieces(parts.links.view("uint8"), parts.bounds * LINK.itemsize)
            yield pa.RecordBatch.from_arrays([pa.array(parts.parts), pieces], [_PART, _LINKS])
    counters.largest_bucket.add(linker.largest_bucket)
    counters.spilled_bytes.add(linker.spilled_bytes)


def _pairs(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    pieces = []
    for batch in batches:
        data, offsets = string_buffers(batch.column(_LINKS))
        pieces.append(data[offsets[0] : offsets[-1]].copy())  # the batch, which Arrow shares, is freed
    if not pieces:
        return
    links = np.concatenate(pieces).view(LINK)
    pieces.clear()
    pairs = distinct_pairs(links)
    del links
    for start in range(0, len(pairs.candidate), _PAIRS_IN_BATCH):
        yield _as_batch(pairs, slice(start, start + _PAIRS_IN_BATCH))


def _as_batch(pairs: Pairs, rows: slice) -> pa.RecordBatch:
    bounds = pairs.bounds[rows.start : rows.stop + 1]
    buckets = pa.array(pairs.buckets[bounds[0] : bounds[-1]])
    arrays = [
        binary_column(pairs.keeper[rows]),
        pa.array(pairs.keeper_previously_kept[rows]),
        binary_column(pairs.candidate[rows]),
        pa.array(pairs.previously_kept[rows]),
        pa.ListArray.from_arrays(pa.array((bounds - bounds[0]).astype("int32")), buckets),
    ]
    return pa.RecordBatch.from_arrays(arrays, [KEEPER, KEEPER_PREVIOUSLY_KEPT, CANDIDATE, PREVIOUSLY_KEPT, BUCKETS])
