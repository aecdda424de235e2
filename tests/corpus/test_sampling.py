"""Rows with the smallest hashes, against a sort of all rows."""

from typing import Any

from pyspark.sql import functions as F

from betr_spark.corpus.sampling import sample, smallest_by_hash
from betr_spark.scoring.logit import random_logit


def test_the_smallest_hashes_are_those_of_a_sort_and_most_rows_are_left_out_before(spark: Any) -> None:
    rows, hash64 = (
        spark.range(20_000).select(F.col("id").cast("string").alias("doc_id")),
        F.xxhash64(F.lit("x"), "doc_id"),
    )
    expected = rows.orderBy(hash64, "doc_id").limit(500).collect()
    taken = smallest_by_hash(rows, hash64, n=500, n_rows=20_000)
    assert taken.collect() == expected
    assert "<" in taken._jdf.queryExecution().optimizedPlan().toString()  # a filter on the hash
    assert smallest_by_hash(rows, hash64, n=19_990, n_rows=20_000).count() == 19_990
    assert smallest_by_hash(rows.limit(0), hash64, n=5, n_rows=0).count() == 0


def test_a_random_scorer_of_the_same_seed_ranks_the_sample_like_any_documents(spark: Any) -> None:
    ids = spark.range(4_000).select(F.col("id").cast("string").alias("doc_id"))
    drawn = sample(ids, ids, n_documents=400, seed=0)
    positive = drawn.where(random_logit(0) > 0).count()
    assert 150 < positive < 250  # 5 standard errors; the same hash would give 0 or 400
