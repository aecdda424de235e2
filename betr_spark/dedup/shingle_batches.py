"""Verification on Arrow batches: the shingles of texts, and the Jaccard similarity of pairs of documents."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from betr_spark.dedup.columns import CANDIDATE, KEEPER, KEEPER_PREVIOUSLY_KEPT
from betr_spark.dedup.rank_keys import RANK_KEY
from betr_spark.kernels.arrow_buffers import binary_column, binary_pieces, string_buffers
from betr_spark.kernels.murmur3 import content_hashes
from betr_spark.kernels.shingles import jaccard, shingle_sets
from betr_spark.kernels.utf8 import valid_utf8
from betr_spark.schemas import CONTENT_HASH, SHINGLES, SIMILARITY, TEXT

CHANGED, IS_CANDIDATE = "changed", "is_candidate"
SETS = f"{RANK_KEY} binary, {SHINGLES} binary, {CHANGED} boolean"
EDGES = f"{KEEPER} binary, {KEEPER_PREVIOUSLY_KEPT} boolean, {CANDIDATE} binary, {SIMILARITY} float"


def shingled(batches: Iterator[pa.RecordBatch], *, ngram: int, seed: int) -> Iterator[pa.RecordBatch]:
    """Replace texts by their shingles; texts that are not UTF-8 are left out.

    Args:
        batches: rank_key, content_hash, text.
        ngram: tokens in a shingle.
        seed: of the hash.

    Yields:
        Columns of SETS: hashes as in `kernels.shingles.shingle_sets`; and whether the text has another hash than content_hash.
    """
    for batch in batches:
        rows = batch.filter(pa.array(valid_utf8(*string_buffers(batch.column(TEXT)))))
        text = string_buffers(rows.column(TEXT))
        hashes, bounds = shingle_sets(*text, ngram=ngram, seed=seed)
        pieces = binary_pieces(hashes.view(np.uint8), bounds * 8)
        hash_now = binary_column(content_hashes(*text))
        same = pc.fill_null(pc.equal(rows.column(CONTENT_HASH), hash_now), fill_value=False)
        yield pa.RecordBatch.from_arrays(
            [rows.column(RANK_KEY), pieces, pc.invert(same)], [RANK_KEY, SHINGLES, CHANGED]
        )


def with_jaccard(batches: Iterator[pa.RecordBatch], *, least: float) -> Iterator[pa.RecordBatch]:
    """Compare rows that follow each other and are the keeper and the candidate of a pair.

    Args:
        batches: keeper, keeper_previously_kept, candidate, is_candidate, shingles; sorted by the first, third and fourth.
        least: pairs that are less similar are left out.

    Yields:
        Columns of EDGES.
    """
    last: pa.RecordBatch | None = None
    for batch in batches:
        if not len(batch):
            continue
        if last is not None and len(_keepers(last, batch.slice(0, 1))):
            yield _compared(last, batch.slice(0, 1), least)
        first = _keepers(batch.slice(0, len(batch) - 1), batch.slice(1))
        yield _compared(batch.take(pa.array(first)), batch.take(pa.array(first + 1)), least)
        last = batch.slice(len(batch) - 1)


def _keepers(rows: pa.RecordBatch, following: pa.RecordBatch) -> NDArray[np.int64]:
    """Positions of the rows that are the keeper of the pair whose candidate follows."""
    keeper, candidate = pc.equal(rows.column(KEEPER), following.column(KEEPER)), following.column(IS_CANDIDATE)
    same = pc.and_(keeper, pc.equal(rows.column(CANDIDATE), following.column(CANDIDATE)))
    is_keeper = pc.and_(same, pc.and_(candidate, pc.invert(rows.column(IS_CANDIDATE))))
    return np.flatnonzero(is_keeper.to_numpy(zero_copy_only=False))


def _compared(keepers: pa.RecordBatch, candidates: pa.RecordBatch, least: float) -> pa.RecordBatch:
    similarity = jaccard(*_hashes(keepers.column(SHINGLES)), *_hashes(candidates.column(SHINGLES)))
    pairs = keepers.select([KEEPER, KEEPER_PREVIOUSLY_KEPT, CANDIDATE])
    return pairs.append_column(SIMILARITY, pa.array(similarity, pa.float32())).filter(pa.array(similarity >= least))


def _hashes(sets: pa.Array) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    data, offsets = string_buffers(sets)
    start, end = int(offsets[0]), int(offsets[-1])
    return np.frombuffer(data[start:end].tobytes(), np.uint64), (offsets - start) // 8
