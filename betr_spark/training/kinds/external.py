"""`kind: teacher`: fastText distilled from a table of external scores."""

from collections.abc import Iterator

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import NumericType

from betr_spark.config.scorers import ExternalScorer
from betr_spark.corpus.documents import quoted
from betr_spark.errors import DataError, SchemaError
from betr_spark.pipeline.stage import RunContext
from betr_spark.ranking.labels import with_labels
from betr_spark.schemas import DOC_ID, SCORE
from betr_spark.spark.error_messages import problems_of, spark_error_line
from betr_spark.storage import delta, hadoop_files, runs
from betr_spark.training.fasttext import PAPER_RECIPE
from betr_spark.training.kinds.base import Kind
from betr_spark.training.training_data import FittedScorer, TrainingSample, labelled_texts, train_on_labels


class ExternalScores(Kind):
    """A model of the documents that a table of external scores ranks first."""

    settings: ExternalScorer

    @property
    def _where(self) -> str:
        return f"scorers.{self.name}.path: {self.settings.path}"

    def problems(self, context: RunContext) -> Iterator[str]:
        """A table that does not exist or has unreadable files, or a column that is missing or not numeric."""
        yield from problems_of(lambda: self._check_table(context.spark))

    def _check_table(self, spark: SparkSession) -> None:
        table = self._read(spark)
        try:
            table.select(F.lit(1)).count()  # reads the footer of every file, and no column
        except (PySparkException, Py4JJavaError) as error:
            raise self._unreadable(error) from error
        self._check_columns(table)

    def _unreadable(self, error: Exception) -> DataError:
        if line := spark_error_line(error):
            return DataError(f"scorers.{self.name}.path: {line}")
        reason = " ".join(str(error).split())[:200]
        return DataError(f"{self._where}: cannot be read as {self.settings.format} ({reason})")

    def versions(self, context: RunContext) -> dict[str, str]:
        """Version of the table, or a digest of its files' sizes and times."""
        spark, path = context.spark, self.settings.path
        if self.settings.format == "delta":
            return {"external_scores": f"{delta.table_id(spark, path)}:{runs.input_version(spark, path)}"}
        return {"external_scores": hadoop_files.fingerprint(hadoop_files.listing(spark, path))}

    def fit(self, context: RunContext, sample: TrainingSample) -> FittedScorer:
        """Train on the sample's documents with the highest external scores against as many of its other scored documents."""
        labelled = self._labelled(context.spark, sample.texts)
        return train_on_labels(labelled, sample, self.settings, recipe=PAPER_RECIPE, name=self.name)

    def _labelled(self, spark: SparkSession, texts: DataFrame) -> DataFrame:
        """doc_id, text, label, split."""
        scored = self._scores(spark).join(texts.select(DOC_ID), on=DOC_ID, how="left_semi")
        count = scored.count()
        if not count:
            raise DataError(
                f"{self._where}: no document of the sample has a score; check scorers.{self.name}.id, whose values must be "
                "the ids of the input"
            )
        order = [F.desc(SCORE), F.xxhash64(DOC_ID), F.col(DOC_ID)]
        labels = with_labels(scored, order, n_documents=count, positive_fraction=self.settings.positive_fraction)
        return labelled_texts(labels, texts)

    def _scores(self, spark: SparkSession) -> DataFrame:
        """doc_id, score; one row for each document that has a score, the highest if it has several."""
        table = self._read(spark)
        self._check_columns(table)
        score = F.col(quoted(self.settings.score)).cast("double")
        rows = table.select(F.col(quoted(self.settings.id)).cast("string").alias(DOC_ID), score.alias(SCORE))
        rows = rows.where(F.col(SCORE).isNotNull() & ~F.isnan(SCORE))
        return rows.groupBy(DOC_ID).agg(F.max(SCORE).alias(SCORE))

    def _read(self, spark: SparkSession) -> DataFrame:
        path = self.settings.path
        if self.settings.format == "delta":
            if not delta.exists(spark, path):
                raise DataError(f"{self._where}: Delta table not found")
            return delta.read(spark, path)
        if delta.exists(spark, path):
            raise DataError(f"{self._where}: is a Delta table; set `format: delta`")
        try:
            return spark.read.parquet(path)
        except (PySparkException, Py4JJavaError) as error:
            raise self._unreadable(error) from error

    def _check_columns(self, table: DataFrame) -> None:
        types = {field.name: field.dataType for field in table.schema}
        wrong = [
            f"{self._where}: no column '{column}' (scorers.{self.name}.{key}); found {', '.join(types)}"
            for key, column in (("id", self.settings.id), ("score", self.settings.score))
            if column not in types
        ]
        score_type = types.get(self.settings.score)
        if score_type is not None and not isinstance(score_type, NumericType):
            where = f"{self._where}: column '{self.settings.score}' (scorers.{self.name}.score)"
            wrong.append(f"{where} is {score_type.simpleString()}; a numeric column is required")
        if wrong:
            raise SchemaError(*wrong)
