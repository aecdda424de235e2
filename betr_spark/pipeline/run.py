"""The stages in the order of the data, and what each of them would do."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pyspark.sql import SparkSession

from betr_spark.config import Config
from betr_spark.contamination import stage as contamination
from betr_spark.dedup.stage import Dedup
from betr_spark.features.stage import Features
from betr_spark.pipeline.runner import run_stages
from betr_spark.pipeline.stage import RunContext, Stage
from betr_spark.ranking import stage as ranking
from betr_spark.selection import stage as selection
from betr_spark.storage import runs
from betr_spark.storage.runs import StageRun
from betr_spark.training import stage as training

COMMANDS = ("rank", "train", "features", "decontaminate", "dedup", "select")  # each runs stages of `run`


class Planned(NamedTuple):
    """What a run would do with a stage: `work` is False where its output is up to date; `why` is the reason."""

    stage: Stage
    work: bool
    why: str


def stages_of(config: Config, command: str | None = None) -> list[Stage]:
    """All stages of a configuration in the order of the data, or those of one command."""
    every = [
        *ranking.stages(config), *training.stages(config), Features(), *contamination.stages(config), Dedup(),
        *selection.stages(config),
    ]  # fmt: skip
    return [stage for stage in every if command in (None, stage.command)]


def stages_after_forget(config: Config) -> list[Stage]:
    """The stages that look at the documents again after some were forgotten."""
    return [stage for stage in stages_of(config) if stage.command in ("decontaminate", "dedup", "select")]


def run_all(spark: SparkSession, config: Config, command: str | None = None, *, again: bool = False) -> list[StageRun]:
    """Run every stage, or those of one command; those that are up to date are skipped."""
    return run_stages(RunContext(spark, config, again=again), stages_of(config, command))


def plan(context: RunContext) -> Iterator[Planned]:
    """Tell what a run of all stages would do now. Nothing is written; all stages after one that has work have work too."""
    working: list[str] = []
    for stage in stages_of(context.config):
        earlier = [command for command in working if command != stage.command]
        if earlier:
            planned = Planned(stage, True, f"after {earlier[-1]}")
        elif (last_run := stage.made_by(context)) is None:
            exists = runs.all_exist(context.spark, stage.outputs(context.config)[:1])
            planned = Planned(stage, True, "not finished" if exists else "never run")
        else:
            changes = runs.changes(last_run, stage.key(context))
            planned = Planned(stage, bool(changes), changes or "up to date")
        if planned.work:
            working.append(stage.command)
        yield planned


def outlook(context: RunContext) -> Iterator[tuple[Planned, str | None]]:
    """What a run of all stages would do, with an estimate of a stage's time: from a measurement now, or from its last run."""
    for planned in plan(context):
        estimate = planned.stage.estimate(context) or _last_run(planned.stage, context) if planned.work else None
        yield planned, estimate


def _last_run(stage: Stage, context: RunContext) -> str | None:
    """What the last run of the stage on this output cost."""
    run = stage.made_by(context)
    if run is None:
        return None
    rows = f" for {run.rows_in:,} rows" if run.rows_in else ""
    return f"the last run took {run.seconds:.1f} s ({run.work.task_seconds:.1f} task seconds){rows}"


def behind(context: RunContext, commands: Sequence[str]) -> Iterator[str]:
    """Stages of some commands that have work, a line each."""
    for stage, work, why in plan(context):
        if work and stage.command in commands:
            yield f"{context.config.output}: {stage.name} is not up to date ({why}); run `betr-spark run`"
