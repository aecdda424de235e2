"""Logits from the positions of documents in the target ranking, for `encoder.mode: direct`."""

from collections.abc import Callable, Mapping

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from betr_spark.schemas import BEST_COSINE, BY_BENCHMARK, DOC_ID, SCORE, TARGET_SCORE, logit_column

_ORDER, _PART, _START, _COSINE, _POSITION = "order", "part", "start", "cosine", "position"


def direct_logits(
    ranked: DataFrame,
    scorers: Mapping[str, str | None],
    *,
    n_documents: int,
    materialise: Callable[[DataFrame], DataFrame],
) -> DataFrame:
    """Compute the logit of each document from its position in the order of each scorer.

    The document at position i of N, 1 the best, equal documents at the best of their positions, has p = (N - i + 0.5) / N and
    the logit ln(p / (1 - p)) as float32: the score is the share of the corpus that ranks below it. All orders are sorted in one
    shuffle by ranges; no task sorts more than its range.

    Args:
        ranked: doc_id, target_score, best_cosine, by_benchmark; one row for each document.
        scorers: for each name, the benchmark whose order it has, or None for the order over all benchmarks.
        n_documents: N, the number of rows of `ranked`.
        materialise: stores a frame and returns what was stored.

    Returns:
        doc_id and one logit column for each scorer.
    """
    orders = []
    for index, benchmark in enumerate(scorers.values()):
        score, cosine = F.col(TARGET_SCORE), F.col(BEST_COSINE)
        if benchmark is not None:
            score, cosine = F.col(BY_BENCHMARK)[benchmark][SCORE], F.col(BY_BENCHMARK)[benchmark]["cosine"]
        orders.append(F.struct(F.lit(index).alias(_ORDER), score.alias(SCORE), cosine.alias(_COSINE)))
    stacked = ranked.select(DOC_ID, F.inline(F.array(*orders)))
    positions = _with_positions(stacked, materialise)
    ahead = (F.lit(n_documents) - F.col(_POSITION) + 0.5) / F.lit(n_documents)
    logit = F.log(ahead / (1 - ahead)).cast("float")
    logits = [
        F.max(F.when(F.col(_ORDER) == index, logit)).alias(logit_column(name)) for index, name in enumerate(scorers)
    ]
    return positions.groupBy(DOC_ID).agg(*logits)


def _with_positions(rows: DataFrame, materialise: Callable[[DataFrame], DataFrame]) -> DataFrame:
    """Add the position of each row in its order, by score and then cosine, both descending; equal rows share the best one.

    Rows are partitioned by range, so a row's position is the number of rows in the earlier partitions of its order plus its
    rank in its partition. Equal rows are in one partition. The partitions are stored, because Spark draws their bounds again
    each time the frame is evaluated.
    """
    keys = [F.desc(SCORE), F.desc(_COSINE)]
    ranged = materialise(rows.repartitionByRange(_ORDER, *keys).withColumn(_PART, F.spark_partition_id()))
    counts = sorted(ranged.groupBy(_ORDER, _PART).count().collect())  # one row for each partition of each order
    starts, start, order = [], 0, None
    for row in counts:
        start, order = (start if row[_ORDER] == order else 0), row[_ORDER]
        starts.append((order, row[_PART], start))
        start += row["count"]
    offsets = rows.sparkSession.createDataFrame(starts, f"{_ORDER} int, {_PART} int, {_START} bigint")
    rank = F.rank().over(Window.partitionBy(_ORDER, _PART).orderBy(*keys))
    return ranged.join(F.broadcast(offsets), on=[_ORDER, _PART], how="inner").withColumn(
        _POSITION, F.col(_START) + rank
    )
