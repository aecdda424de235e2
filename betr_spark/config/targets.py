"""Benchmarks: where their examples are and how a row becomes a text."""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from betr_spark.config.base import Model


class SplitConfig(Model):
    """A benchmark that has one file.

    Attributes:
        test: about this share of its rows, by a hash of the text, are test items.
    """

    test: float = Field(gt=0.0, lt=1.0)


class TargetConfig(Model):
    """The TRAIN examples of one benchmark: JSON Lines, Parquet, or a folder written by Hugging Face `datasets`.

    `template` names the file's fields. `jinja` is a Jinja template instead, for optional fields, lists and choices. `examples`
    limits their number. `test` is the benchmark's test file; its items are never targets. Instead of it, `split` makes a part
    of the rows of `path` test items. With `balance: none` all examples are used, however few the other benchmarks have.
    """

    added_later: ClassVar[frozenset[str]] = frozenset({"balance", "split"})

    path: str = Field(min_length=1)
    template: str | None = Field(default=None, min_length=1)
    jinja: str | None = Field(default=None, min_length=1)
    format: Literal["parquet", "json", "dataset"] | None = None
    examples: int | None = Field(default=None, ge=1)
    test: str | None = Field(default=None, min_length=1)
    balance: Literal["equal", "none"] = "equal"
    split: SplitConfig | None = None

    @model_validator(mode="after")
    def _one_template(self) -> Self:
        if (self.template is None) == (self.jinja is None):
            given = "none" if self.jinja is None else "both"
            raise ValueError(f"exactly one of template, jinja is required; found {given}")
        return self

    @model_validator(mode="after")
    def _test_items_come_from_one_place(self) -> Self:
        if self.test is not None and self.split is not None:
            raise ValueError("test and split cannot both be given; split is for a benchmark without a test file")
        return self

    def test_path(self) -> str | None:
        """The file that has the test items: `test`, or with `split` the examples' own; None if there are no test items."""
        return self.path if self.split is not None else self.test
