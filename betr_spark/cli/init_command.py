"""`init`: three questions, or their answers as options, and a configuration for the user's files."""

import shlex
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from betr_spark.cli import output
from betr_spark.cli.application import app
from betr_spark.cli.options import JsonOption, LogOption
from betr_spark.errors import ConfigError
from betr_spark.logs import Format

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_TARGET_HELP = "Training examples of a benchmark, as NAME=PATH or PATH; repeatable."
DocumentsOption = Annotated[
    str | None, typer.Option("--documents", metavar="PATH", help="Folder, file, glob or Delta table of the documents.")
]
TargetOption = Annotated[list[str] | None, typer.Option("--target", metavar="NAME=PATH", help=_TARGET_HELP)]
OutputOption = Annotated[str | None, typer.Option("--output", metavar="DIR", help="Folder for all tables.")]
ToOption = Annotated[Path, typer.Option("--to", metavar="FILE", help="The configuration to write.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")]


@app.command()
def init(
    documents: DocumentsOption = None, target: TargetOption = None, to_output: OutputOption = None,
    to: ToOption = Path("betr-spark.yaml"), force: ForceOption = False,
    as_json: JsonOption = False, log_format: LogOption = Format.TEXT,
) -> None:  # fmt: skip
    """Write a configuration for your files, after a look at their columns and a few rows; asks for what is not given."""
    if to.exists() and not force:
        raise ConfigError(f"--to: {to}: exists; choose another file, or replace it with --force")
    if not to.parent.is_dir():
        raise ConfigError(f"--to: {to}: folder {to.parent} not found; create it")
    answers = _answers(documents, target, to_output)
    from betr_spark.draft.draft import draft  # noqa: PLC0415 - pyspark, only when needed

    name = shlex.quote(str(to))
    drafted = draft(*answers, file=str(to), session=_session)
    try:
        with to.open("w" if force else "x", encoding="utf-8") as file:
            file.write(drafted.text)
    except FileExistsError:  # written meanwhile
        raise ConfigError(f"--to: {to}: exists; choose another file, or replace it with --force") from None
    except OSError as error:
        raise ConfigError(f"--to: {to}: cannot be written ({error.strerror})") from None
    document = {
        "to": str(to),
        "documents": drafted.n_documents,
        "guesses": drafted.guesses,
        "configuration": drafted.values,
    }
    following = [f"next: betr-spark check --config {name}", f"then: betr-spark run --config {name}"]
    output.emit(document, [*drafted.guesses, f"written: {to}", *following])


def _answers(documents: str | None, target: list[str] | None, to_output: str | None) -> tuple[str, list[str], str]:
    """The options, and the answers to questions about those that are missing."""
    given = {"--documents": documents, "--target": target, "--output": to_output}
    missing = [name for name, value in given.items() if not value]
    if missing and not sys.stdin.isatty():
        raise ConfigError(*(f"{name}: missing; it is asked for only in a terminal" for name in missing))
    source = documents or _found(_asked("Where are the documents? (folder, file, glob or Delta table)"))
    examples = target or _parts(
        _asked("Where are the benchmarks' training examples? (NAME=PATH, several with spaces between)")
    )
    return source, examples, to_output or _asked("Where should the output go? (a folder)", default="out/betr")


def _asked(question: str, default: str | None = None) -> str:
    return _expanded(str(typer.prompt(question, default=default, err=True)))


def _found(path: str) -> str:
    """The path, if it exists or cannot be looked up here: a wrong one is named before the next question."""
    if "://" not in path and not any(character in path for character in "*?[{") and not Path(path).exists():
        raise ConfigError(f"documents: {path}: no such file or folder")
    return path


def _parts(answer: str) -> list[str]:
    """Split an answer as a shell does."""
    try:
        return [_expanded(part) for part in shlex.split(answer)]
    except ValueError as error:
        raise ConfigError(f"--target: {answer}: {error}") from None


def _expanded(answer: str) -> str:
    """An answer with `~` replaced, as the shell does with options."""
    name, is_named, path = answer.strip().rpartition("=")
    return f"{name}{is_named}{Path(path).expanduser() if path.startswith('~') else path}"


def _session() -> "SparkSession":
    from betr_spark.spark.session import build_session, jvm_starting  # noqa: PLC0415

    with jvm_starting(is_short=True):
        import_module("betr_spark.storage.delta")
    return build_session()
