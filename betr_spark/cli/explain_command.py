"""`explain` and `nearest`: what is known of single documents, and what is near to a text."""

from pathlib import Path
from typing import Annotated

import typer

from betr_spark.cli import output
from betr_spark.cli.application import app
from betr_spark.cli.options import ConfigOption, JsonOption, LogOption, SetOption, load, reading
from betr_spark.errors import BetrSparkError, DataError, quoted
from betr_spark.logs import Format

DocOption = Annotated[list[str], typer.Option("--doc", metavar="ID...", help="Ids of documents; repeatable.")]
MoreIds = Annotated[
    list[str] | None, typer.Argument(metavar="ID", help="More ids.", hidden=True)
]  # after that of --doc
NearestOption = Annotated[
    int,
    typer.Option(
        "--nearest",
        min=0,
        max=100,
        help="Also embed the documents, and show so many nearest examples and kept documents.",
    ),
]
TextOption = Annotated[str | None, typer.Option("--text", help="The text.")]
FileOption = Annotated[Path | None, typer.Option("--file", help="A UTF-8 file with the text.")]
NumberOption = Annotated[int, typer.Option("--number", min=1, max=100, help="Number of examples and of documents.")]


@app.command()
def explain(
    config: ConfigOption, doc: DocOption, more: MoreIds = None, overrides: SetOption = None, nearest: NearestOption = 0,
    as_json: JsonOption = False, log_format: LogOption = Format.TEXT,
) -> None:  # fmt: skip
    """Print what is known of documents: scores and what raised or lowered them, duplicates, why they are selected or not."""
    settings = load(config, overrides)
    if nearest:
        from betr_spark.explain.nearest import check_nearest  # noqa: PLC0415

        check_nearest(settings)
    context = reading(settings)
    from betr_spark.explain.document import explained  # noqa: PLC0415 - pyspark, only when needed
    from betr_spark.explain.lines import document_lines, texts  # noqa: PLC0415
    from betr_spark.pipeline.run import plan  # noqa: PLC0415

    documents, unknown = explained(context, [*doc, *(more or [])], nearest=nearest)
    try:
        stale = [{"stage": planned.stage.name, "why": planned.why} for planned in plan(context) if planned.work]
    except BetrSparkError as error:  # such as an input that is gone; the tables are still there
        stale = [{"stage": "input", "why": error.args[0]}]
    lines = texts([document_lines(document, unit=settings.input.tokens.unit) for document in documents])
    if stale and lines:
        why = f"{stale[0]['stage']} is not up to date ({stale[0]['why']})"
        lines += ["", f"out of date: {why}; all of the above is of the last run"]
    found = {"output": settings.output, "documents": documents, "unknown": unknown, "out_of_date": stale}
    if unknown:
        if documents and not output.as_json:
            output.emit(found, lines)
        where = f"not in the tables of {settings.output}"
        output.fail([f"--doc: {quoted(doc_id)}: unknown id, {where}" for doc_id in unknown], document=found)
    output.emit(found, lines)


@app.command()
def nearest(
    config: ConfigOption, overrides: SetOption = None, text: TextOption = None, file: FileOption = None,
    number: NumberOption = 5, as_json: JsonOption = False, log_format: LogOption = Format.TEXT,
) -> None:  # fmt: skip
    """Print the benchmark examples and the kept documents that are nearest to a text, by the cosine of the run's encoder."""
    settings = load(config, overrides)
    given = _text(text, file)
    from betr_spark.explain.lines import nearest_lines  # noqa: PLC0415 - pyspark, only when needed
    from betr_spark.explain.nearest import check_nearest, nearest_of  # noqa: PLC0415

    check_nearest(settings)
    (found,) = nearest_of(reading(settings), {"": given}, number).values()
    output.emit(found._asdict(), nearest_lines(found))


def _text(text: str | None, file: Path | None) -> str:
    if (text is None) == (file is None):
        raise DataError("nearest: exactly one of --text and --file is required")
    if file is not None:
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise DataError(f"--file: {file}: {reason}; a readable UTF-8 file is required") from None
    if not text or not text.strip():
        raise DataError("nearest: the text is empty; at least one word is required")
    return text
