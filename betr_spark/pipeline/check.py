"""Everything that can be found wrong before any work, all of it at once."""

from collections.abc import Callable

from pyspark.sql import SparkSession

from betr_spark.config import Config
from betr_spark.corpus.input_schema import input_schema
from betr_spark.errors import BetrSparkError
from betr_spark.ranking import stage as ranking
from betr_spark.spark.session import build_session
from betr_spark.storage.hadoop_files import check_writable
from betr_spark.targets.examples import examples_of
from betr_spark.targets.reading import read_content
from betr_spark.training import stage as training


def problems(config: Config, spark: SparkSession | None = None) -> list[str]:
    """List what is wrong with model, Java, jars, targets, input and output, one line each; empty where nothing is.

    Without Java the files cannot be looked at; templates and the model still are.
    """
    found: list[str] = []

    def look(check: Callable[[], object]) -> None:
        try:
            check()
        except BetrSparkError as error:
            found.extend(str(error).splitlines())

    if spark is None:
        try:
            spark = build_session()
        except BetrSparkError as error:
            return [*ranking.problems(None, config), str(error)]
    session = spark
    found.extend(ranking.problems(session, config))
    for name, off in config.evaluate.off_target.items():
        look(lambda name=name, off=off: examples_of(name, off, read_content(session, off.path)))  # type: ignore[misc]
    columns = None

    def look_at_input() -> None:
        nonlocal columns
        schema = input_schema(session, config.input)
        if config.input.format != "json":  # a JSON line has no schema
            columns = {field.name: field.dataType for field in schema}

    look(look_at_input)
    found.extend(training.problems(session, config, columns))
    look(lambda: check_writable(session, config.output))
    return found
