"""What every kind of fitted scorer offers to the stages: its problems, its versions, and its fit."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

from betr_spark.config import Config
from betr_spark.extras import require
from betr_spark.pipeline.stage import RunContext
from betr_spark.spark.error_messages import problems_of
from betr_spark.training.training_data import FittedScorer, TrainingSample


class Kind(ABC):
    """One fitted scorer of the configuration; a subclass for each kind.

    Attributes:
        config: the whole configuration.
        name: of the scorer.
        settings: of the scorer, a model of config.scorers.
    """

    def __init__(self, config: Config, name: str, settings: Any) -> None:
        """Keep the settings; nothing is read."""
        self.config, self.name, self.settings = config, name, settings

    def problems(self, context: RunContext) -> Iterator[str]:  # noqa: ARG002
        """Find everything that is wrong with the scorer's inputs, one line each; reads no text."""
        return iter(())

    def requirements(self) -> Iterator[str]:
        """Find what `fit` needs and this machine lacks, one line each: fastText, unless a kind does without it."""
        yield from problems_of(lambda: require("fasttext", extra="fasttext", subject=f"scorers.{self.name}"))

    def versions(self, context: RunContext) -> dict[str, str]:  # noqa: ARG002
        """Versions of the scorer's inputs, other than the sample and its ranking, for its key."""
        return {}

    @abstractmethod
    def fit(self, context: RunContext, sample: TrainingSample) -> FittedScorer:
        """Fit the scorer, and its benchmark scorers if it has any.

        Raises:
            ArtifactError: the fit failed, or the model is damaged or of an unsupported kind.
            DataError: there are too few documents, or a file is missing.
            SchemaError: a column is missing or has the wrong type.
        """
