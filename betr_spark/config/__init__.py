"""The configuration: frozen typed models of a YAML file. Names for other packages are imported from here."""

from betr_spark.config.base import Model
from betr_spark.config.decontaminate import DecontaminateConfig, TestFileConfig
from betr_spark.config.evaluate import EvaluateConfig, TransformerConfig
from betr_spark.config.input import NOT_IN_DELTA, InputConfig, TokensConfig
from betr_spark.config.ranking import EncoderConfig, LabelsConfig, SampleConfig
from betr_spark.config.repetition import CurveConfig, SigmoidConfig, SoftCapConfig
from betr_spark.config.root import (
    LONGEST,
    RANDOM_SCORER,
    Config,
    DedupConfig,
    MinHashConfig,
    load_config,
)
from betr_spark.config.selections import KeepConfig, PhaseConfig, SelectionConfig, TrainingConfig
from betr_spark.config.targets import SplitConfig, TargetConfig

__all__ = [
    "LONGEST",
    "NOT_IN_DELTA",
    "RANDOM_SCORER",
    "Config",
    "CurveConfig",
    "DecontaminateConfig",
    "DedupConfig",
    "EncoderConfig",
    "EvaluateConfig",
    "InputConfig",
    "KeepConfig",
    "LabelsConfig",
    "MinHashConfig",
    "Model",
    "PhaseConfig",
    "SampleConfig",
    "SelectionConfig",
    "SigmoidConfig",
    "SoftCapConfig",
    "SplitConfig",
    "TargetConfig",
    "TestFileConfig",
    "TokensConfig",
    "TrainingConfig",
    "TransformerConfig",
    "load_config",
]
