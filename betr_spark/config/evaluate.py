"""Configuration of `betr-spark evaluate`."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from betr_spark.config.base import Model, Seed
from betr_spark.config.targets import TargetConfig

Fraction = Annotated[float, Field(gt=0.0, le=1.0)]
SetName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class TransformerConfig(Model):
    """A small Llama decoder, trained from scratch on each selection; `device: auto` uses a GPU if there is one.

    `width` is the size of a token's vector, `context` the number of tokens in a window, `batch_size` the windows in a step.
    """

    layers: int = Field(default=4, ge=1, le=100)
    width: int = Field(default=256, ge=16, le=2**14)
    heads: int = Field(default=4, ge=1, le=128)
    context: int = Field(default=256, ge=8, le=2**14)
    batch_size: int = Field(default=16, ge=1, le=2**14)
    epochs: int = Field(default=1, ge=1, le=1_000)
    lr: float = Field(default=2e-3, gt=0.0)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    seed: Seed = 0

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Self:
        if self.width % (2 * self.heads):
            raise ValueError(f"width: {self.width} is not a multiple of 2 x heads ({2 * self.heads})")
        return self


class EvaluateConfig(Model):
    """Small language models trained on what each selection's scorer ranks first in a pool of documents, and on random controls.

    The pool is `documents` survivors, chosen by a hash. `general` more survivors are ordinary text that no model is trained on.
    `budgets` are fractions of the pool's tokens. Items are those of the benchmarks' `test` files and of `off_target` files.
    `model: ngram` takes seconds for each selection, `transformer` minutes on a CPU.
    """

    documents: int = Field(default=30_000, ge=10, le=2_000_000)
    general: int = Field(default=500, ge=2, le=20_000)
    budgets: tuple[Fraction, ...] = Field(default=(0.03, 0.1, 0.3), min_length=1)
    seeds: int = Field(default=5, ge=3, le=100)
    items: int = Field(default=1_000, ge=2, le=20_000)
    vocabulary: int = Field(default=8_192, ge=300, le=2**16)
    model: Literal["ngram", "transformer"] = "ngram"
    transformer: TransformerConfig = TransformerConfig()
    order: int = Field(default=4, ge=1, le=4)
    off_target: dict[SetName, TargetConfig] = Field(default_factory=dict)
