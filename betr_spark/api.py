"""The Python API: what `betr-spark run` does, as functions; names for users are imported from `betr_spark`."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pyspark.sql import DataFrame

from betr_spark.config import Config, load_config
from betr_spark.errors import ConfigError
from betr_spark.pipeline.invocation import checked_stages, writing_context
from betr_spark.pipeline.run import COMMANDS, stages_of
from betr_spark.pipeline.runner import run_stages
from betr_spark.spark.error_messages import translated
from betr_spark.spark.session import build_session
from betr_spark.storage import delta
from betr_spark.storage.runs import StageRun

Source = Config | str | Path | Mapping[str, Any]


class StageResult(NamedTuple):
    """A finished stage.

    Attributes:
        name: of the stage, such as `features` or `select/betr-10`.
        skipped: whether its output was up to date; then all figures are of the run that wrote it.
        seconds: of the run.
        rows_in: its input rows.
        rows_out: rows of its table.
        dropped: rows that are not in its table, by reason.
        metrics: its figures, by name.
    """

    name: str
    skipped: bool
    seconds: float
    rows_in: int
    rows_out: int
    dropped: Mapping[str, int]
    metrics: Mapping[str, float]


class RunResult(NamedTuple):
    """A finished run.

    Attributes:
        output: folder of the tables.
        run_id: id of the run in the table `runs`.
        stages: in the order in which they ran.
        selections: path of the table of each selection, by name.
    """

    output: str
    run_id: str
    stages: tuple[StageResult, ...]
    selections: Mapping[str, str]

    @property
    def up_to_date(self) -> bool:
        """Whether there was nothing to do."""
        return all(stage.skipped for stage in self.stages)


def run(config: Source, *, command: str | None = None, again: bool = False, wait_s: float = 0.0) -> RunResult:
    """Run all stages, or those of one command; those that are up to date are skipped.

    Spark's session of this process is used if there is one, as in a notebook of Databricks; else one is started, as the command
    line does. The run holds the output's lease. Nothing is configured that belongs to the caller: log lines go to the loggers
    below `betr_spark`.

    Example:
        >>> from betr_spark import run
        >>> result = run("conf.yaml")
        >>> [stage.name for stage in result.stages][:4]
        ['rank/sample', 'rank', 'train/betr', 'features']
        >>> result.up_to_date  # it ran before
        True
        >>> sorted(result.selections)
        ['best-50', 'betr-30', 'random-30']

    Args:
        config: a configuration, the path of its YAML file, or its keys as a mapping.
        command: `rank`, `train`, `features`, `decontaminate`, `dedup` or `select`; without it, all of them.
        again: repeat the ranking and the training even where they are up to date.
        wait_s: seconds to wait for another run on the same output to end.

    Returns:
        One record for each stage, and where the selections are.

    Raises:
        ConfigError: the configuration is invalid; one line for each problem.
        CheckError: what `betr-spark check` finds; one line for each problem, before any work.
        LockedError: another run holds the output.
        BetrSparkError: any other error that the user can fix, such as a full disk; its subclass names the kind.
    """
    settings = _config(config)
    if command not in (None, *COMMANDS):
        raise ConfigError(f"command: '{command}' is not one of {', '.join(COMMANDS)}")
    with translated():
        name = command or "run"
        context = writing_context(
            build_session(), settings, command=name, again=again, wait_s=wait_s, check=command is not None
        )
        stages = checked_stages(context, command)
        done = run_stages(context, stages) if stages else []
    written = [stage.name.partition("/")[2] for stage in stages_of(settings, "select") if command in (None, "select")]
    selections = {name: settings.table(f"selected/{name}") for name in written}
    return RunResult(settings.output, context.run_id, tuple(_result(stage_run) for stage_run in done), selections)


def read_selection(config: Source, name: str, *, version: int | None = None) -> DataFrame:
    """Read a selection that a run has written.

    Example:
        >>> from betr_spark import load_config, read_selection
        >>> config = load_config("conf.yaml")
        >>> best = read_selection(config, "best-50")
        >>> best.count()
        50
        >>> [row["rank"] for row in best.orderBy("rank").limit(3).collect()]
        [1, 2, 3]

    Args:
        config: a configuration, the path of its YAML file, or its keys as a mapping.
        name: of the selection.
        version: of the Delta table, as the table's history counts them; without it, the newest.

    Returns:
        The columns of the table `selected/NAME` (docs/tables.md), one row for each document, in no order.

    Raises:
        ConfigError: the configuration is invalid, or has no such selection.
        DataError: the selection is not written yet, or has no such version.
    """
    settings = _config(config)
    if name not in settings.selections:
        close = difflib.get_close_matches(name, settings.selections, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"found {', '.join(settings.selections) or 'none'}"
        raise ConfigError(f"config.selections: no selection '{name}'; {hint}")
    with translated():
        return delta.read(build_session(), settings.table(f"selected/{name}"), version=version)


def _config(source: Source) -> Config:
    return source if isinstance(source, Config) else load_config(source)


def _result(run: StageRun) -> StageResult:
    return StageResult(run.stage, run.skipped, run.seconds, run.rows_in, run.rows_out, run.dropped, run.metrics)
