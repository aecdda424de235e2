"""The benchmarks of a configuration: their files, their examples, and everything that is wrong with them."""

import hashlib
import logging
from collections.abc import Mapping
from typing import NamedTuple

from pyspark.sql import SparkSession

from betr_spark.config import Config
from betr_spark.config.targets import TargetConfig
from betr_spark.errors import BetrSparkError, DataError
from betr_spark.storage import hadoop_files
from betr_spark.targets.choice import balanced, check_not_in_test, distinct, parts_of
from betr_spark.targets.content import content_of
from betr_spark.targets.examples import Content, Example, examples_of, renderer

_logger = logging.getLogger(__name__)


class Benchmark(NamedTuple):
    """Content of a benchmark's train file, and of its test file if it has one."""

    train: Content
    test: Content | None

    def digest(self) -> str:
        """Digest of the train file."""
        parts = self.train if isinstance(self.train, list) else [self.train]
        return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def read_content(spark: SparkSession, path: str, *, where: str = "") -> Content:
    """Read a file, or the Arrow files of a folder that `Dataset.save_to_disk` wrote.

    Args:
        spark: the session.
        path: of the file or folder.
        where: key of the configuration that names the path, for messages.

    Raises:
        DataError: the path does not exist, or is another folder.
    """
    try:
        return content_of(_HadoopFiles(spark), path)
    except DataError as error:
        raise DataError(*[f"{where}: {line}" if where else line for line in error.args]) from None


class _HadoopFiles(NamedTuple):
    """Files that the session can read."""

    spark: SparkSession

    def exists(self, path: str) -> bool:
        return hadoop_files.exists(self.spark, path)

    def is_file(self, path: str) -> bool:
        return hadoop_files.is_file(self.spark, path)

    def read_bytes(self, path: str) -> bytes:
        return hadoop_files.read_bytes(self.spark, path)


def read_benchmark(spark: SparkSession, where: str, target: TargetConfig) -> Benchmark:
    """Read a benchmark's files.

    Args:
        spark: the session.
        where: key of the benchmark in the configuration, for messages.
        target: its settings.

    Raises:
        DataError: a file does not exist, or cannot be read; names the key.
    """
    test = None if target.test is None else read_content(spark, target.test, where=f"{where}.test")
    return Benchmark(read_content(spark, target.path, where=f"{where}.path"), test)


def examples_and_items(name: str, target: TargetConfig, benchmark: Benchmark) -> tuple[list[Example], list[Example]]:
    """Parse the train examples and the test items of a benchmark, which with `split` are in one file.

    Raises:
        ConfigError: the template is malformed.
        DataError: a file cannot be parsed, an example is in the test file, or `split` leaves a part empty; names file, line and
            field.
    """
    examples, items = parts_of(name, target, examples_of(name, target, benchmark.train))
    if benchmark.test is None:
        return examples, items
    items = examples_of(name, target.model_copy(update={"path": target.test}), benchmark.test)
    check_not_in_test(name, target, examples, items)
    return examples, items


def targets_of(targets: Mapping[str, TargetConfig], benchmarks: Mapping[str, Benchmark]) -> list[Example]:
    """Return the targets: distinct examples, the same number for each benchmark with `balance: equal`.

    Logs how many were repeated.

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
    caps = {name: target.examples for name, target in targets.items()}
    return balanced(left, caps, unbalanced=[name for name, target in targets.items() if target.balance == "none"])


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
            examples[name] = examples_and_items(name, target, read_benchmark(spark, f"targets.{name}", target))[0]
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
    return {name: read_benchmark(spark, f"targets.{name}", target) for name, target in config.targets.items()}
