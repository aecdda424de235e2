"""Rows with the smallest hashes, against a sort of all rows."""

from typing import Any

from pyspark.sql import functions as F

from betr_spark.corpus.sampling import has_small_hash, sample
from betr_spark.scoring.logit import random_logit


def test_the_rows_with_the_smallest_hashes_stay_and_most_others_do_not(spark: Any) -> None:
    rows, hash64 = (
        spark.range(20_000).select(F.col("id").cast("string").alias("doc_id")),
        F.xxhash64(F.lit("x"), "doc_id"),
    )
    expected = {row["doc_id"] for row in rows.orderBy(hash64).limit(500).collect()}
    taken = rows.where(has_small_hash(hash64, n=500, n_rows=20_000))
    left = {row["doc_id"] for row in taken.collect()}
    assert expected <= left
    assert len(left) < 1_200
    assert rows.where(has_small_hash(hash64, n=19_990, n_rows=20_000)).count() == 20_000
    assert rows.limit(0).where(has_small_hash(hash64, n=5, n_rows=0)).count() == 0


def test_a_random_scorer_of_the_same_seed_ranks_the_sample_like_any_documents(spark: Any) -> None:
    ids = spark.range(4_000).select(F.col("id").cast("string").alias("doc_id"))
    drawn = sample(ids, ids, n_documents=400, seed=0)
    positive = drawn.where(random_logit(0) > 0).count()
    assert 150 < positive < 250  # 5 standard errors; the same hash would give 0 or 400
