"""Test items as the configuration names them: files of benchmarks, read on the driver."""

import hashlib
from collections.abc import Iterator

from pyspark.sql import SparkSession

from betr_spark.config import Config, TestFileConfig
from betr_spark.contamination.items import Item
from betr_spark.schemas import CONTAMINATION
from betr_spark.spark.error_messages import problems_of
from betr_spark.storage.runs import StageKey
from betr_spark.targets.choice import parts_of
from betr_spark.targets.examples import Content, examples_of
from betr_spark.targets.reading import read_content


def read_items(spark: SparkSession, config: Config) -> list[Item]:
    """Read all test items, in the order of the configuration and of the files; none without `decontaminate`.

    Raises:
        ConfigError: a template is malformed.
        DataError: a file cannot be read or parsed; names file, line and field.
    """
    return [
        item for benchmark in _files(config) for item in _items(config, benchmark, _content(spark, config, benchmark))
    ]


def item_problems(spark: SparkSession, config: Config) -> Iterator[str]:
    """Everything that is wrong with the test files and their templates."""
    for benchmark in _files(config):
        yield from problems_of(
            lambda name=benchmark: _items(config, name, _content(spark, config, name))  # type: ignore[misc]
        )


def items_key(spark: SparkSession, config: Config) -> dict[str, object]:
    """What rows of `contamination` depend on besides documents, for keys: settings, and the content of the files."""
    settings = config.decontaminate
    if settings is None:
        return {}
    files = {
        name: {**file.model_dump(exclude={"path"}), "content": _digest(_content(spark, config, name))}
        for name, file in _files(config).items()
    }
    return {"files": files, "ngram": list(settings.ngram), "min_coverage": settings.min_coverage}


def search_key(spark: SparkSession, config: Config) -> dict[str, object]:
    """`items_key`, and the columns of the rows."""
    return {**items_key(spark, config), "columns": CONTAMINATION}


def looked_for_by(spark: SparkSession, config: Config, checkpoint: str) -> str:
    """What the batches of a checkpoint of `features` look for: a digest, empty without `decontaminate`."""
    if config.decontaminate is None:
        return ""
    return f"{checkpoint}:{StageKey.of('decontaminate', search_key(spark, config)).key}"


def _files(config: Config) -> dict[str, TestFileConfig]:
    return config.decontaminate.files(config.targets) if config.decontaminate is not None else {}


def _content(spark: SparkSession, config: Config, benchmark: str) -> Content:
    return read_content(spark, _files(config)[benchmark].path)


def _items(config: Config, benchmark: str, content: Content) -> list[Item]:
    file, own = _files(config)[benchmark], config.decontaminate.tests if config.decontaminate else {}
    where = "decontaminate.tests" if benchmark in own else "targets"
    examples = examples_of(benchmark, file.texts(), content, where_from=where)
    if file.texts().split is not None:
        examples = parts_of(benchmark, file.texts(), examples).test
    if file.question is None or file.answer is None:
        return [Item(benchmark, example.row, example.text) for example in examples]
    parts = [
        examples_of(benchmark, file.part(template), content, where_from=where, may_be_empty=True)
        for template in (file.question, file.answer)
    ]
    return [
        Item(benchmark, example.row, example.text, question.text, answer.text)
        for example, question, answer in zip(examples, *parts, strict=True)
    ]


def _digest(content: Content) -> str:
    parts = content if isinstance(content, list) else [content]
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()
