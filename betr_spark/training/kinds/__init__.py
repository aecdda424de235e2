"""The kinds of scorers that are fitted, one class each with the same shape: `problems`, `versions` and `fit`."""

from betr_spark.config import Config
from betr_spark.training.kinds.base import Kind
from betr_spark.training.kinds.betr import Betr
from betr_spark.training.kinds.classifier import Classifier
from betr_spark.training.kinds.dsir import Dsir
from betr_spark.training.kinds.external import ExternalScores
from betr_spark.training.kinds.fasttext_model import FastTextModel

__all__ = ["Kind", "kind_of"]

_KINDS: dict[str, type[Kind]] = {
    "betr": Betr,
    "classifier": Classifier,
    "teacher": ExternalScores,
    "dsir": Dsir,
    "fasttext": FastTextModel,
}


def kind_of(config: Config, name: str) -> Kind:
    """A fitted scorer of the configuration, by name."""
    settings = config.scorers[name]
    return _KINDS[settings.kind](config, name, settings)
