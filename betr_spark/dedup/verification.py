"""Verification of candidate pairs: by signature where it decides, by the true Jaccard similarity of the shingles elsewhere."""

from collections.abc import Callable
from functools import partial

from pyspark.sql import DataFrame, Observation
from pyspark.sql import functions as F

from betr_spark.corpus.listing import files_of
from betr_spark.dedup.columns import CANDIDATE, EQUAL, KEEPER, KEEPER_PREVIOUSLY_KEPT
from betr_spark.dedup.rank_keys import MAX_BROADCAST, RANK_KEY
from betr_spark.dedup.shingle_batches import CHANGED, EDGES, IS_CANDIDATE, SETS, shingled, with_jaccard
from betr_spark.dedup.thresholds import Thresholds
from betr_spark.errors import DataError
from betr_spark.kernels.minhash import similarity_at
from betr_spark.pipeline.stage import RunContext
from betr_spark.schemas import CONTENT_HASH, DOC_ID, EVIDENCE, REASON, SHINGLES, SIMILARITY, SKETCH, TEXT

_MAX_BROADCAST_HASHES = 4_000_000  # documents, of about 64 bytes in memory
_FEW, _MAX_BROADCAST_BYTES = 100_000, 100_000_000  # documents whose ids need no look; ids
_READ, _HASH = "read", "hash"
_PAIR = [KEEPER, CANDIDATE]


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
    sides = [F.struct(F.col(side).alias(RANK_KEY), F.lit(side == CANDIDATE).alias(IS_CANDIDATE)) for side in _PAIR]
    ends = unsure.select(*_PAIR, KEEPER_PREVIOUSLY_KEPT, F.inline(F.array(*sides)))
    ends = F.broadcast(ends) if n_pairs is not None and 2 * n_pairs <= MAX_BROADCAST else ends
    rows = sets.select(RANK_KEY, SHINGLES).join(ends, on=RANK_KEY, how="inner").drop(RANK_KEY)
    rows = rows.repartition(*_PAIR).sortWithinPartitions(*_PAIR, IS_CANDIDATE)
    compared = rows.mapInArrow(partial(with_jaccard, least=similarity), EDGES)
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
    if n <= MAX_BROADCAST and (n <= _FEW or _bytes_of_ids(keys) <= _MAX_BROADCAST_BYTES):
        return texts.join(F.broadcast(keys), on=DOC_ID, how="inner")
    if n <= _MAX_BROADCAST_HASHES:  # or the texts of the whole corpus would be shuffled
        hashes = F.broadcast(keys.select(F.xxhash64(DOC_ID).alias(_HASH)))
        texts = texts.withColumn(_HASH, F.xxhash64(DOC_ID)).join(hashes, on=_HASH, how="left_semi").drop(_HASH)
    return texts.join(keys, on=DOC_ID, how="inner")


def _bytes_of_ids(keys: DataFrame) -> int:
    (row,) = keys.agg(F.sum(F.octet_length(DOC_ID))).collect()
    return int(row[0] or 0)


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
    texts = texts.select(RANK_KEY, CONTENT_HASH, TEXT)
    sets = texts.mapInArrow(partial(shingled, ngram=config.minhash.ngram, seed=config.minhash.seed), SETS)
    if config.input.id is None:  # every copy of a text has the same id and the same shingles
        sets = sets.dropDuplicates([RANK_KEY])

    def check() -> None:
        n = read.get
        if not n[CHANGED] and n[_READ] == n_expected:
            return
        unchanged = sets.where(~F.col(CHANGED))
        for row in documents.join(unchanged, on=RANK_KEY, how="left_anti").select(DOC_ID).limit(1).collect():
            raise DataError(
                f"input.path: {config.input.path}: the text of document '{row[DOC_ID]}' changed since it was scored, "
                "or is gone; run `betr-spark features`"
            )

    counts = [F.count("*").alias(_READ), F.count_if(CHANGED).alias(CHANGED)]
    return sets.observe(read, *counts).drop(CHANGED), check
