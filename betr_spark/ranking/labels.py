"""Labels: the first documents of the target ranking against as many of the others, with a validation split."""

import math
from collections.abc import Sequence
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from betr_spark.schemas import BEST_COSINE, BY_BENCHMARK, DOC_ID, LABEL, SCORE, SPLIT, TARGET_SCORE, TRAIN, VALIDATION

BENCHMARKS = "benchmarks"
_VALIDATION_ONE_IN = 5
_SALT = "betr label"  # differs from the salt of the sample, whose seed is a number


def target_order() -> list[Column]:
    """Order of the target ranking: target score, then the highest cosine, then a hash of the id."""
    return [F.desc(TARGET_SCORE), F.desc(BEST_COSINE), F.xxhash64(DOC_ID), F.col(DOC_ID)]


def with_labels(ranked: DataFrame, order: Sequence[Column], *, n_documents: int, positive_fraction: float) -> DataFrame:
    """Add `label` and `split`.

    The first ceil(f N) documents in the order are positive (1). As many of the others, chosen by a hash, are negative (0). The
    label of the rest is null. A fifth of each class, chosen by another hash, is the validation split.

    `ranked` is read several times; store it if it is expensive.

    Args:
        ranked: doc_id and the columns of the order; one row for each document.
        order: of the documents, the best first, without ties.
        n_documents: number of rows of `ranked`, N.
        positive_fraction: f.
    """
    n_positive = min(n_documents, math.ceil(positive_fraction * n_documents))
    n_negative = min(n_positive, n_documents - n_positive)
    positives = ranked.orderBy(*order).limit(n_positive).select(DOC_ID, F.lit(1).alias(LABEL))
    unlabelled = ranked.join(positives, on=DOC_ID, how="left_anti")
    negatives = unlabelled.orderBy(F.xxhash64(F.lit(_SALT), DOC_ID), DOC_ID).limit(n_negative)
    labels = positives.unionByName(negatives.select(DOC_ID, F.lit(0).alias(LABEL)))
    return with_split(ranked.join(labels, on=DOC_ID, how="left"))


def benchmark_labels(
    ranked: DataFrame, benchmarks: Sequence[str], *, n_documents: int, positive_fraction: float
) -> DataFrame:
    """Return the documents that are positive for at least one of B benchmarks: doc_id, `benchmarks` (indices, ascending).

    For each benchmark these are the first ceil(f N / B) documents in the order of its own examples' score.

    Args:
        ranked: the ranked sample; one row for each document.
        benchmarks: their names.
        n_documents: number of rows of `ranked`, N.
        positive_fraction: f.
    """
    count = math.ceil(positive_fraction * n_documents / len(benchmarks))
    positives = []
    for index, name in enumerate(benchmarks):
        score = F.col(BY_BENCHMARK)[name]
        order = [F.desc(score[SCORE]), F.desc(score["cosine"]), F.xxhash64(DOC_ID), F.col(DOC_ID)]
        positives.append(ranked.orderBy(*order).limit(count).select(DOC_ID, F.lit(index).alias("index")))
    return (
        reduce(DataFrame.unionByName, positives)
        .groupBy(DOC_ID)
        .agg(F.sort_array(F.collect_list("index")).alias(BENCHMARKS))
    )


def held_out() -> Column:
    """Whether a document is never trained on: a fifth of all documents, chosen by a hash of the id."""
    return F.pmod(F.xxhash64(DOC_ID, F.lit(_SALT)), F.lit(_VALIDATION_ONE_IN)) == 0


def with_split(labelled: DataFrame) -> DataFrame:
    """Add `split` to documents that have a label."""
    split = F.when(F.col(LABEL).isNotNull(), F.when(held_out(), VALIDATION).otherwise(TRAIN))
    return labelled.withColumn(SPLIT, split)
