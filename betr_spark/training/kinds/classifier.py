"""`kind: classifier`: fastText on given positives, or the targets' examples, against the random sample, as DCLM does."""

import hashlib

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from betr_spark.config.scorers import ClassifierScorer
from betr_spark.errors import BetrSparkError
from betr_spark.ranking.labels import with_split
from betr_spark.schemas import DOC_ID, LABEL, TEXT
from betr_spark.targets.examples import Example, examples_of
from betr_spark.targets.reading import read_benchmark, read_content, read_targets, targets_of
from betr_spark.training.fasttext import DCLM_RECIPE
from betr_spark.training.kinds.base import FittedKind
from betr_spark.training.training_data import FittedScorer, TrainingSample, target_versions, train_on_labels


class Classifier(FittedKind):
    """A classifier of positives against documents of the sample."""

    settings: ClassifierScorer

    def problems(self, spark: SparkSession) -> list[str]:
        """Whatever is wrong with the file of positives; the targets' files are problems of the targets."""
        if self.settings.positives is None:
            return []
        try:
            self._positives(spark)
        except BetrSparkError as error:
            return str(error).splitlines()
        return []

    def versions(self, spark: SparkSession) -> dict[str, str]:
        """Digest of the file of positives, or of the targets' files."""
        if self.settings.positives is None:
            return target_versions(spark, self.config)
        return {"positives": read_benchmark(spark, self.settings.positives).digest()}

    def fit(self, spark: SparkSession, sample: TrainingSample) -> FittedScorer:
        """Train on the distinct positives and as many documents of the sample, chosen by a hash."""
        labelled = self._labelled(spark, sample.texts)
        return train_on_labels(labelled, sample, self.settings, recipe=DCLM_RECIPE, name=self.name)

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
        content = read_content(spark, self.settings.positives.path)
        return examples_of(f"scorers.{self.name}.positives", self.settings.positives, content)
