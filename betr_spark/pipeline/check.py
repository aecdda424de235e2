"""Everything that can be wrong before any work, all of it at once."""

from collections.abc import Iterator, Sequence

from pyspark.sql import SparkSession

from betr_spark import schemas
from betr_spark.config import Config
from betr_spark.errors import BetrSparkError, DataError
from betr_spark.evaluate.stage import Evaluate
from betr_spark.pipeline.run import plan, stages_of
from betr_spark.pipeline.stage import RunContext, Stage
from betr_spark.ranking.encoder import check_encoder
from betr_spark.spark.error_messages import problems_of, translated
from betr_spark.spark.jobs import described
from betr_spark.spark.session import build_session
from betr_spark.storage.hadoop_files import check_writable, qualified
from betr_spark.targets.reading import template_problems

_NAMES = frozenset({
    schemas.DUPLICATES_TABLE, schemas.FEATURES_TABLE, schemas.QUARANTINE_TABLE, schemas.RANKED_SAMPLE_TABLE, schemas.RUNS_TABLE,
    "scorers", "selected",
})  # fmt: skip


def problems(config: Config, spark: SparkSession | None = None) -> list[str]:
    """List what is wrong with Java, jars, model, targets, input and output, one line each; empty if nothing is.

    Without Java no file can be read; templates and the model are checked all the same.
    """
    try:
        context = RunContext(spark or build_session(), config)
    except BetrSparkError as error:
        return [*_without_spark(config), *error.args]
    return problems_of_run(context)


def problems_of_run(context: RunContext) -> list[str]:
    """List what would stop a run, or a later `evaluate`, one line each; the run then uses the same input snapshot."""
    with described(context.spark, "check: look at the inputs", group=context.run_id):
        return _problems(context)


def _problems(context: RunContext) -> list[str]:
    stages = stages_of(context.config)
    lines = [line for stage in (*stages, Evaluate()) for line in stage.problems(context)]
    lines += missing_requirements(context, stages)
    if not lines:
        lines += problems_of(lambda: _check_apart(context))
    lines += problems_of(lambda: check_writable(context.spark, context.config.output))
    return list(dict.fromkeys(lines))


def missing_requirements(context: RunContext, stages: Sequence[Stage]) -> list[str]:
    """List what the work of some stages needs and this machine lacks, one line each; empty if they are all up to date."""
    lines = {stage.name: list(stage.requirements(context)) for stage in stages}
    if not any(lines.values()):
        return []
    try:
        with translated():
            working = {planned.stage.name for planned in plan(context) if planned.work}
    except BetrSparkError:  # one of the problems of the stages, which are listed on their own
        working = set(lines)
    if context.again:
        working |= {stage.name for stage in stages if stage.rebuilds}
    return [line for stage in stages if stage.name in working for line in lines[stage.name]]


def _check_apart(context: RunContext) -> None:
    """The tables of the output must not be read as documents, nor written over the input."""
    source, output = (qualified(context.spark, path) for path in (context.config.input.path, context.config.output))
    first = source.removeprefix(f"{output}/").partition("/")[0]
    is_table = source.startswith(f"{output}/") and (first in _NAMES or first.startswith("_"))
    if source == output or output.startswith(f"{source}/") or is_table:
        raise DataError(f"output: {output}: overlaps with input.path: {source}; choose another folder")


def _without_spark(config: Config) -> Iterator[str]:
    if config.needs_target_ranking():
        yield from problems_of(lambda: check_encoder(config.encoder))
    yield from template_problems(config.targets)
