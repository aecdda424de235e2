"""Benchmarks: where their examples are and how a row becomes a text."""

from typing import Literal, Self

from pydantic import Field, model_validator

from betr_spark.config.base import Model


class TargetConfig(Model):
    """The TRAIN examples of one benchmark: JSON Lines, Parquet, or a folder written by Hugging Face `datasets`.

    `template` names the file's fields. `jinja` is a Jinja template instead, for optional fields, lists and choices. `examples`
    limits their number. `test` is the benchmark's test file; its items are never targets.
    """

    path: str = Field(min_length=1)
    template: str | None = Field(default=None, min_length=1)
    jinja: str | None = Field(default=None, min_length=1)
    format: Literal["parquet", "json", "dataset"] | None = None
    examples: int | None = Field(default=None, ge=1)
    test: str | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _one_template(self) -> Self:
        if (self.template is None) == (self.jinja is None):
            given = "none" if self.jinja is None else "both"
            raise ValueError(f"exactly one of template, jinja is required; found {given}")
        return self
