"""Configuration of the search for test items in the documents."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from betr_spark.config.base import Model
from betr_spark.config.targets import SplitConfig, TargetConfig

TestName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
_Template = Annotated[str, Field(min_length=1)]


class TestFileConfig(Model):
    """A file of test items: JSON Lines, Parquet, or a folder written by Hugging Face `datasets`.

    `template`, or `jinja`, makes the text of an item. `question` and `answer` are templates of the two parts of an item, by
    which items of few words are found.
    """

    __test__ = False  # not a class of tests

    path: str = Field(min_length=1)
    template: _Template | None = None
    jinja: _Template | None = None
    format: Literal["parquet", "json", "dataset"] | None = None
    question: _Template | None = None
    answer: _Template | None = None

    @model_validator(mode="after")
    def _templates_agree(self) -> Self:
        if (self.template is None) == (self.jinja is None):
            given = "none" if self.jinja is None else "both"
            raise ValueError(f"exactly one of template, jinja is required; found {given}")
        if (self.question is None) != (self.answer is None):
            raise ValueError("question and answer are required together")
        return self

    def texts(self) -> TargetConfig:
        """How the items' texts are read."""
        return TargetConfig(path=self.path, template=self.template, jinja=self.jinja, format=self.format)

    def part(self, template: str) -> TargetConfig:
        """How a part of the items is read."""
        return TargetConfig(path=self.path, template=template, format=self.format)


class SplitFileConfig(TestFileConfig):
    """The file of a target with `split`: a part of its rows are test items. Not a section of the configuration's file."""

    split: SplitConfig

    def texts(self) -> TargetConfig:
        """How the rows' texts are read, and which rows are items."""
        return super().texts().model_copy(update={"split": self.split})


class DecontaminateConfig(Model):
    """Test items that are looked for in the documents, and what happens to documents that have them.

    The test files of the targets are always among them. An n-gram has as many words as the item, at least the first number of
    `ngram` and at most the second. `action: drop` keeps documents with a test item out of the sample and of every selection. A
    document counts only if it has at least the share `min_coverage` of the item's words, and an n-gram of the item that at most
    `common` documents have (None: any number).
    """

    tests: dict[TestName, TestFileConfig] = Field(default_factory=dict)
    ngram: tuple[Annotated[int, Field(ge=2, le=100)], Annotated[int, Field(ge=2, le=1_000)]] = (8, 13)
    action: Literal["report", "drop"] = "report"
    min_coverage: float = Field(default=0.0, ge=0.0, le=1.0)
    common: int | None = Field(default=10_000, ge=1)

    @model_validator(mode="after")
    def _ngram_ascends(self) -> Self:
        if self.ngram[0] > self.ngram[1]:
            raise ValueError(f"ngram: [{self.ngram[0]}, {self.ngram[1]}]: the first number is above the second")
        return self

    def files(self, targets: Mapping[str, TargetConfig]) -> dict[str, TestFileConfig]:
        """All test files by benchmark: those of the targets, unless `tests` has the benchmark, and those of `tests`."""
        of_targets = {
            name: _test_file(target, path)
            for name, target in targets.items()
            if (path := target.test_path()) is not None
        }
        return {**of_targets, **self.tests}


def _test_file(target: TargetConfig, path: str) -> TestFileConfig:
    settings = {"path": path, **target.model_dump(include={"template", "jinja", "format", "split"})}
    return TestFileConfig(**settings) if target.split is None else SplitFileConfig(**settings)
