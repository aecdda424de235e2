"""Commands that tell about the results of finished runs."""

from typing import Annotated

import typer

from betr_spark.cli import output
from betr_spark.cli.application import app
from betr_spark.cli.options import ConfigOption, JsonOption, LogOption, SetOption, WaitOption, load, reading, writing
from betr_spark.logs import Format

DocumentsOption = Annotated[int, typer.Option("--documents", min=1, help="Number of documents to draw.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Seed of the draw.")]
_AS_OF_HELP = "Version or time (ISO 8601) of the selection; features and duplicates are those that it was made from."
AsOfOption = Annotated[str | None, typer.Option("--as-of", help=_AS_OF_HELP)]
PercentOption = Annotated[float, typer.Option("--percent", min=0.01, max=100.0, help="Size of the top, in percent.")]


@app.command()
def report(
    config: ConfigOption, overrides: SetOption = None, as_of: AsOfOption = None,
    as_json: JsonOption = False, log_format: LogOption = Format.TEXT,
) -> None:  # fmt: skip
    """Print what was selected: share of each source before and after, and the best documents."""
    settings = load(config, overrides)
    context = reading(settings)
    from betr_spark.pipeline.run import plan  # noqa: PLC0415 - pyspark, only when needed
    from betr_spark.report.figures import selection_figures  # noqa: PLC0415

    lines, selections = [], []
    for name, selection in settings.selections.items():
        path = settings.table(f"selected/{name}")
        figures = selection_figures(context.spark, settings, name, as_of=as_of)
        size = f"{figures.n_documents} documents, {figures.n_tokens} tokens ({figures.unit})"
        lines += ["", f"{name}: {size}, ranked by {selection.scorer}", *figures.lines(), f"  table: {path}"]
        selections.append({**figures.to_mapping(), "scorer": selection.scorer, "table": path})
    stale = [planned for planned in plan(context) if planned.work] if as_of is None else []
    if stale:
        why = f"{stale[0].stage.name} is not up to date ({stale[0].why})"
        lines += ["", f"out of date: {why}; the figures are those of the last run"]
    out_of_date = [{"stage": planned.stage.name, "why": planned.why} for planned in stale]
    output.emit({"output": settings.output, "selections": selections, "out_of_date": out_of_date}, lines)


@app.command()
def compare(
    config: ConfigOption, overrides: SetOption = None, percent: PercentOption = 10.0,
    as_json: JsonOption = False, log_format: LogOption = Format.TEXT,
) -> None:  # fmt: skip
    """Compare the scorers of a finished run: rank correlation, and overlap of their top documents."""
    settings = load(config, overrides)
    context = reading(settings)
    from betr_spark.pipeline.run import behind  # noqa: PLC0415
    from betr_spark.report.compare import compare as compare_scorers  # noqa: PLC0415

    output.stop_at(list(behind(context, ("rank", "train", "features")))[:1])
    pairs, count = compare_scorers(context.spark, settings, percent=percent)
    lines = [f"{count} documents of the corpus; top {percent:g} %", f"{'':42} {'Spearman':>9} {'overlap':>8}"]
    lines += [f"{pair.left[:20]:20} {pair.right[:20]:20}  {pair.spearman:9.3f} {pair.overlap:8.1%}" for pair in pairs]
    output.emit({"n_documents": count, "percent": percent, "pairs": pairs}, lines)


@app.command()
def evaluate(
    config: ConfigOption, overrides: SetOption = None, wait: WaitOption = 0.0,
    as_json: JsonOption = False, log_format: LogOption = Format.TEXT,
) -> None:  # fmt: skip
    """Train small language models on the top documents of each scorer, and measure them on the benchmarks' test items."""
    settings = load(config, overrides)
    from betr_spark.evaluate import stage  # noqa: PLC0415
    from betr_spark.evaluate.benefit import conclusions, table  # noqa: PLC0415
    from betr_spark.pipeline.run import behind  # noqa: PLC0415
    from betr_spark.pipeline.runner import run_stages  # noqa: PLC0415

    stage.check(settings)
    context = writing(settings, "evaluate", wait_s=wait)
    output.stop_at(list(behind(context, ("rank", "train", "features", "dedup")))[:1])
    (done,) = run_stages(context, [stage.Evaluate()])
    changes = stage.read(context.spark, settings)
    path, plot = settings.table("evaluations"), settings.table(stage.PLOT)
    sentences = [*conclusions(changes), *stage.caveats(settings)]
    lines = [*stage.Evaluate().summary(done), *table(changes), "", *sentences, f"table: {path}; plot: {plot}"]
    document = {
        "changes": [{**change._asdict(), "verdict": change.verdict} for change in changes],
        "conclusions": sentences, "table": path, "plot": plot, "up_to_date": done.skipped,
    }  # fmt: skip
    output.emit(document, lines)


@app.command("dedup-eval")
def dedup_eval(
    config: ConfigOption, overrides: SetOption = None, documents: DocumentsOption = 2000, seed: SeedOption = 0,
    wait: WaitOption = 0.0, as_json: JsonOption = False, log_format: LogOption = Format.TEXT,
) -> None:  # fmt: skip
    """Measure a finished deduplication by true similarity: precision and recall, from samples; reads the text once."""
    settings = load(config, overrides)
    context = writing(settings, "dedup-eval", wait_s=wait)
    from betr_spark.dedup.evaluation import evaluate  # noqa: PLC0415
    from betr_spark.pipeline.runner import leased  # noqa: PLC0415

    with leased(context):
        figures = evaluate(context, documents=documents, seed=seed)
    output.emit(figures._asdict(), figures.lines(settings.dedup.similarity))


@app.command("decontam-eval")
def decontam_eval(
    config: ConfigOption, overrides: SetOption = None, documents: DocumentsOption = 2000, seed: SeedOption = 0,
    as_json: JsonOption = False, log_format: LogOption = Format.TEXT,
) -> None:  # fmt: skip
    """Plant test items in documents of the input, and count those that `decontaminate` finds; reads the text once."""
    settings = load(config, overrides)
    from betr_spark.contamination import planted_leaks  # noqa: PLC0415

    planted_leaks.check(settings)
    figures = planted_leaks.measure(reading(settings, is_short=False), documents=documents, seed=seed)
    output.emit(figures._asdict(), figures.lines())
