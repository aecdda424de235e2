"""The section on benchmarks: what each of them contributed to the target ranking and the selections, and where they overlap."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from betr_spark import schemas
from betr_spark.config import Config
from betr_spark.schemas import (
    BEST_BENCHMARK,
    BEST_COSINE,
    BY_BENCHMARK,
    CHOSEN_FOR,
    DOC_ID,
    N_TOKENS,
    SCORE,
    TARGET_SCORE,
)
from betr_spark.storage import delta
from betr_spark.training.agreement import positions

TOP = 0.10
_MAX_CELLS = 4_000_000  # documents times benchmarks that the driver holds
_COSINE = "cosine"


class Contribution(NamedTuple):
    """What one benchmark contributed.

    Attributes:
        benchmark: name.
        sample: share of the sample's documents whose best example is of the benchmark.
        top: the same, of the first tenth of the target ranking.
    """

    benchmark: str
    sample: float
    top: float


class Benchmarks(NamedTuple):
    """Benchmarks in the target ranking of the sample.

    Attributes:
        n_documents: sampled documents that were looked at.
        contributions: by benchmark.
        overlap: [B, B]; the share of the first tenth by the row's examples alone that is in the first tenth by the column's.
    """

    n_documents: int
    contributions: list[Contribution]
    overlap: list[list[float]]
    top: float = TOP


class Chosen(NamedTuple):
    """Documents and tokens of a selection by the benchmark that they have in `column`: `best_benchmark` or `chosen_for`."""

    column: str
    rows: list[tuple[str, int, int]]


def benchmarks(spark: SparkSession, config: Config) -> Benchmarks | None:
    """Read `ranked_sample`, at most 4 million scores of it, chosen by a hash.

    None if the table does not exist, or has one ranking by all examples together (`labels.granularity: global`).
    """
    if config.labels.granularity == "global" or not delta.exists(spark, config.table(schemas.RANKED_SAMPLE_TABLE)):
        return None
    ranked = delta.read(spark, config.table(schemas.RANKED_SAMPLE_TABLE))
    return benchmarks_of(ranked, list(config.targets))


def benchmarks_of(ranked: DataFrame, names: Sequence[str]) -> Benchmarks:
    """As `benchmarks`.

    Args:
        ranked: rows of `ranked_sample`.
        names: of the benchmarks. Those that no document has scores of, as with one ranking of all examples, are left out of
            the overlap only if none has.
    """
    own = [
        F.col(BY_BENCHMARK)[name][part].alias(f"{part}_{n}")
        for n, name in enumerate(names)
        for part in (SCORE, _COSINE)
    ]
    drawn = ranked.orderBy(F.xxhash64(F.lit("report"), DOC_ID), DOC_ID).limit(_MAX_CELLS // max(1, len(names)))
    table = drawn.select(BEST_BENCHMARK, TARGET_SCORE, BEST_COSINE, *own).toArrow()  # _MAX_CELLS at most
    n, best = table.num_rows, np.array(table.column(BEST_BENCHMARK).to_pylist(), object)
    n_top = max(1, round(n * TOP))

    def first(score: str, cosine: str) -> NDArray[np.bool_]:
        columns = [table.column(name).to_numpy().astype(np.float64) for name in (score, cosine)]
        is_first: NDArray[np.bool_] = positions(*columns) < n_top
        return is_first

    top = first(TARGET_SCORE, BEST_COSINE)
    contributions = [
        Contribution(name, float(np.mean(best == name)) if n else 0.0, float(np.mean(best[top] == name)) if n else 0.0)
        for name in names
    ]
    scored = [k for k in range(len(names)) if n and table.column(f"{SCORE}_{k}").null_count < n]
    tops = [first(f"{SCORE}_{k}", f"{_COSINE}_{k}") for k in scored] if len(scored) == len(names) else []
    overlap = [[float((left & right).sum() / n_top) for right in tops] for left in tops]
    return Benchmarks(n, contributions, overlap)


def chosen(spark: SparkSession, config: Config, selection: str) -> Chosen | None:
    """Count a selection by benchmark; None without benchmark scorers."""
    rows = delta.read(spark, config.table(f"selected/{selection}"))
    column = next((name for name in (CHOSEN_FOR, BEST_BENCHMARK) if name in rows.columns), None)
    if column is None:
        return None
    sums = [F.count_distinct(DOC_ID).alias("n"), F.sum(N_TOKENS).alias(N_TOKENS)]
    counted = rows.groupBy(column).agg(*sums).orderBy(F.desc("n"), column).collect()  # one row for each benchmark
    return Chosen(column, [(row[column] or "", int(row["n"]), int(row[N_TOKENS] or 0)) for row in counted])
