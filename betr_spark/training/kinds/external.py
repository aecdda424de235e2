"""`kind: teacher`: fastText distilled from a table of external scores."""

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import NumericType

from betr_spark.config.scorers import ExternalScorer
from betr_spark.corpus.documents import quoted
from betr_spark.errors import DataError, SchemaError
from betr_spark.ranking.labels import with_labels
from betr_spark.schemas import DOC_ID, SCORE
from betr_spark.spark.error_messages import spark_error_line
from betr_spark.storage import delta, hadoop_files, runs
from betr_spark.training.fasttext import PAPER_RECIPE
from betr_spark.training.kinds.base import FittedKind
from betr_spark.training.training_data import FittedScorer, TrainingSample, labelled_texts, train_on_labels


class ExternalScores(FittedKind):
    """A model of the documents that a table of external scores ranks first."""

    settings: ExternalScorer

    @property
    def _where(self) -> str:
        return f"scorers.{self.name}.path: {self.settings.path}"

    def problems(self, spark: SparkSession) -> list[str]:
        """A table that does not exist or has unreadable files, or a column that is missing or not numeric."""
        try:
            table = self._read(spark)
            if wrong := self._wrong_columns(table):
                return wrong
            table.select(F.lit(1)).count()  # reads the footer of every file, and no column
        except (DataError, SchemaError) as error:
            return str(error).splitlines()
        except (PySparkException, Py4JJavaError) as error:
            line = spark_error_line(error) or " ".join(str(error).split())[:200]
            return [f"{self._where}: cannot be read as {self.settings.format} ({line})"]
        return []

    def versions(self, spark: SparkSession) -> dict[str, str]:
        """Version of the table, or a digest of its files' sizes and times."""
        path = self.settings.path
        if self.settings.format == "delta":
            return {"external_scores": f"{delta.table_id(spark, path)}:{runs.input_version(spark, path)}"}
        return {"external_scores": hadoop_files.fingerprint(hadoop_files.listing(spark, path))}

    def fit(self, spark: SparkSession, sample: TrainingSample) -> FittedScorer:
        """Train on the sample's documents with the highest external scores against as many of its other scored documents."""
        labelled = self._labelled(spark, sample.texts)
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
        if wrong := self._wrong_columns(table):
            raise SchemaError("\n".join(wrong))
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
        return spark.read.parquet(path)

    def _wrong_columns(self, table: DataFrame) -> list[str]:
        types = {field.name: field.dataType for field in table.schema}
        wrong = [
            f"{self._where}: no column '{column}' (scorers.{self.name}.{key}); found {', '.join(types)}"
            for key, column in (("id", self.settings.id), ("score", self.settings.score))
            if column not in types
        ]
        kind = types.get(self.settings.score)
        if kind is not None and not isinstance(kind, NumericType):
            wrong.append(
                f"{self._where}: column '{self.settings.score}' (scorers.{self.name}.score) is {kind.simpleString()}; a "
                "numeric column is required"
            )
        return wrong
