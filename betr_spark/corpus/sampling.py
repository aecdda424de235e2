"""A seeded random sample of exactly N documents, the same for any partitioning and any order of the input."""

import math

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from betr_spark.ordering import ORDER_HASH, ORDER_KEY, WEIGHT, before, longest_prefix
from betr_spark.schemas import DOC_ID


def sample(documents: DataFrame, ids: DataFrame, *, n_documents: int, seed: int, n_ids: int | None = None) -> DataFrame:
    """Take the documents whose hash of (seed, doc_id) is among the `n_documents` smallest.

    Args:
        documents: rows with doc_id; only the sampled ones are kept.
        ids: every doc_id once; read once for each part of the order that the cut needs, so persist it.
        n_documents: size of the sample, in ids; all of them where there are fewer.
        seed: of the hash.
        n_ids: number of rows of `ids`, if it is known.
    """

    def with_order(rows: DataFrame) -> DataFrame:
        hash64 = F.xxhash64(F.lit(seed), DOC_ID)
        return rows.withColumns({ORDER_KEY: hash64, ORDER_HASH: hash64})

    weighted = with_order(ids).withColumn(WEIGHT, F.lit(1).cast("bigint"))
    end = longest_prefix(weighted, budget=n_documents, n_rows=n_ids)
    ordered = with_order(documents)
    taken = ordered if end is None else ordered.where(before(end))
    return taken.drop(ORDER_KEY, ORDER_HASH)


def has_small_hash(hash64: Column, *, n: int, n_rows: int) -> Column:
    """Whether a hash is so small that the rows with the `n` smallest ones have such a hash, and few others.

    Args:
        hash64: a hash of each row, uniform over the 64-bit integers; fewer than `n` rows would be ten standard deviations.
        n: number of rows.
        n_rows: number of all rows; with fewer than `n` the hashes of all are small.
    """
    share = (n + 10 * math.sqrt(n) + 100) / max(1, n_rows)
    return F.lit(True) if share >= 1 else hash64 < F.lit(int(share * 2**64) - 2**63).cast("bigint")
