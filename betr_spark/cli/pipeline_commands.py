"""Commands that run stages or tell about them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from betr_spark.cli import output
from betr_spark.cli.application import app
from betr_spark.cli.options import (
    AgainOption,
    ConfigOption,
    JsonOption,
    LogOption,
    SetOption,
    WaitOption,
    load,
    log_start,
    reading,
    writing,
)
from betr_spark.cli.plan_command import planned_stages
from betr_spark.logs import Format

if TYPE_CHECKING:
    from betr_spark.pipeline.stage import RunContext, Stage
    from betr_spark.storage.runs import StageRun

DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print what would be done; write nothing.")]


@app.command()
def run(
    config: ConfigOption, overrides: SetOption = None, dry_run: DryRunOption = False, wait: WaitOption = 0.0,
    as_json: JsonOption = False, log_format: LogOption = Format.TEXT,
) -> None:  # fmt: skip
    """Run all stages; those that are up to date are skipped."""
    settings = load(config, overrides)
    context = reading(settings) if dry_run else writing(settings, "run", wait_s=wait, check=False)
    from betr_spark.pipeline.invocation import checked_stages  # noqa: PLC0415

    stages = checked_stages(context)
    if dry_run:
        output.emit(*planned_stages(context))
    else:
        run_and_print(context, stages)


@app.command()
def status(
    config: ConfigOption, overrides: SetOption = None, as_json: JsonOption = False, log_format: LogOption = Format.TEXT
) -> None:
    """Print the state of each stage, when it ran, for how long, its rows, and which run holds the output."""
    settings = load(config, overrides)
    context = reading(settings)
    from betr_spark.pipeline.status import status_of  # noqa: PLC0415

    state = status_of(context)
    output.emit(state._asdict(), state.lines())


@app.command()
def check(
    config: ConfigOption, overrides: SetOption = None, as_json: JsonOption = False, log_format: LogOption = Format.TEXT
) -> None:
    """Check configuration, paths, schemas, model, Java and jars; report every problem at once."""
    settings = load(config, overrides)
    from betr_spark.pipeline.check import problems  # noqa: PLC0415

    output.stop_at(problems(settings))
    output.emit({"problems": []}, ["no problem found"])


@app.command()
def rank(
    config: ConfigOption, overrides: SetOption = None, again: AgainOption = False, wait: WaitOption = 0.0,
    as_json: JsonOption = False, log_format: LogOption = Format.TEXT,
) -> None:  # fmt: skip
    """Draw the sample, embed it, rank it by the benchmarks' examples."""
    _stage("rank", config, overrides, again=again, wait_s=wait)


@app.command()
def train(
    config: ConfigOption, overrides: SetOption = None, again: AgainOption = False, wait: WaitOption = 0.0,
    as_json: JsonOption = False, log_format: LogOption = Format.TEXT,
) -> None:  # fmt: skip
    """Train the scorers on the ranked sample."""
    _stage("train", config, overrides, again=again, wait_s=wait)


@app.command()
def features(
    config: ConfigOption, overrides: SetOption = None, wait: WaitOption = 0.0,
    as_json: JsonOption = False, log_format: LogOption = Format.TEXT,
) -> None:  # fmt: skip
    """Read the text of new documents once: hashes, MinHash bands, token counts, logits."""
    _stage("features", config, overrides, wait_s=wait)


@app.command()
def decontaminate(
    config: ConfigOption, overrides: SetOption = None, wait: WaitOption = 0.0,
    as_json: JsonOption = False, log_format: LogOption = Format.TEXT,
) -> None:  # fmt: skip
    """Look for test items of benchmarks in the documents."""
    _stage("decontaminate", config, overrides, wait_s=wait)


@app.command()
def dedup(
    config: ConfigOption, overrides: SetOption = None, wait: WaitOption = 0.0,
    as_json: JsonOption = False, log_format: LogOption = Format.TEXT,
) -> None:  # fmt: skip
    """Find exact and near-duplicates, and keep the best copy of each."""
    _stage("dedup", config, overrides, wait_s=wait)


@app.command()
def select(
    config: ConfigOption, overrides: SetOption = None, wait: WaitOption = 0.0,
    as_json: JsonOption = False, log_format: LogOption = Format.TEXT,
) -> None:  # fmt: skip
    """Write the selected documents of every selection."""
    _stage("select", config, overrides, wait_s=wait)


def run_and_print(context: "RunContext", stages: "list[Stage]") -> None:
    """Run stages and print a summary of each."""
    from betr_spark.pipeline.runner import run_stages  # noqa: PLC0415

    log_start()
    done = run_stages(context, stages)
    lines = [line for stage, stage_run in zip(stages, done, strict=True) for line in stage.summary(stage_run)]
    idle = all(stage_run.skipped for stage_run in done)
    if context.command == "run":
        lines += ["nothing to do: every table is up to date"] if idle else []
        lines.append(f"tables: {context.config.output}")
    document = {
        "command": context.command, "output": context.config.output, "run_id": context.run_id, "up_to_date": idle,
        "unit": context.config.input.tokens.unit,
        "stages": [record_of(stage_run) for stage_run in done],
    }  # fmt: skip
    output.emit(document, lines)


def record_of(stage_run: "StageRun") -> dict[str, Any]:
    """A stage's run for JSON; a skipped stage has the figures of the run that wrote its table."""
    names = (
        "stage",
        "skipped",
        "run_id",
        "started_at",
        "seconds",
        "rows_in",
        "rows_out",
        "dropped",
        "metrics",
        "key",
        "package_version",
    )
    return {name: getattr(stage_run, name) for name in names}


def _stage(
    command: str, config: Path, overrides: list[str] | None, *, again: bool = False, wait_s: float = 0.0
) -> None:
    settings = load(config, overrides)
    from betr_spark.pipeline.invocation import checked_stages  # noqa: PLC0415 - pyspark, only when needed
    from betr_spark.pipeline.run import stages_of  # noqa: PLC0415

    if stages_of(settings, command):
        context = writing(settings, command, again=again, wait_s=wait_s)
        run_and_print(context, checked_stages(context, command))
    else:
        document = {"command": command, "output": settings.output, "up_to_date": True, "stages": []}
        output.emit(document, [f"{command}: nothing to do with these settings"])
