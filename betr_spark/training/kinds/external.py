"""`kind: teacher`: fastText distilled from a table of external scores."""

from collections.abc import Iterator

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import NumericType

from betr_spark.config.scorers import ExternalScorer
from betr_spark.corpus.documents import quoted
from betr_spark.corpus.side_table import SideTable
from betr_spark.errors import DataError, SchemaError
from betr_spark.pipeline.stage import RunContext
from betr_spark.ranking.labels import with_labels
from betr_spark.schemas import DOC_ID, SCORE
from betr_spark.spark.error_messages import problems_of
from betr_spark.training.fasttext import PAPER_RECIPE
from betr_spark.training.kinds.base import Kind
from betr_spark.training.training_data import FittedScorer, TrainingSample, labelled_texts, train_on_labels


class ExternalScores(Kind):
    """A model of the documents that a table of external scores ranks first."""

    settings: ExternalScorer

    def problems(self, context: RunContext) -> Iterator[str]:
        """A table that does not exist or has unreadable files, or a column that is missing or not numeric."""
        table = self._table(context.spark)
        unreadable = list(table.problems())
        yield from unreadable or problems_of(lambda: self._check_columns(table))

    def versions(self, context: RunContext) -> dict[str, str]:
        """Version of the table, or a digest of its files' sizes and times."""
        return {"external_scores": self._table(context.spark).version()}

    def fit(self, context: RunContext, sample: TrainingSample) -> FittedScorer:
        """Train on the sample's documents with the highest external scores against as many of its other scored documents."""
        labelled = self._labelled(context.spark, sample.texts)
        return train_on_labels(labelled, sample, self.settings, recipe=PAPER_RECIPE, name=self.name)

    def _labelled(self, spark: SparkSession, texts: DataFrame) -> DataFrame:
        """doc_id, text, label, split."""
        table = self._table(spark)
        scored = self._scores(table).join(texts.select(DOC_ID), on=DOC_ID, how="left_semi")
        count = scored.count()
        if not count:
            raise DataError(
                f"{table.where}: no document of the sample has a score; check scorers.{self.name}.id, whose values must be "
                "the ids of the input"
            )
        order = [F.desc(SCORE), F.xxhash64(DOC_ID), F.col(DOC_ID)]
        labels = with_labels(scored, order, n_documents=count, positive_fraction=self.settings.positive_fraction)
        return labelled_texts(labels, texts)

    def _scores(self, table: SideTable) -> DataFrame:
        """doc_id, score; one row for each document that has a score, the highest if it has several."""
        self._check_columns(table)
        score = F.col(quoted(self.settings.score)).cast("double")
        rows = table.read().select(F.col(quoted(self.settings.id)).cast("string").alias(DOC_ID), score.alias(SCORE))
        rows = rows.where(F.col(SCORE).isNotNull() & ~F.isnan(SCORE))
        return rows.groupBy(DOC_ID).agg(F.max(SCORE).alias(SCORE))

    def _table(self, spark: SparkSession) -> SideTable:
        return SideTable(spark, self.settings.path, f"scorers.{self.name}.path", self.settings.format)

    def _check_columns(self, table: SideTable) -> None:
        types = {field.name: field.dataType for field in table.read().schema}
        wrong = [
            f"{table.where}: no column '{column}' (scorers.{self.name}.{key}); found {', '.join(types)}"
            for key, column in (("id", self.settings.id), ("score", self.settings.score))
            if column not in types
        ]
        score_type = types.get(self.settings.score)
        if score_type is not None and not isinstance(score_type, NumericType):
            where = f"{table.where}: column '{self.settings.score}' (scorers.{self.name}.score)"
            wrong.append(f"{where} is {score_type.simpleString()}; a numeric column is required")
        if wrong:
            raise SchemaError(*wrong)
