"""Commands that tell about the results of finished runs."""

from typing import Annotated

import typer

from betr_spark.cli import output
from betr_spark.cli.application import app
from betr_spark.cli.options import ConfigOption, JsonOption, LogOption, SetOption, WaitOption, load, reading, writing
from betr_spark.logs import Format

DocumentsOption = Annotated[int, typer.Option("--documents", min=1, help="Number of documents to draw.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Seed of the draw.")]
PercentOption = Annotated[float, typer.Option("--percent", min=0.01, max=100.0, help="Size of the top, in percent.")]


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
