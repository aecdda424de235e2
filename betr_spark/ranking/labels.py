"""Labels: the best of the ranked sample against as many of the rest, and a validation split held out (method 3)."""

import math
from collections.abc import Sequence
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from betr_spark.schemas import BEST_COSINE, BY_BENCHMARK, DOC_ID, LABEL, SCORE, SPLIT, TARGET_SCORE, TRAIN, VALIDATION

BENCHMARKS = "benchmarks"
_VALIDATION_ONE_IN = 5
_MIXED = "betr label"  # another hash than that of the sample, whose seed is a number


def target_order() -> list[Column]:
    """Order of the ranked sample: the teacher's score, then the highest cosine, then a hash of the id."""
    return [F.desc(TARGET_SCORE), F.desc(BEST_COSINE), F.xxhash64(DOC_ID), F.col(DOC_ID)]


def with_labels(ranked: DataFrame, order: Sequence[Column], *, n_documents: int, positive_fraction: float) -> DataFrame:
    """Add `label` and `split`.

    Positive (1) are the first ceil(f N) in the order; negative (0) as many of the others, chosen by a hash; the rest is
    null. A fifth of each class, by another hash, is the validation split.

    Args:
        ranked: doc_id and what the order wants; one row a document.
        order: of the documents, the best first, without ties.
        n_documents: number of those rows, N.
        positive_fraction: f.
    """
    n_positive = min(n_documents, math.ceil(positive_fraction * n_documents))
    n_negative = min(n_positive, n_documents - n_positive)
    positives = ranked.orderBy(*order).limit(n_positive).select(DOC_ID, F.lit(1).alias(LABEL))
    others = ranked.join(positives, on=DOC_ID, how="left_anti")
    negatives = others.orderBy(F.xxhash64(F.lit(_MIXED), DOC_ID), DOC_ID).limit(n_negative)
    labels = positives.unionByName(negatives.select(DOC_ID, F.lit(0).alias(LABEL)))
    return with_split(ranked.join(labels, on=DOC_ID, how="left"))


def benchmark_labels(
    ranked: DataFrame, benchmarks: Sequence[str], *, n_documents: int, positive_fraction: float
) -> DataFrame:
    """Documents that are positive for some of B benchmarks: doc_id, `benchmarks` (their numbers, ascending).

    For each, the first ceil(f N / B) in the order of its own examples' score.

    Args:
        ranked: the ranked sample; one row a document.
        benchmarks: their names.
        n_documents: number of those rows, N.
        positive_fraction: f.
    """
    count = math.ceil(positive_fraction * n_documents / len(benchmarks))
    best = []
    for number, name in enumerate(benchmarks):
        own = F.col(BY_BENCHMARK)[name]
        order = [F.desc(own[SCORE]), F.desc(own["cosine"]), F.xxhash64(DOC_ID), F.col(DOC_ID)]
        best.append(ranked.orderBy(*order).limit(count).select(DOC_ID, F.lit(number).alias("number")))
    return (
        reduce(DataFrame.unionByName, best)
        .groupBy(DOC_ID)
        .agg(F.sort_array(F.collect_list("number")).alias(BENCHMARKS))
    )


def held_out() -> Column:
    """Whether a document is never trained on: a fifth of all, by a hash of the id."""
    return F.pmod(F.xxhash64(DOC_ID, F.lit(_MIXED)), F.lit(_VALIDATION_ONE_IN)) == 0


def with_split(labelled: DataFrame) -> DataFrame:
    """Add `split` to documents with a label."""
    split = F.when(F.col(LABEL).isNotNull(), F.when(held_out(), VALIDATION).otherwise(TRAIN))
    return labelled.withColumn(SPLIT, split)
