"""Files of benchmarks, and the folders that Hugging Face `datasets` writes."""

import hashlib
import json
import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

from pyspark.sql import SparkSession

from betr_spark.config import Config
from betr_spark.config.targets import TargetConfig
from betr_spark.errors import BetrSparkError, DataError
from betr_spark.storage import hadoop_files
from betr_spark.targets.examples import (
    Content,
    Example,
    balanced,
    check_not_in_test,
    distinct,
    examples_of,
    renderer,
)

_logger = logging.getLogger(__name__)


class Benchmark(NamedTuple):
    """Content of a benchmark's train file, and of its test file if it has one."""

    train: Content
    test: Content | None

    def digest(self) -> str:
        """Digest of the train file."""
        parts = self.train if isinstance(self.train, list) else [self.train]
        return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def read_content(spark: SparkSession, path: str) -> Content:
    """Read a file, or the Arrow files of a folder that `Dataset.save_to_disk` wrote.

    Raises:
        DataError: the path does not exist, or is another folder.
    """
    if not hadoop_files.exists(spark, path) or hadoop_files.is_file(spark, path):
        return hadoop_files.read_bytes(spark, path)
    if hadoop_files.exists(spark, f"{path}/dataset_dict.json"):
        splits = _listed(spark, f"{path}/dataset_dict.json", "splits")
        raise DataError(
            f"{path}: holds the splits {', '.join(splits)}; name one of them, for example {path}/{splits[0]}"
        )
    if not hadoop_files.exists(spark, f"{path}/state.json"):
        raise DataError(f"{path}: is a folder; a file is required, or a folder that `Dataset.save_to_disk` wrote")
    names = [part["filename"] for part in _listed(spark, f"{path}/state.json", "_data_files")]
    return [hadoop_files.read_bytes(spark, f"{path}/{name}") for name in names]


def _listed(spark: SparkSession, path: str, key: str) -> list[Any]:
    """Return the list under a key of a JSON file of `datasets`."""
    try:
        values = json.loads(hadoop_files.read_bytes(spark, path))[key]
    except (ValueError, KeyError, TypeError):
        values = None
    if not isinstance(values, list) or not values:
        raise DataError(f"{path}: damaged: a JSON object with a list '{key}' is required; save the dataset again")
    return values


def read_benchmark(spark: SparkSession, target: TargetConfig) -> Benchmark:
    """Read a benchmark's files."""
    test = None if target.test is None else read_content(spark, target.test)
    return Benchmark(read_content(spark, target.path), test)


def examples_and_items(name: str, target: TargetConfig, benchmark: Benchmark) -> tuple[list[Example], list[Example]]:
    """Parse the train examples and the test items of a benchmark.

    Raises:
        ConfigError: the template is malformed.
        DataError: a file cannot be parsed, or an example is in the test file; names file, line and field.
    """
    examples = examples_of(name, target, benchmark.train)
    if benchmark.test is None:
        return examples, []
    items = examples_of(name, target.model_copy(update={"path": target.test}), benchmark.test)
    check_not_in_test(name, target, examples, items)
    return examples, items


def targets_of(targets: Mapping[str, TargetConfig], benchmarks: Mapping[str, Benchmark]) -> list[Example]:
    """Return the targets: distinct examples, the same number for each benchmark. Logs how many were repeated.

    Raises:
        ConfigError, DataError: as `examples_and_items`; or an earlier benchmark has all examples of a benchmark.
    """
    examples = {name: examples_and_items(name, target, benchmarks[name])[0] for name, target in targets.items()}
    left, repeated = distinct(examples)
    if lines := _all_repeated(targets, left):
        raise DataError(*lines)
    for name, count in repeated.items():
        if count:
            _logger.info("targets.%s: dropped %d of %d examples as repeated", name, count, len(examples[name]))
    return balanced(left, {name: target.examples for name, target in targets.items()})


def _all_repeated(targets: Mapping[str, TargetConfig], left: Mapping[str, list[Example]]) -> list[str]:
    return [
        f"{targets[name].path}: every example of targets.{name} is also in an earlier benchmark; remove one of them"
        for name, examples in left.items()
        if not examples
    ]


def target_problems(spark: SparkSession, targets: Mapping[str, TargetConfig]) -> list[str]:
    """Everything that is wrong with the files and templates of the targets, one line each."""
    problems: list[str] = []
    examples: dict[str, list[Example]] = {}
    for name, target in targets.items():
        try:
            examples[name] = examples_and_items(name, target, read_benchmark(spark, target))[0]
        except BetrSparkError as error:
            problems += str(error).splitlines()
    return problems or _all_repeated(targets, distinct(examples)[0])


def template_problems(targets: Mapping[str, TargetConfig]) -> list[str]:
    """Everything that is wrong with the templates of the targets, one line each; reads no file."""
    problems: list[str] = []
    for name, target in targets.items():
        try:
            renderer(name, target)
        except BetrSparkError as error:
            problems += str(error).splitlines()
    return problems


def read_targets(spark: SparkSession, config: Config) -> dict[str, Benchmark]:
    """Read the files of all benchmarks."""
    return {name: read_benchmark(spark, target) for name, target in config.targets.items()}
