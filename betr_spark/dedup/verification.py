"""Verification of candidate pairs: by signature where it decides, by the true Jaccard similarity of the shingles elsewhere."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import DataFrame, Observation
from pyspark.sql import functions as F

from betr_spark.config import MinHashConfig
from betr_spark.corpus.listing import files_of
from betr_spark.dedup.columns import CANDIDATE, EQUAL, KEEPER, KEEPER_PREVIOUSLY_KEPT
from betr_spark.dedup.rank_keys import MAX_BROADCAST, RANK_KEY
from betr_spark.dedup.thresholds import Thresholds
from betr_spark.errors import DataError
from betr_spark.kernels.arrow_buffers import binary_column, binary_pieces, string_buffers
from betr_spark.kernels.minhash import similarity_at
from betr_spark.kernels.murmur3 import content_hashes
from betr_spark.kernels.shingles import jaccard, shingle_sets
from betr_spark.kernels.utf8 import valid_utf8
from betr_spark.pipeline.stage import RunContext
from betr_spark.schemas import CONTENT_HASH, DOC_ID, EVIDENCE, REASON, SHINGLES, SIMILARITY, SKETCH, TEXT

_MAX_BROADCAST_HASHES = 4_000_000  # documents, of about 64 bytes in memory
_CHANGED, _READ = "changed", "read"
_IS_CANDIDATE, _HASH = "is_candidate", "hash"
_PAIR = [KEEPER, CANDIDATE]
_EDGE = f"{KEEPER} binary, {KEEPER_PREVIOUSLY_KEPT} boolean, {CANDIDATE} binary"


def similar_by_signature(pairs: DataFrame, thresholds: Thresholds) -> DataFrame:
    """Keep pairs with at least `thresholds.sure` equal values; replace `equal` by the estimated `similarity` and `evidence`."""
    similarity = similarity_at(F.col(EQUAL) / F.lit(thresholds.n_values)).cast("float").alias(SIMILARITY)
    sure = pairs.where(F.col(EQUAL) >= thresholds.sure)
    return sure.select(KEEPER, KEEPER_PREVIOUSLY_KEPT, CANDIDATE, similarity, F.lit(SKETCH).alias(EVIDENCE))


def similar_by_shingles(
    unsure: DataFrame, sets: DataFrame, *, similarity: float, n_pairs: int | None = None
) -> DataFrame:
    """Keep pairs whose true Jaccard similarity is at least `similarity`; add `similarity` and `evidence`.

    One shuffle brings the two sets of each pair together. `sets` is read once.

    Args:
        unsure: keeper, keeper_previously_kept, candidate; each pair once.
        sets: rank_key, shingles; of every document in `unsure` one row.
        similarity: the threshold.
        n_pairs: rows of `unsure`, if the number is known; few need no second shuffle.
    """
    sides = [F.struct(F.col(side).alias(RANK_KEY), F.lit(side == CANDIDATE).alias(_IS_CANDIDATE)) for side in _PAIR]
    ends = unsure.select(*_PAIR, KEEPER_PREVIOUSLY_KEPT, F.inline(F.array(*sides)))
    ends = F.broadcast(ends) if n_pairs is not None and 2 * n_pairs <= MAX_BROADCAST else ends
    rows = sets.select(RANK_KEY, SHINGLES).join(ends, on=RANK_KEY, how="inner").drop(RANK_KEY)
    rows = rows.repartition(*_PAIR).sortWithinPartitions(*_PAIR, _IS_CANDIDATE)
    compared = rows.mapInArrow(partial(_with_jaccard, least=similarity), f"{_EDGE}, {SIMILARITY} float")
    return compared.withColumn(EVIDENCE, F.lit(SHINGLES))


def texts_of(
    documents: DataFrame, context: RunContext, *columns: str, n_documents: int | None = None, leave_utf8: bool = False
) -> DataFrame:
    """Read the texts of some documents: doc_id, text, `columns`. Only their input files are read (Delta: the whole table).

    Args:
        documents: doc_id, input_file, `columns`; few, compared with the corpus.
        context: for the input.
        *columns: of `documents`, kept.
        n_documents: rows of `documents`, if the number is known.
        leave_utf8: a row that is not UTF-8, and has the id of a document, is there too: Spark does not look at all bytes.
    """
    files = files_of(documents, context.config.input)
    scored = context.scored_input().documents(only_files=files, leave_utf8=leave_utf8)
    texts = scored.where(F.col(REASON).isNull()).select(DOC_ID, TEXT)
    keys = documents.select(DOC_ID, *columns)
    n = n_documents if n_documents is not None else keys.limit(_MAX_BROADCAST_HASHES + 1).count()
    if n <= MAX_BROADCAST:
        return texts.join(F.broadcast(keys), on=DOC_ID, how="inner")
    if n <= _MAX_BROADCAST_HASHES:  # or the texts of the whole corpus would be shuffled
        hashes = F.broadcast(keys.select(F.xxhash64(DOC_ID).alias(_HASH)))
        texts = texts.withColumn(_HASH, F.xxhash64(DOC_ID)).join(hashes, on=_HASH, how="left_semi").drop(_HASH)
    return texts.join(keys, on=DOC_ID, how="inner")


def shingles_of(
    documents: DataFrame, context: RunContext, *, n_documents: int | None = None
) -> tuple[DataFrame, Callable[[], None]]:
    """Return the shingles of some documents: rank_key, shingles (uint64 hashes, ascending and distinct, as binary).

    Args:
        documents: doc_id, rank_key, input_file, content_hash; few, compared with the corpus.
        context: for the input and minhash.
        n_documents: rows of `documents`, if the number is known.

    Returns:
        The rows, which are computed when they are read; and a function to call when they have been read once: it raises
        DataError that names a document if the input does not have the text that was scored any more.
    """
    config, read = context.config, Observation()
    n_expected = documents.count() if n_documents is None else n_documents
    texts = texts_of(documents, context, RANK_KEY, CONTENT_HASH, n_documents=n_expected, leave_utf8=True)
    schema = f"{RANK_KEY} binary, {SHINGLES} binary, {_CHANGED} boolean"
    texts = texts.select(RANK_KEY, CONTENT_HASH, TEXT)
    sets = texts.mapInArrow(partial(_shingled, minhash=config.minhash), schema)
    if config.input.id is None:  # every copy of a text has the same id and the same shingles
        sets = sets.dropDuplicates([RANK_KEY])

    def check() -> None:
        n = read.get
        if not n[_CHANGED] and n[_READ] == n_expected:
            return
        unchanged = sets.where(~F.col(_CHANGED))
        for row in documents.join(unchanged, on=RANK_KEY, how="left_anti").select(DOC_ID).limit(1).collect():
            raise DataError(
                f"input.path: {config.input.path}: the text of document '{row[DOC_ID]}' changed since it was scored, "
                "or is gone; run `betr-spark features`"
            )

    counts = [F.count("*").alias(_READ), F.count_if(_CHANGED).alias(_CHANGED)]
    return sets.observe(read, *counts).drop(_CHANGED), check


def _shingled(batches: Iterator[pa.RecordBatch], *, minhash: MinHashConfig) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        rows = batch.filter(pa.array(valid_utf8(*string_buffers(batch.column(TEXT)))))
        text = string_buffers(rows.column(TEXT))
        hashes, bounds = shingle_sets(*text, ngram=minhash.ngram, seed=minhash.seed)
        pieces = binary_pieces(hashes.view(np.uint8), bounds * 8)
        hash_now = binary_column(content_hashes(*text))
        same = pc.fill_null(pc.equal(rows.column(CONTENT_HASH), hash_now), fill_value=False)
        yield pa.RecordBatch.from_arrays(
            [rows.column(RANK_KEY), pieces, pc.invert(same)], [RANK_KEY, SHINGLES, _CHANGED]
        )


def _with_jaccard(batches: Iterator[pa.RecordBatch], *, least: float) -> Iterator[pa.RecordBatch]:
    """Compare rows that follow each other and are the keeper and the candidate of a pair."""
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
    keeper, candidate = pc.equal(rows.column(KEEPER), following.column(KEEPER)), following.column(_IS_CANDIDATE)
    same = pc.and_(keeper, pc.equal(rows.column(CANDIDATE), following.column(CANDIDATE)))
    is_keeper = pc.and_(same, pc.and_(candidate, pc.invert(rows.column(_IS_CANDIDATE))))
    return np.flatnonzero(is_keeper.to_numpy(zero_copy_only=False))


def _compared(keepers: pa.RecordBatch, candidates: pa.RecordBatch, least: float) -> pa.RecordBatch:
    similarity = jaccard(*_hashes(keepers.column(SHINGLES)), *_hashes(candidates.column(SHINGLES)))
    pairs = keepers.select([KEEPER, KEEPER_PREVIOUSLY_KEPT, CANDIDATE])
    return pairs.append_column(SIMILARITY, pa.array(similarity, pa.float32())).filter(pa.array(similarity >= least))


def _hashes(sets: pa.Array) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    data, offsets = string_buffers(sets)
    start, end = int(offsets[0]), int(offsets[-1])
    return np.frombuffer(data[start:end].tobytes(), np.uint64), (offsets - start) // 8
