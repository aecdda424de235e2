"""The kinds of scorers, one class each with the same shape: `problems`, and if it is fitted `versions` and `fit`."""

from betr_spark.config import Config
from betr_spark.training.kinds.base import FittedKind
from betr_spark.training.kinds.betr import Betr
from betr_spark.training.kinds.classifier import Classifier
from betr_spark.training.kinds.dsir import Dsir
from betr_spark.training.kinds.external import ExternalScores
from betr_spark.training.kinds.fasttext_model import FastTextModel

__all__ = ["FittedKind", "fitted_kind"]

_FITTED: dict[str, type[FittedKind]] = {
    "betr": Betr,
    "classifier": Classifier,
    "teacher": ExternalScores,
    "dsir": Dsir,
    "fasttext": FastTextModel,
}


def fitted_kind(config: Config, name: str) -> FittedKind:
    """A fitted scorer of the configuration, by name."""
    settings = config.scorers[name]
    return _FITTED[settings.kind](config, name, settings)
