"""`report`: what was selected, as text and as a page."""

import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from betr_spark.cli import output
from betr_spark.cli.application import app
from betr_spark.cli.options import ConfigOption, JsonOption, LogOption, SetOption, load, reading
from betr_spark.logs import Format

if TYPE_CHECKING:
    from betr_spark.config import Config
    from betr_spark.pipeline.stage import RunContext
    from betr_spark.report.figures import SelectionFigures

_AS_OF_HELP = (
    "Version or time (ISO 8601) of the selection, whose features and duplicates are then used. Writes no page."
)
AsOfOption = Annotated[str | None, typer.Option("--as-of", help=_AS_OF_HELP)]
OpenOption = Annotated[
    bool, typer.Option("--open", help="Open the page in the browser, if the output is on this machine.")
]
NoPageOption = Annotated[bool, typer.Option("--no-page", help="Print the summary alone.")]


@app.command()
def report(
    config: ConfigOption, overrides: SetOption = None, as_of: AsOfOption = None, open_page: OpenOption = False,
    no_page: NoPageOption = False, as_json: JsonOption = False, log_format: LogOption = Format.TEXT,
) -> None:  # fmt: skip
    """Print what was selected, and write a page about it, OUTPUT/report.html."""
    settings = load(config, overrides)
    if open_page and (no_page or as_of is not None):
        output.fail(["--open: there is no page with --no-page or --as-of"])
    context = reading(settings)
    if open_page:
        _check_local(context)
    path, sections = None, None
    if no_page or as_of is not None:
        out_of_date = [] if as_of is not None else _out_of_date(context)
        summaries = _summaries(context, as_of)
    else:
        from betr_spark.report.page.drawings import Drawings  # noqa: PLC0415
        from betr_spark.report.page.gather import gather  # noqa: PLC0415 - pyspark, only when needed
        from betr_spark.report.page.write import check_page, write_page  # noqa: PLC0415

        check_page(context)
        with Drawings() as drawings:
            found: list[dict[str, str]] = []

            def first() -> str:
                found.extend(_out_of_date(context))
                return _why(found)

            sections = gather(context, out_of_date=first, draw=drawings.start)
            path = write_page(context, sections, drawings.result())
        out_of_date = found
        summaries = {selection.name: selection.summary for selection in sections.selections}
    lines, selections = _as_text(settings, summaries)
    why = _why(out_of_date)
    lines += ["", f"out of date: {why}; the figures are those of the last run"] if why else []
    lines += ["", f"page: {path}"] if path else []
    output.emit(
        {
            "output": settings.output,
            "selections": selections,
            "out_of_date": out_of_date,
            "page": path,
            "sections": sections,
        },
        lines,
    )
    if open_page and path:
        _open(path)


def _out_of_date(context: "RunContext") -> list[dict[str, str]]:
    from betr_spark.errors import BetrSparkError  # noqa: PLC0415
    from betr_spark.pipeline.run import plan  # noqa: PLC0415

    try:
        return [{"stage": planned.stage.name, "why": planned.why} for planned in plan(context) if planned.work]
    except BetrSparkError as error:  # the input or a target is not there any more; the tables still are
        return [{"stage": "features", "why": f"it cannot be checked: {error}"}]


def _why(out_of_date: list[dict[str, str]]) -> str:
    """The first stage that is not up to date, in words; empty if all are."""
    return f"{out_of_date[0]['stage']} is not up to date ({out_of_date[0]['why']})" if out_of_date else ""


def _summaries(context: "RunContext", as_of: str | None) -> dict[str, "SelectionFigures | None"]:
    from betr_spark.report.figures import selection_figures  # noqa: PLC0415
    from betr_spark.storage import runs  # noqa: PLC0415

    spark, settings = context.spark, context.config
    written = [name for name in settings.selections if runs.all_exist(spark, [settings.table(f"selected/{name}")])]
    found = selection_figures(spark, settings, written, as_of=as_of)
    return {name: found.get(name) for name in settings.selections}


def _as_text(
    settings: "Config", summaries: dict[str, "SelectionFigures | None"]
) -> tuple[list[str], list[dict[str, Any]]]:
    """Lines, and objects for JSON."""
    lines, selections = list[str](), list[dict[str, Any]]()
    for name, figures in summaries.items():
        scorer, path = settings.selections[name].scorer, settings.table(f"selected/{name}")
        if figures is None:
            lines += ["", f"{name}: not selected yet; run `betr-spark select`"]
            continue
        size = f"{figures.n_documents} documents, {figures.n_tokens} tokens ({figures.unit})"
        lines += ["", f"{name}: {size}, ranked by {scorer}", *figures.lines(), f"  table: {path}"]
        selections.append({**figures.to_mapping(), "scorer": scorer, "table": path})
    return lines, selections


def _check_local(context: "RunContext") -> None:
    from betr_spark.report.page.write import FILE  # noqa: PLC0415
    from betr_spark.storage import hadoop_files  # noqa: PLC0415

    path = hadoop_files.qualified(context.spark, context.config.table(FILE))
    if not path.startswith("file:"):
        output.fail([f"--open: {path} is not on this machine; leave --open out, and copy the page here to open it"])


def _open(path: str) -> None:
    webbrowser.open(Path(path.removeprefix("file:")).as_uri())
