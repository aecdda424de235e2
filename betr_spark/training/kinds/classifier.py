"""`kind: classifier`: fastText on given positives, or the targets' examples, against the random sample, as DCLM does."""

import hashlib
from collections.abc import Iterator

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from betr_spark.config.scorers import ClassifierScorer
from betr_spark.pipeline.stage import RunContext
from betr_spark.ranking.labels import with_split
from betr_spark.schemas import DOC_ID, LABEL, TEXT
from betr_spark.spark.error_messages import problems_of
from betr_spark.targets.choice import parts_of
from betr_spark.targets.examples import Example, examples_of
from betr_spark.targets.reading import (
    read_benchmark,
    read_content,
    read_targets,
    target_problems,
    targets_of,
)
from betr_spark.training.fasttext import DCLM_RECIPE, PAPER_RECIPE
from betr_spark.training.kinds.base import Kind
from betr_spark.training.training_data import FittedScorer, TrainingSample, target_versions, train_on_labels


class Classifier(Kind):
    """A classifier of positives against documents of the sample."""

    settings: ClassifierScorer

    def problems(self, context: RunContext) -> Iterator[str]:
        """Everything that is wrong with the file of positives, or with the targets' files."""
        if self.settings.positives is None:
            yield from target_problems(context.spark, self.config.targets)
        else:
            yield from problems_of(lambda: self._positives(context.spark))

    def versions(self, context: RunContext) -> dict[str, str]:
        """Digest of the file of positives, or of the targets' files."""
        if self.settings.positives is None:
            return target_versions(context)
        return {
            "positives": read_benchmark(
                context.spark, f"scorers.{self.name}.positives", self.settings.positives
            ).digest()
        }

    def fit(self, context: RunContext, sample: TrainingSample) -> FittedScorer:
        """Train on the distinct positives and as many documents of the sample, chosen by a hash."""
        labelled = self._labelled(context.spark, sample.texts)
        recipe = PAPER_RECIPE if self.settings.recipe == "paper" else DCLM_RECIPE
        return train_on_labels(labelled, sample, self.settings, recipe=recipe, name=self.name)

    def _labelled(self, spark: SparkSession, texts: DataFrame) -> DataFrame:
        """doc_id, text, label, split."""
        unique = sorted({example.text for example in self._positives(spark)})  # few, for any size of the corpus
        rows = [(f"positive-{hashlib.sha256(text.encode()).hexdigest()}", text, 1) for text in unique]
        positives = spark.createDataFrame(rows, f"{DOC_ID} string, {TEXT} string, {LABEL} int")
        order = F.xxhash64(F.lit(f"negative {self.settings.seed}"), DOC_ID)
        negatives = texts.orderBy(order, DOC_ID).limit(len(rows)).select(DOC_ID, TEXT, F.lit(0).alias(LABEL))
        return with_split(positives.unionByName(negatives))

    def _positives(self, spark: SparkSession) -> list[Example]:
        if self.settings.positives is None:
            return targets_of(self.config.targets, read_targets(spark, self.config))
        name = f"scorers.{self.name}.positives"
        content = read_content(spark, self.settings.positives.path, where=f"{name}.path")
        return parts_of(name, self.settings.positives, examples_of(name, self.settings.positives, content)).train
