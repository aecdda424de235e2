"""Files of benchmarks, and the folders that Hugging Face `datasets` saves them in."""

import hashlib
import json
import logging
from collections.abc import Mapping
from typing import NamedTuple

from pyspark.sql import SparkSession

from betr_spark.config import Config
from betr_spark.config.targets import TargetConfig
from betr_spark.errors import DataError
from betr_spark.storage import hadoop_files
from betr_spark.targets.examples import Content, Example, balanced, check_not_in_test, distinct, examples_of

_logger = logging.getLogger(__name__)


class Benchmark(NamedTuple):
    """Content of a benchmark's train file, and of its test file where there is one."""

    train: Content
    test: Content | None

    def digest(self) -> str:
        """Digest of the train file."""
        parts = self.train if isinstance(self.train, list) else [self.train]
        return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def read_content(spark: SparkSession, path: str) -> Content:
    """Read a file, or the Arrow files of a folder that `Dataset.save_to_disk` wrote.

    Raises:
        DataError: it is not there, or is another folder.
    """
    if not hadoop_files.exists(spark, path) or hadoop_files.is_file(spark, path):
        return hadoop_files.read_bytes(spark, path)
    if hadoop_files.exists(spark, f"{path}/dataset_dict.json"):
        found = json.loads(hadoop_files.read_bytes(spark, f"{path}/dataset_dict.json"))
        raise DataError(
            f"{path}: holds the splits {', '.join(found['splits'])}; name one of them, as {path}/{found['splits'][0]}"
        )
    if not hadoop_files.exists(spark, f"{path}/state.json"):
        raise DataError(f"{path}: is a folder; a file is wanted, or a folder that `Dataset.save_to_disk` wrote")
    names = [
        part["filename"] for part in json.loads(hadoop_files.read_bytes(spark, f"{path}/state.json"))["_data_files"]
    ]
    return [hadoop_files.read_bytes(spark, f"{path}/{name}") for name in names]


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
    """Give the targets: distinct examples, as many of each benchmark; says what was repeated.

    Raises:
        ConfigError, DataError: as `examples_and_items`; or all examples of a benchmark stand in earlier ones.
    """
    found = {name: examples_and_items(name, target, benchmarks[name])[0] for name, target in targets.items()}
    left, repeated = distinct(found)
    for name, count in repeated.items():
        if count:
            _logger.info("targets.%s: %d of %d examples are repeated and left out", name, count, len(found[name]))
        if not left[name]:
            raise DataError(f"{targets[name].path}: every example of targets.{name} stands in an earlier benchmark")
    return balanced(left, {name: target.examples for name, target in targets.items()})


def read_targets(spark: SparkSession, config: Config) -> dict[str, Benchmark]:
    """Read the files of all benchmarks."""
    return {name: read_benchmark(spark, target) for name, target in config.targets.items()}
