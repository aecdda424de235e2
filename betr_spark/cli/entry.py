"""The entry point: all commands, exit codes, and errors as one line each."""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from betr_spark import __version__, logs
from betr_spark.cli import (
    explain_command,
    export_command,
    init_command,
    look_command,
    mixture_command,
    output,
    pipeline_commands,
    report_command,
    result_commands,
    upkeep_commands,
)
from betr_spark.cli.application import app
from betr_spark.errors import BetrSparkError, LockedError, StoreError

S3Option = Annotated[
    Path | None, typer.Option("--s3", metavar="FOLDER", help="Also fetch the jars of S3A (700 MB) into this folder.")
]

__all__ = [
    "explain_command", "export_command", "init_command", "look_command", "main", "mixture_command", "pipeline_commands",
    "report_command", "result_commands", "upkeep_commands",
]  # fmt: skip


@app.command()
def jars(s3: S3Option = None) -> None:
    """Fetch Delta's jars once, into the installed Spark, and write Spark's classes to a file with which Spark starts sooner."""
    from betr_spark.pipeline.few_documents import run_few_documents  # noqa: PLC0415
    from betr_spark.spark import class_archive  # noqa: PLC0415
    from betr_spark.spark.jars import fetch_jars, fetch_s3_jars  # noqa: PLC0415
    from betr_spark.spark.session import build_session  # noqa: PLC0415

    for jar in [*fetch_jars(), *(fetch_s3_jars(s3) if s3 else ())]:
        typer.echo(jar.name)
    if file := class_archive.write(build_session, run_few_documents):
        typer.echo(file.name)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0 done, 2 user error, 3 another run holds the output, 1 anything else."""
    logs.configure()
    try:
        app(args=list(argv) if argv is not None else None, prog_name="betr-spark", standalone_mode=True)
    except BetrSparkError as error:
        output.fail(error.args, code=_code(error))
    except Exception as error:
        from betr_spark.spark.error_messages import user_error  # noqa: PLC0415

        known = user_error(error)
        if known is not None:
            output.fail(known.args, code=_code(known))
        if logs.running.format != logs.Format.JSON:
            raise
        logging.getLogger(__name__).exception("unexpected error")
        sys.exit(1)
    sys.exit(0)


def _code(error: BetrSparkError) -> int:
    return 3 if isinstance(error, LockedError) else 1 if isinstance(error, StoreError) else 2
