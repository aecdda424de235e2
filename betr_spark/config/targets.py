"""Benchmarks: where their examples are and how a row becomes a text."""

from collections.abc import Mapping
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


def check_splits(used: Mapping[str, TargetConfig]) -> None:
    """Raise ValueError if a file that one use divides into examples and test items is read in another way by another use.

    The hash of a row's text decides, so only the same split and the same template give the same test items.

    Args:
        used: everything that reads a benchmark's file, by its key.
    """
    for key, target in used.items():
        for other, user in used.items():
            same = (user.split, user.template, user.jinja) == (target.split, target.template, target.jinja)
            if target.split is not None and user.path == target.path and not same:
                raise ValueError(
                    f"{other}.path: {key}.split makes test items of a part of the rows of {target.path}; give both the same "
                    "split and the same template, or give them different files"
                )
