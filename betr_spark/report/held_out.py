"""The documents that no scorer is fitted to, with their place in the target ranking and their logits."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from betr_spark import schemas
from betr_spark.ordering import ORDER_HASH
from betr_spark.ranking.labels import held_out
from betr_spark.schemas import (
    BEST_BENCHMARK,
    BEST_COSINE,
    BY_BENCHMARK,
    DOC_ID,
    LABEL,
    LOGIT,
    SCORE,
    SPLIT,
    TARGET_SCORE,
    VALIDATION,
)

_MAX_HELD_OUT = 200_000  # documents that the driver holds


class OfBenchmark(NamedTuple):
    """Orders of n documents for one benchmark, float64 [n]: score and cosine by its own examples, logit of its own scorer."""

    score: NDArray[np.float64]
    cosine: NDArray[np.float64]
    logit: NDArray[np.float64] | None


class HeldOut(NamedTuple):
    """Documents that are held out, n, in the order of the hash that breaks ties of rankings.

    logit: of the scorer, NaN for none, float64 [n]. score, cosine: order of the target ranking, float64 [n]. label: 1
    positive, 0 negative, -1 for a document that is not in the validation split, int8 [n]. best: benchmark of the best
    example, n names. benchmarks: by name.
    """

    logit: NDArray[np.float64]
    score: NDArray[np.float64]
    cosine: NDArray[np.float64]
    label: NDArray[np.int8]
    best: Sequence[str | None]
    benchmarks: Mapping[str, OfBenchmark]


def held_out_rows(
    ranked: DataFrame,
    features: DataFrame,
    logits: Sequence[Column],
    benchmark_scorers: Sequence[Mapping[str, str | None]],
) -> list[HeldOut]:
    """Read the documents that are held out, at most 200,000, with each of some logits; one query.

    Args:
        ranked: rows of `ranked_sample`.
        features: doc_id, and the columns of the logits.
        logits: of scorers, at least one.
        benchmark_scorers: for each logit the names of the benchmark scorers by benchmark, None for none.
    """
    of_benchmarks = []
    for number, benchmark in enumerate(benchmark_scorers[0]):
        score = F.col(BY_BENCHMARK)[benchmark]
        of_benchmarks += [score[SCORE].alias(f"score_{number}"), score["cosine"].alias(f"cosine_{number}")]
    order = [F.xxhash64(F.lit("evaluation"), DOC_ID), F.col(DOC_ID)]
    label = F.coalesce(F.when(F.col(SPLIT) == VALIDATION, F.col(LABEL)), F.lit(-1)).alias(LABEL)
    drawn = ranked.where(held_out()).orderBy(*order).limit(_MAX_HELD_OUT)
    drawn = drawn.select(DOC_ID, TARGET_SCORE, BEST_COSINE, BEST_BENCHMARK, label, *of_benchmarks)
    own = {schemas.logit_column(name) for of in benchmark_scorers for name in of.values() if name is not None}
    numbered = [logit.alias(f"{LOGIT}_{number}") for number, logit in enumerate(logits)]
    scored = features.select(
        DOC_ID, *numbered, *[F.col(name).alias(f"own_{name}") for name in sorted(own)]
    ).join(F.broadcast(drawn), on=DOC_ID, how="inner")  # fmt: skip
    rows = scored.withColumn(ORDER_HASH, F.xxhash64(DOC_ID)).toArrow()  # at most _MAX_HELD_OUT
    rows = rows.sort_by([(ORDER_HASH, "ascending"), (DOC_ID, "ascending")])

    def column(name: str) -> NDArray[np.float64]:
        values: NDArray[np.float64] = rows.column(name).to_numpy().astype(np.float64)
        return values

    return [
        HeldOut(
            column(f"{LOGIT}_{position}"), column(TARGET_SCORE), column(BEST_COSINE),
            rows.column(LABEL).to_numpy().astype(np.int8), rows.column(BEST_BENCHMARK).to_pylist(),
            {
                benchmark: OfBenchmark(
                    column(f"score_{number}"), column(f"cosine_{number}"),
                    None if name is None else column(f"own_{schemas.logit_column(name)}"),
                )
                for number, (benchmark, name) in enumerate(of.items())
            },
        )
        for position, of in enumerate(benchmark_scorers)
    ]  # fmt: skip
