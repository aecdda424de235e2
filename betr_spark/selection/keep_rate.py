"""Published keep rates: which fraction of a corpus's tokens to keep for a training run.

The laws are fits to filters of 3, 10, 30 and 100 % of tokens for 1e19 to 1e22 FLOPs, in per cent of tokens (arXiv 2507.12466).
"""

from collections.abc import Mapping
from typing import NamedTuple

from betr_spark.config import TrainingConfig

VALID_FLOPS = (1e19, 1e22)
_LAWS: Mapping[str, tuple[float, float]] = {  # per cent = factor * size ** exponent
    "nemotron-cc": (4e-5, 0.25),
    "dclm-refinedweb": (6e-3, 0.14),
    "fixed-6.6b": (0.26, 0.13),
}


class KeepRate(NamedTuple):
    """A fraction of tokens in (0, 1], and whether the training run is in the range that the law was fitted to."""

    fraction: float
    in_range: bool


def keep_rate(training: TrainingConfig) -> KeepRate:
    """Apply the law of a training run; more than all is all."""
    factor, exponent = _LAWS[training.law]
    size = (training.tokens or 0.0) if training.law == "fixed-6.6b" else training.compute()
    low, high = VALID_FLOPS
    return KeepRate(min(1.0, factor * size**exponent / 100), low <= training.compute() <= high)
