"""`plan`: what a run would do, and what different keep rates would keep."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from betr_spark.cli import output
from betr_spark.cli.application import app
from betr_spark.cli.options import ConfigOption, JsonOption, LogOption, SetOption, load, reading
from betr_spark.logs import Format

if TYPE_CHECKING:
    from betr_spark.pipeline.run import Planned
    from betr_spark.pipeline.stage import RunContext
    from betr_spark.selection.planner import Outlook
    from betr_spark.selection.score_histogram import Cut

FlopsOption = Annotated[float | None, typer.Option("--flops", min=1.0, help="Compute of the training run.")]
TokensOption = Annotated[
    float | None, typer.Option("--train-tokens", min=1.0, help="Tokens that the training run reads, for epochs.")
]
_SOURCES_SHOWN = 3


@app.command()
def plan(
    config: ConfigOption, overrides: SetOption = None, flops: FlopsOption = None, train_tokens: TokensOption = None,
    as_json: JsonOption = False, log_format: LogOption = Format.TEXT,
) -> None:  # fmt: skip
    """Print what a run would do, and what keep rates would keep by each scorer in `features`; write nothing, read no text."""
    settings = load(config, overrides)
    context = reading(settings)
    from betr_spark.pipeline.check import problems_of_run  # noqa: PLC0415 - pyspark, only when needed
    from betr_spark.selection.planner import CAUTION, laws, outlooks  # noqa: PLC0415
    from betr_spark.spark.work import WorkMeter  # noqa: PLC0415

    meter = WorkMeter(context.spark)
    output.stop_at(problems_of_run(context))
    document, lines = planned_stages(context)
    training = next((each.keep.training for each in settings.selections.values() if each.keep.training), None)
    if training is not None:
        flops, train_tokens = flops or training.compute(), train_tokens or training.tokens
    found, rates = outlooks(context, train_tokens=train_tokens), laws(flops, train_tokens)
    for outlook in found:
        lines += ["", *_table(outlook)]
    lines += [""] if found else []
    for law, rate in rates.items():
        note = "" if rate.in_range else " (outside the range that the law was fitted to)"
        lines.append(f"{law}: keep {100 * rate.fraction:.1f} % of the tokens{note}")
    lines += [CAUTION] if found else []
    bytes_read = meter.total().bytes_read
    lines.append(f"Spark's tasks read {bytes_read / 1e6:.1f} MB")
    output.emit({**document, "keep_rates": found, "laws": rates, "bytes_read": bytes_read}, lines)


def planned_stages(context: "RunContext") -> tuple[dict[str, Any], list[str]]:
    """What a run would do with each stage, for JSON and as lines."""
    from betr_spark.pipeline.run import outlook  # noqa: PLC0415

    planned: list[tuple[Planned, str | None]] = list(outlook(context))
    lines = []
    for (stage, work, why), estimate in planned:
        lines.append(f"{stage.name}: {'would run' if work else 'skipped'} ({why})")
        lines += [f"  {estimate}"] if estimate else []
    stages = [{"stage": p.stage.name, "work": p.work, "why": p.why, "estimate": estimate} for p, estimate in planned]
    return {"output": context.config.output, "stages": stages}, lines


def _table(outlook: "Outlook") -> list[str]:
    """The keep rates of a scorer as a table, with the shares of the largest sources before and after."""
    shown = list(outlook.source_tokens)[:_SOURCES_SHOWN]
    head = ["keep", "score", "documents", "tokens", "epochs", *[f"{name:.20} %" for name in shown]]

    def row(first: str, cut: "Cut | None", documents: int, tokens: int) -> list[str]:
        of_source = outlook.source_tokens if cut is None else cut.source_tokens
        shares = [f"{100 * of_source.get(name, 0) / tokens:.1f}" if tokens else "" for name in shown]
        score, epochs = (f"{cut.score:.4g}" if cut else ""), (f"{cut.epochs:.2f}" if cut and cut.epochs else "")
        return [first, score, f"{documents:,}", f"{tokens:,}", epochs, *shares]

    rows = [head, row("all", None, outlook.documents, outlook.tokens)]
    rows += [row(f"{100 * cut.keep_rate:g} %", cut, cut.documents, cut.tokens) for cut in outlook.cuts]
    widths = [max(len(cells[column]) for cells in rows) for column in range(len(head))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True)) for cells in rows]
    return [f"keep rates by {outlook.scorer} (tokens: {outlook.unit})", *lines]
