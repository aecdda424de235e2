"""The entry point: all commands, exit codes, and errors as one line each."""

import logging
import sys
from collections.abc import Sequence
from typing import NoReturn

import typer

from betr_spark import __version__, logs
from betr_spark.cli import output, pipeline_commands, result_commands, upkeep_commands
from betr_spark.cli.application import app
from betr_spark.errors import BetrSparkError, LockedError

__all__ = ["main", "pipeline_commands", "result_commands", "upkeep_commands"]


@app.command()
def jars() -> None:
    """Fetch Delta's jars once, into the installed Spark."""
    from betr_spark.spark.jars import fetch_jars  # noqa: PLC0415

    for jar in fetch_jars():
        typer.echo(jar.name)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0 done, 2 user error, 3 another run holds the output, 1 anything else."""
    logs.configure()
    try:
        app(args=list(argv) if argv is not None else None, prog_name="betr-spark", standalone_mode=True)
    except LockedError as error:
        output.fail(str(error), code=3)
    except BetrSparkError as error:
        output.fail(str(error))
    except Exception as error:
        from betr_spark.spark.error_messages import spark_error_line  # noqa: PLC0415

        line = spark_error_line(error)
        if line is not None:
            output.fail(line)
        if logs.running.format != logs.Format.JSON:
            raise
        logging.getLogger(__name__).exception("unexpected error")
        sys.exit(1)
    sys.exit(0)
