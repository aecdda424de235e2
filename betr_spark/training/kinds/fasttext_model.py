"""`kind: fasttext`: an existing fastText model."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from pyspark.sql import SparkSession

from betr_spark.config.scorers import FastTextScorer
from betr_spark.errors import ArtifactError, DataError
from betr_spark.pipeline.stage import RunContext
from betr_spark.spark.error_messages import problems_of
from betr_spark.storage import hadoop_files
from betr_spark.storage.random_access import open_file
from betr_spark.training.fasttext_file import read_header
from betr_spark.training.fold import fold, unsupported
from betr_spark.training.kinds.base import Kind
from betr_spark.training.records import FitMetrics, Fitted
from betr_spark.training.training_data import FittedScorer, TrainingSample


class FastTextModel(Kind):
    """A model that was trained elsewhere."""

    settings: FastTextScorer

    @property
    def _where(self) -> str:
        return f"scorers.{self.name}.path: {self.settings.path}"

    def problems(self, context: RunContext) -> Iterator[str]:
        """A file that does not exist, is damaged, or has another label or an unsupported loss; reads no matrix."""
        yield from problems_of(lambda: self._check_header(context.spark))

    def _check_header(self, spark: SparkSession) -> None:
        try:
            with open_file(spark, self.settings.path) as (file, n_bytes):
                header = read_header(file, n_bytes=n_bytes, name=self._where)
        except DataError as error:
            raise DataError(f"scorers.{self.name}.path: {error}") from None
        if reason := unsupported(header, positive=self.settings.label):
            raise ArtifactError(f"{self._where}: unsupported fastText model: {reason}")

    def versions(self, context: RunContext) -> dict[str, str]:
        """Size and time of the file."""
        return {"model": hadoop_files.version(context.spark, self.settings.path)}

    def fit(self, context: RunContext, sample: TrainingSample) -> FittedScorer:
        """Copy the file to the driver and fold it."""
        import fasttext  # noqa: PLC0415 - only the driver needs it

        with tempfile.TemporaryDirectory(prefix="betr-spark-model-") as folder:
            local = Path(folder) / "model.bin"
            hadoop_files.fetch(context.spark, self.settings.path, local)
            with local.open("rb") as file:
                read_header(file, n_bytes=local.stat().st_size, name=self._where)
            try:
                table = fold(fasttext.load_model(str(local)), positive=self.settings.label)
            except ArtifactError as error:
                raise ArtifactError(f"{self._where}: {error}") from None
            except (MemoryError, OSError, RuntimeError, ValueError) as error:  # bytes that fastText did not write
                raise ArtifactError(f"{self._where}: not a readable fastText model ({error})") from None
        return FittedScorer(Fitted(table, {"label": self.settings.label}, FitMetrics()), sample.documents)
