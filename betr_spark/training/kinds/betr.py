"""`kind: betr`: a light model of the target ranking, linear or fastText, with a benchmark scorer for each benchmark."""

from collections.abc import Iterator

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from betr_spark.config.scorers import BetrScorer
from betr_spark.errors import DataError
from betr_spark.pipeline.stage import RunContext
from betr_spark.ranking.labels import BENCHMARKS, held_out, target_order
from betr_spark.schemas import BY_BENCHMARK, DOC_ID, LABEL, SCORE, SPLIT, TEXT, TRAIN, VALIDATION
from betr_spark.training.fasttext import PAPER_RECIPE, train_benchmark_scorers
from betr_spark.training.kinds.base import Kind
from betr_spark.training.linear import MAX_DOCUMENTS, RankedDocument, train_on_order
from betr_spark.training.records import Fitted, HyperParameters, Labelled
from betr_spark.training.training_data import (
    MAX_VALIDATED,
    FittedScorer,
    TrainingSample,
    examples_by_benchmark,
    in_fixed_order,
    labelled_by_benchmark,
    labelled_texts,
    train_on_labels,
)


class Betr(Kind):
    """A model of the target ranking."""

    settings: BetrScorer

    def problems(self, context: RunContext) -> Iterator[str]:  # noqa: ARG002
        """A sample that is too large for `model: linear`."""
        yield from self._too_large(self.config.sample.documents)

    def requirements(self) -> Iterator[str]:
        """FastText, unless the model of a sample of the configured size is linear."""
        if not self._is_linear(self.config.sample.documents):
            yield from super().requirements()

    def fit(self, context: RunContext, sample: TrainingSample) -> FittedScorer:
        """Fit the linear model to the whole ranking of a small sample; else train fastText on its labels."""
        if problems := self._too_large(sample.n_documents):
            raise DataError(problems[0])
        if self._is_linear(sample.n_documents):
            scorer, *benchmark_scorers = self._fit_linear(context, sample)
            return FittedScorer(scorer, sample.documents.where(held_out()), benchmark_scorers)
        labelled = labelled_texts(sample.documents, sample.texts)
        fitted = train_on_labels(labelled, sample, self.settings, recipe=PAPER_RECIPE, name=self.name)
        if not self.settings.per_benchmark:
            return fitted
        assert fitted.scorer.chosen is not None
        return fitted._replace(benchmark_scorers=self._train_benchmark_scorers(sample, fitted.scorer.chosen))

    def _too_large(self, n_documents: int) -> list[str]:
        if self.settings.model != "linear" or n_documents <= MAX_DOCUMENTS:
            return []
        limit = f"linear accepts samples of at most {MAX_DOCUMENTS} documents, found {n_documents}"
        return [f"scorers.{self.name}.model: {limit}; set `model: fasttext` or reduce sample.documents"]

    def _is_linear(self, n_documents: int) -> bool:
        """Whether the model for a sample of this size is linear."""
        small = n_documents <= MAX_DOCUMENTS and self.settings.lr == self.settings.epochs == "auto"
        return self.settings.model == "linear" or (self.settings.model == "auto" and small)

    def _fit_linear(self, context: RunContext, sample: TrainingSample) -> list[Fitted]:
        """Fit to the target ranking without the fifth of the documents that is held out."""
        benchmarks = list(self.config.benchmark_scorers(self.name))
        labelled = sample.documents.join(sample.texts, on=DOC_ID)
        if benchmarks:
            labelled = self._labelled_by_benchmark(sample)
        rows = in_fixed_order(labelled.where(F.col(SPLIT) == VALIDATION)).collect()  # a fifth of the labels
        validation = Labelled([row[TEXT] for row in rows], np.array([row[LABEL] for row in rows], np.int8))
        benchmark_labels = [
            np.array([index in row[BENCHMARKS] for row in rows], np.int8) for index in range(len(benchmarks))
        ]
        training = sample.documents.where(~held_out()).join(sample.texts, on=DOC_ID, how="inner")
        scores = [F.col(BY_BENCHMARK)[benchmark] for benchmark in benchmarks]
        keys = [key for score in scores for key in (score[SCORE], score["cosine"])]
        ordered = training.orderBy(*target_order()).select(TEXT, F.coalesce(F.col(LABEL) == 1, F.lit(False)), *keys)
        documents = (
            RankedDocument(row[0], row[1], list(zip(row[2::2], row[3::2], strict=True)))
            for row in ordered.toLocalIterator()
        )
        examples = list(examples_by_benchmark(context).values())
        return train_on_order(documents, examples, validation, benchmark_labels, name=self.name)

    def _train_benchmark_scorers(self, sample: TrainingSample, chosen: HyperParameters) -> list[Fitted]:
        labelled = in_fixed_order(self._labelled_by_benchmark(sample))
        validation, training = (
            labelled.where(F.col(SPLIT) == split).select(TEXT, BENCHMARKS) for split in (VALIDATION, TRAIN)
        )
        held = [(row[TEXT], row[BENCHMARKS]) for row in validation.limit(MAX_VALIDATED).collect()]
        rows = ((row[TEXT], row[BENCHMARKS]) for row in training.toLocalIterator())
        benchmarks = list(self.config.benchmark_scorers(self.name))
        return train_benchmark_scorers(self.settings, benchmarks, rows, held, chosen=chosen, name=self.name)

    def _labelled_by_benchmark(self, sample: TrainingSample) -> DataFrame:
        fraction = self.config.labels.positive_fraction
        return labelled_by_benchmark(sample, list(self.config.targets), positive_fraction=fraction)
