"""How `betr-spark evaluate` measures whether selections help."""

from typing import Annotated

from pydantic import Field

from betr_spark.config_scorers import Model, TargetConfig

Fraction = Annotated[float, Field(gt=0.0, le=1.0)]
SetName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class EvaluateConfig(Model):
    """Small language models on what each selection's scorer puts first in a pool of documents, beside random controls.

    The pool is `documents` survivors, chosen by a hash; `general` more of them are a slice of ordinary text that no model sees.
    `budgets` are fractions of the pool's tokens. Items are those of the benchmarks' `test` files and of `off_target` files.
    """

    documents: int = Field(default=30_000, ge=10, le=2_000_000)
    general: int = Field(default=500, ge=2, le=100_000)
    budgets: tuple[Fraction, ...] = Field(default=(0.03, 0.1, 0.3), min_length=1)
    seeds: int = Field(default=3, ge=3, le=100)
    items: int = Field(default=1_000, ge=2, le=1_000_000)
    vocabulary: int = Field(default=8_192, ge=300, le=2**16)
    order: int = Field(default=4, ge=1, le=4)
    off_target: dict[SetName, TargetConfig] = Field(default_factory=dict)
