"""How near the text of a selection is to the targets: divergences of hashed words and word pairs, from bounded samples."""

from collections.abc import Mapping
from functools import reduce
from operator import or_
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from betr_spark import schemas
from betr_spark.config import Config
from betr_spark.kernels.text_preparation import as_buffers
from betr_spark.pipeline.stage import RunContext
from betr_spark.schemas import DOC_ID, RANK, TEXT
from betr_spark.scoring.dsir import bucket_counts
from betr_spark.storage import delta
from betr_spark.training.training_data import examples_by_benchmark

ALL = "(all)"
N_BUCKETS = 10_000
_MAX_SAMPLED = 2_000  # documents of each side
_MAX_CHARACTERS = 20_000  # of a document
_BLOCKS = 20  # of consecutive ranks
_SMOOTHING = 0.5  # added to each count


class Divergence(NamedTuple):
    """KL divergence of a benchmark's examples from the pool and from the selection, in nats; lower is more alike.

    Attributes:
        benchmark: its name, or `(all)`.
        n_examples: examples that rank the sample.
        before: KL(examples || pool).
        after: KL(examples || selection); NaN if the selection has no word.
    """

    benchmark: str
    n_examples: int
    before: float
    after: float


class TextDivergence(NamedTuple):
    """Divergences between distributions of hashed words and word pairs (the features of `dsir`, 10,000 buckets).

    Few words on either side give a larger divergence: compare `before` and `after`, or selections of the same size.

    Attributes:
        n_pool: documents of the sample of the pool, at most 2,000, chosen by a hash.
        n_selected: documents of the selection, at most 2,000: 20 blocks of consecutive ranks, evenly spaced.
        max_characters: of a document; the rest is not counted.
        divergences: of all benchmarks together, then of each.
    """

    n_pool: int
    n_selected: int
    max_characters: int
    divergences: list[Divergence]


def kl_divergence(target: NDArray[np.int64], sample: NDArray[np.int64]) -> float:
    """KL(target || sample) of two distributions in nats; NaN without counts.

    Half an occurrence is added to each bucket of `sample`, so that none is impossible there; not to those of `target`, which
    has few words.

    Args:
        target: counts, int64 [buckets].
        sample: counts, int64 [buckets].
    """
    if not target.sum() or not sample.sum():
        return float("nan")
    occurs = target > 0
    p = target[occurs] / target.sum()
    q = (sample[occurs] + _SMOOTHING) / (sample.sum() + _SMOOTHING * len(sample))
    return float(np.sum(p * np.log(p / q)))


def divergences(spark: SparkSession, config: Config, tables: Mapping[str, DataFrame]) -> dict[str, TextDivergence]:
    """Compare the examples of the targets with the pool and with selections, by hashed words and word pairs.

    One read of the texts of `_sample`, and of each selection about 20 row groups.

    Args:
        spark: the session.
        config: for the targets and the output.
        tables: rows of selections, by name.

    Returns:
        By name; nothing without targets, or without a sample (`_sample`).

    Raises:
        ConfigError, DataError: a target's file or template is wrong.
    """
    path = config.table(schemas.SAMPLE_TABLE)
    if not config.targets or not delta.exists(spark, path):
        return {}
    examples = examples_by_benchmark(RunContext(spark, config))
    targets = {name: bucket_counts(*as_buffers(texts), n_buckets=N_BUCKETS) for name, texts in examples.items()}
    targets = {ALL: sum(targets.values(), np.zeros(N_BUCKETS, np.int64)), **targets}
    n_examples = {ALL: sum(map(len, examples.values())), **{name: len(texts) for name, texts in examples.items()}}
    order = [F.xxhash64(F.lit("report"), DOC_ID), F.col(DOC_ID)]
    pool = delta.read(spark, path).select(DOC_ID, _start_of_text())
    n_pool, before = _counts(pool.orderBy(*order).limit(_MAX_SAMPLED))
    by_selection = {}
    for name, table in tables.items():
        blocks = [F.col(RANK).between(*block) for block in rank_blocks(table.count())]
        n_selected, after = _counts(table.where(reduce(or_, blocks, F.lit(False))).select(_start_of_text()))
        by_selection[name] = TextDivergence(
            n_pool, n_selected, _MAX_CHARACTERS,
            [
                Divergence(benchmark, n_examples[benchmark], kl_divergence(counts, before), kl_divergence(counts, after))
                for benchmark, counts in targets.items()
            ],
        )  # fmt: skip
    return by_selection


def _counts(texts: DataFrame) -> tuple[int, NDArray[np.int64]]:
    """Count documents, and their features by bucket: on the driver, because Python workers take seconds to start."""
    rows = texts.select(TEXT).toArrow().column(TEXT).to_pylist()  # at most _MAX_SAMPLED
    return len(rows), bucket_counts(*as_buffers(rows), n_buckets=N_BUCKETS)


def rank_blocks(n_rows: int) -> list[tuple[int, int]]:
    """First and last rank of each block of a selection that is read: all ranks of a small one."""
    if n_rows <= _MAX_SAMPLED:
        return [(1, n_rows)] if n_rows else []
    size = _MAX_SAMPLED // _BLOCKS
    firsts = [1 + (n_rows - size) * block // (_BLOCKS - 1) for block in range(_BLOCKS)]
    return [(first, first + size - 1) for first in firsts]


def _start_of_text() -> Column:
    return F.substring(TEXT, 1, _MAX_CHARACTERS).alias(TEXT)
