"""Everything that can be found wrong before any work, all of it at once."""

from collections.abc import Callable

from pyspark.sql import SparkSession

from betr_spark.config import Config
from betr_spark.corpus.snapshot import InputSnapshot
from betr_spark.errors import BetrSparkError
from betr_spark.ranking.encoder import check_encoder
from betr_spark.spark.session import build_session
from betr_spark.storage.hadoop_files import check_writable
from betr_spark.targets.examples import examples_of, renderer
from betr_spark.targets.reading import examples_and_items, read_benchmark, read_content


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

    if config.ranks():
        look(lambda: check_encoder(config.encoder))
    if spark is None:
        try:
            spark = build_session()
        except BetrSparkError as error:
            for name, target in config.targets.items():
                look(lambda name=name, target=target: renderer(name, target))  # type: ignore[misc]
            return [*found, str(error)]
    session = spark
    for name, target in config.targets.items():
        look(lambda name=name, target=target: examples_and_items(name, target, read_benchmark(session, target)))  # type: ignore[misc]
    for name, off in config.evaluate.off_target.items():
        look(lambda name=name, off=off: examples_of(name, off, read_content(session, off.path)))  # type: ignore[misc]
    look(lambda: InputSnapshot.current(session, config))
    look(lambda: check_writable(session, config.output))
    return found
