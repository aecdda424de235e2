"""Options that several commands have."""

import logging
import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from betr_spark import logs
from betr_spark.cli import output
from betr_spark.config import Config, load_config

if TYPE_CHECKING:
    from betr_spark.pipeline.stage import RunContext

_logger = logging.getLogger(__name__)
_start_s: list[float] = []  # seconds of Spark's start that are not logged yet


def _json(value: bool) -> bool:
    output.as_json = value
    return value


def _log_format(value: logs.Format) -> logs.Format:
    logs.configure(value)
    return value


_SET_HELP = """key.sub=value (YAML); repeatable. Quote a key with a dot: 'selections."betr-1.5".keep.documents=5'."""
ConfigOption = Annotated[Path, typer.Option("--config", help="YAML file; docs/configuration.md lists its keys.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help=_SET_HELP)]
AgainOption = Annotated[bool, typer.Option("--again", help="Run the stage even if it is up to date.")]
WaitOption = Annotated[
    float, typer.Option("--wait", min=0.0, help="Seconds to wait for another run on the same output to end.")
]
JsonOption = Annotated[
    bool, typer.Option("--json", callback=_json, is_eager=True, help="Print one JSON document, and nothing else.")
]
LogOption = Annotated[
    logs.Format,
    typer.Option("--log-format", callback=_log_format, is_eager=True, help="Format of the log lines on stderr."),
]


def load(path: Path, overrides: list[str] | None) -> Config:
    """Read the configuration."""
    return load_config(path, tuple(overrides or ()))


def reading(settings: Config, *, is_short: bool = True) -> "RunContext":
    """A context of a command that writes nothing to the output; `is_short` unless it reads texts of the whole corpus."""
    from betr_spark.spark.session import build_session, jvm_starting  # noqa: PLC0415 - pyspark, only when needed

    with jvm_starting(is_short=is_short):
        import_module("betr_spark.pipeline.check")  # all stages
        from betr_spark.pipeline.stage import RunContext  # noqa: PLC0415

    return RunContext(build_session(), settings)


def writing(
    settings: Config, command: str, *, again: bool = False, wait_s: float = 0.0, check: bool = True
) -> "RunContext":
    """A context of a command that writes: no other run holds the output, and (`check`) it can be written to."""
    from betr_spark.spark.local import is_small  # noqa: PLC0415
    from betr_spark.spark.session import build_session, jvm_starting  # noqa: PLC0415

    began = time.monotonic()
    with jvm_starting(is_short=is_small(settings.input.path)):
        from pyspark.sql import SparkSession  # noqa: PLC0415

        from betr_spark.pipeline.invocation import writing_context  # noqa: PLC0415

    running = SparkSession.getActiveSession()
    spark = build_session()
    if running is None:
        _start_s.append(time.monotonic() - began)
    return writing_context(spark, settings, command=command, again=again, wait_s=wait_s, check=check)


def log_start() -> None:
    """Log how long Spark's start took, if it is not logged; after the checks, because an error is a single line."""
    while _start_s:
        _logger.info("Spark: started in %.1f s", _start_s.pop())
