"""`kind: dsir`: log-ratio of hashed uni- and bigrams between the targets' examples and the sample."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame

from betr_spark.config.scorers import DsirScorer
from betr_spark.kernels.text_preparation import as_buffers
from betr_spark.pipeline.stage import RunContext
from betr_spark.schemas import TEXT
from betr_spark.scoring.dsir import LogRatioTable, bucket_counts
from betr_spark.targets.reading import target_problems
from betr_spark.training.kinds.base import Kind
from betr_spark.training.records import FitMetrics, Fitted
from betr_spark.training.training_data import FittedScorer, TrainingSample, examples_by_benchmark, target_versions


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


def counts_of(texts: DataFrame, *, n_buckets: int) -> NDArray[np.int64]:
    """Count the words and word pairs of all documents by bucket, int64 [n_buckets]; on the executors.

    Args:
        texts: text, which is not null.
        n_buckets: number of buckets.
    """

    def count(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        counts = np.zeros(n_buckets, np.int64)
        for batch in batches:
            counts += bucket_counts(*as_buffers(batch.column(TEXT).to_pylist()), n_buckets=n_buckets)
        yield pa.RecordBatch.from_arrays([pa.array([counts.tobytes()], pa.binary())], ["counts"])

    narrow = texts.select(TEXT).coalesce(texts.sparkSession.sparkContext.defaultParallelism)
    parts = narrow.mapInArrow(count, "counts binary").collect()  # one row for each task
    return sum((np.frombuffer(row["counts"], np.int64) for row in parts), np.zeros(n_buckets, np.int64))
