"""`look`: a web page on this machine over the finished tables, to read documents and to mark them."""

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from betr_spark.cli import output
from betr_spark.cli.application import app
from betr_spark.cli.options import ConfigOption, JsonOption, LogOption, SetOption, load, reading
from betr_spark.errors import ConfigError
from betr_spark.extras import require
from betr_spark.logs import Format

_MARKS_HELP = "JSON Lines file of the marks; by default CONFIG.marks.jsonl in the working directory."
MarksOption = Annotated[Path | None, typer.Option("--marks", metavar="FILE", help=_MARKS_HELP)]
PortOption = Annotated[int, typer.Option("--port", min=0, max=65535, help="Port of 127.0.0.1; 0 is a free one.")]
OpenOption = Annotated[bool, typer.Option("--open", help="Open the page in the browser.")]
_EXPORT_HELP = "teacher or classifier: write the marks as a file for a scorer of this kind, and start no server."
ExportOption = Annotated[str | None, typer.Option("--export", metavar="KIND", help=_EXPORT_HELP)]


@app.command()
def look(
    config: ConfigOption, overrides: SetOption = None, marks: MarksOption = None, port: PortOption = 0,
    in_browser: OpenOption = False, export: ExportOption = None,
    as_json: JsonOption = False, log_format: LogOption = Format.TEXT,
) -> None:  # fmt: skip
    """Serve a web page on this machine: filter and read the documents, mark them good or bad; ends with Ctrl-C."""
    settings = load(config, overrides)
    if export is None:
        require("flask", "werkzeug", extra="look", subject="look")
    from betr_spark.look.marks import EXPORTS, Marks, check_place  # noqa: PLC0415 - only when needed

    if export is not None and export not in EXPORTS:
        raise ConfigError(f"--export: '{export}' is not one of: {', '.join(EXPORTS)}")
    file = marks or Path(f"{config.stem}.marks.jsonl")
    check_place(file, settings)
    given = Marks(file)
    context = reading(settings, is_short=False)  # searches texts
    from betr_spark.look.tables import Tables  # noqa: PLC0415 - pyspark

    tables = Tables(context.spark, settings)
    if export is not None:
        from betr_spark.look.export import export_marks  # noqa: PLC0415

        exported = export_marks(tables, given, export)
        output.emit(exported._asdict(), exported.lines())
        return
    from betr_spark.look.security import Secrets  # noqa: PLC0415 - flask, of the extra
    from betr_spark.look.server import HOST, bind  # noqa: PLC0415
    from betr_spark.look.site import create_app  # noqa: PLC0415

    keys = Secrets.new()
    server = bind(create_app(tables, given, keys), port)
    address = f"http://{HOST}:{server.port}/?token={keys.token}"
    good, bad = given.counts()
    lines = [f"{settings.output}: {address}", f"marks: {file} ({good} good, {bad} bad); Ctrl-C ends"]
    output.emit({"output": settings.output, "address": address, "marks": str(file), "good": good, "bad": bad}, lines)
    if in_browser:
        webbrowser.open(address)
    server.serve_forever()  # returns at Ctrl-C
