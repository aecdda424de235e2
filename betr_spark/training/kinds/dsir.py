"""`kind: dsir`: log-ratio of hashed uni- and bigrams between the targets' examples and the sample."""

from collections.abc import Iterator, Mapping
from functools import reduce
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from betr_spark.config.scorers import DsirScorer
from betr_spark.kernels.text_preparation import as_buffers
from betr_spark.pipeline.stage import RunContext
from betr_spark.schemas import TEXT
from betr_spark.scoring.dsir import LogRatioTable, bucket_counts
from betr_spark.targets.reading import target_problems
from betr_spark.training.kinds.base import Kind
from betr_spark.training.records import FitMetrics, Fitted
from betr_spark.training.training_data import FittedScorer, TrainingSample, examples_by_benchmark, target_versions

_NUMBER = "number"
_COUNT_TYPES = {_NUMBER: pa.int32(), "documents": pa.int64(), "counts": pa.binary()}


class Dsir(Kind):
    """A log-ratio of counts; it needs no embedding."""

    settings: DsirScorer

    def problems(self, context: RunContext) -> Iterator[str]:
        """Everything that is wrong with the targets' files."""
        yield from target_problems(context.spark, self.config.targets)

    def requirements(self) -> Iterator[str]:
        """Nothing."""
        return iter(())

    def versions(self, context: RunContext) -> dict[str, str]:
        """Digests of the targets' files."""
        return target_versions(context)

    def fit(self, context: RunContext, sample: TrainingSample) -> FittedScorer:
        """Count the features of the examples on the driver and those of the sample on the executors."""
        by_benchmark = examples_by_benchmark(context)
        examples = as_buffers([text for texts in by_benchmark.values() for text in texts])
        n_buckets = self.settings.buckets
        raw = counts_of(sample.texts, n_buckets=n_buckets)
        target = bucket_counts(*examples, n_buckets=n_buckets)
        table = LogRatioTable.fit(target, raw, per_feature=self.settings.normalize == "mean")
        settings: dict[str, float | int | str] = {"normalize": self.settings.normalize, "buckets": n_buckets}
        return FittedScorer(Fitted(table, settings, FitMetrics()), sample.documents)


class Counts(NamedTuple):
    """Number of documents, and their words and word pairs by bucket, int64 [n_buckets]."""

    documents: int
    buckets: NDArray[np.int64]


def counts_of(texts: DataFrame, *, n_buckets: int) -> NDArray[np.int64]:
    """Count the words and word pairs of all documents by bucket, int64 [n_buckets]; on the executors.

    Args:
        texts: text, which is not null.
        n_buckets: number of buckets.
    """
    return counts_by_name({"": texts}, n_buckets=n_buckets)[""].buckets


def counts_by_name(texts: Mapping[str, DataFrame], *, n_buckets: int) -> dict[str, Counts]:
    """As `counts_of`, for several sets of documents in one query.

    Args:
        texts: text, which is not null, by the name of the set.
        n_buckets: number of buckets.
    """
    names = list(texts)

    def count(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        counts: dict[int, Counts] = {}
        for batch in batches:
            numbers = batch.column(_NUMBER).to_numpy()
            for number in np.unique(numbers).tolist():
                chosen = batch.column(TEXT).filter(pa.array(numbers == number)).to_pylist()
                n, before = counts.get(number, (0, np.zeros(n_buckets, np.int64)))
                counts[number] = Counts(
                    n + len(chosen), before + bucket_counts(*as_buffers(chosen), n_buckets=n_buckets)
                )
        columns = [list(counts), [n for n, _ in counts.values()], [buckets.tobytes() for _, buckets in counts.values()]]
        arrays = [pa.array(column, kind) for column, kind in zip(columns, _COUNT_TYPES.values(), strict=True)]
        yield pa.RecordBatch.from_arrays(arrays, list(_COUNT_TYPES))

    rows = [frame.select(TEXT, F.lit(number).alias(_NUMBER)) for number, frame in enumerate(texts.values())]
    every = reduce(DataFrame.unionAll, rows)
    narrow = every.coalesce(every.sparkSession.sparkContext.defaultParallelism)
    parts = narrow.mapInArrow(
        count, f"{_NUMBER} int, documents bigint, counts binary"
    ).collect()  # a row for task and set
    totals = {name: Counts(0, np.zeros(n_buckets, np.int64)) for name in names}
    for number, n, counts in parts:
        before = totals[names[number]]
        totals[names[number]] = Counts(before.documents + n, before.buckets + np.frombuffer(counts, np.int64))
    return totals
