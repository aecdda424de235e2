"""The command line: `betr-spark run`, one command a stage, and others. Exit codes: 0 done, 2 user error, 1 anything else."""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from betr_spark import __version__
from betr_spark.config import Config, load_config
from betr_spark.errors import BetrSparkError

if TYPE_CHECKING:
    from betr_spark.pipeline.stage import RunContext, Stage

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None,
    help="Rank, deduplicate and select pretraining text for chosen benchmarks, on Spark.",
)  # fmt: skip
ConfigOption = Annotated[Path, typer.Option("--config", help="YAML file; docs/configuration.md lists its keys.")]
_SET_HELP = """key.sub=value (YAML); repeatable. Quote a key with a dot: 'selections."betr-1.5".keep.documents=5'."""
SetOption = Annotated[list[str] | None, typer.Option("--set", help=_SET_HELP)]
AgainOption = Annotated[bool, typer.Option("--again", help="Run the stage even if it is up to date.")]


@app.command()
def run(
    config: ConfigOption,
    overrides: SetOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be done; write nothing.")] = False,
) -> None:
    """Run all stages; those that are up to date are skipped."""
    settings = _load(config, overrides)
    from betr_spark.pipeline.check import problems_of_run  # noqa: PLC0415 - pyspark, only when needed
    from betr_spark.pipeline.run import outlook, stages_of  # noqa: PLC0415
    from betr_spark.pipeline.stage import RunContext  # noqa: PLC0415
    from betr_spark.spark.session import build_session  # noqa: PLC0415

    context = RunContext(build_session(), settings)
    _stop_at(problems_of_run(context))
    if dry_run:
        typer.echo("\n".join(outlook(context)))
        return
    if _run(context, stages_of(settings)):
        typer.echo("nothing to do: every table is up to date")
    typer.echo(f"tables: {settings.output}")


def _run(context: "RunContext", stages: "Sequence[Stage]") -> bool:
    """Run stages and print a summary of each; return whether all were up to date."""
    from betr_spark.pipeline.stage import run_stages  # noqa: PLC0415

    done = run_stages(context, stages)
    for stage, stage_run in zip(stages, done, strict=True):
        typer.echo("\n".join(stage.summary(stage_run)))
    return all(stage_run.skipped for stage_run in done)


def _stage(command: str, config: Path, overrides: list[str] | None, *, again: bool = False) -> None:
    settings = _load(config, overrides)
    from betr_spark.pipeline.run import stages_of  # noqa: PLC0415

    if stages := stages_of(settings, command):
        _run(_context(settings, again=again), stages)
    else:
        typer.echo(f"{command}: nothing to do with these settings")


@app.command()
def rank(config: ConfigOption, overrides: SetOption = None, again: AgainOption = False) -> None:
    """Draw the sample, embed it, rank it by the benchmarks' examples."""
    _stage("rank", config, overrides, again=again)


@app.command()
def train(config: ConfigOption, overrides: SetOption = None, again: AgainOption = False) -> None:
    """Train the scorers on the ranked sample."""
    _stage("train", config, overrides, again=again)


@app.command()
def features(config: ConfigOption, overrides: SetOption = None) -> None:
    """Read the text of new documents once: hashes, MinHash bands, token counts, logits."""
    _stage("features", config, overrides)


@app.command()
def dedup(config: ConfigOption, overrides: SetOption = None) -> None:
    """Find exact and near-duplicates, and keep the best copy of each."""
    _stage("dedup", config, overrides)


@app.command("dedup-eval")
def dedup_eval(
    config: ConfigOption,
    overrides: SetOption = None,
    documents: Annotated[int, typer.Option("--documents", min=1, help="Number of documents to draw.")] = 2000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the draw.")] = 0,
) -> None:
    """Measure a finished deduplication by true similarity: precision and recall, from samples; reads the text once."""
    settings = _load(config, overrides)
    from betr_spark.dedup.evaluation import evaluate  # noqa: PLC0415

    figures = evaluate(_context(settings).spark, settings, documents=documents, seed=seed)
    typer.echo("\n".join(figures.lines(settings.dedup.similarity)))


@app.command()
def select(config: ConfigOption, overrides: SetOption = None) -> None:
    """Write the selected documents of every selection."""
    _stage("select", config, overrides)


@app.command()
def report(config: ConfigOption, overrides: SetOption = None) -> None:
    """Print what was selected: share of each source before and after, and the best documents."""
    settings = _load(config, overrides)
    from betr_spark.pipeline.run import plan  # noqa: PLC0415
    from betr_spark.pipeline.stage import RunContext  # noqa: PLC0415
    from betr_spark.report.figures import selection_figures  # noqa: PLC0415
    from betr_spark.spark.session import build_session  # noqa: PLC0415

    context = RunContext(build_session(), settings)
    for name, selection in settings.selections.items():
        figures = selection_figures(context.spark, settings, name)
        typer.echo(
            f"\n{name}: {figures.n_documents} documents, {figures.n_tokens} tokens, ranked by {selection.scorer}"
        )
        typer.echo("\n".join(figures.lines()))
        typer.echo(f"  table: {settings.table(f'selected/{name}')}")
    if stale := [planned for planned in plan(context) if planned.work]:
        typer.echo(
            f"\nout of date: {stale[0].stage.name} is not up to date ({stale[0].why}); the figures are those of the last run"
        )


@app.command()
def evaluate(config: ConfigOption, overrides: SetOption = None) -> None:
    """Train small language models on the top documents of each scorer, and measure them on the benchmarks' test items."""
    settings = _load(config, overrides)
    from betr_spark.evaluate import stage  # noqa: PLC0415
    from betr_spark.evaluate.benefit import conclusions, table  # noqa: PLC0415
    from betr_spark.pipeline.run import behind  # noqa: PLC0415

    stage.check(settings)
    context = _context(settings)
    _stop_at(list(behind(context, ("rank", "train", "features", "dedup")))[:1])
    _run(context, [stage.Evaluate()])
    changes = stage.read(context.spark, settings)
    files = f"table: {settings.table('evaluations')}; plot: {settings.table(stage.PLOT)}"
    typer.echo("\n".join([*table(changes), "", *conclusions(changes), *stage.caveats(settings), files]))


@app.command()
def compare(
    config: ConfigOption,
    overrides: SetOption = None,
    percent: Annotated[
        float, typer.Option("--percent", min=0.01, max=100.0, help="Size of the top, in percent.")
    ] = 10.0,
) -> None:
    """Compare the scorers of a finished run: rank correlation, and overlap of their top documents."""
    settings = _load(config, overrides)
    from betr_spark.pipeline.run import behind  # noqa: PLC0415
    from betr_spark.pipeline.stage import RunContext  # noqa: PLC0415
    from betr_spark.report.compare import compare as compare_scorers  # noqa: PLC0415
    from betr_spark.spark.session import build_session  # noqa: PLC0415

    context = RunContext(build_session(), settings)
    _stop_at(list(behind(context, ("rank", "train", "features")))[:1])
    pairs, count = compare_scorers(context.spark, settings, percent=percent)
    typer.echo(f"{count} documents of the corpus; top {percent:g} %\n{'':42} {'Spearman':>9} {'overlap':>8}")
    for pair in pairs:
        typer.echo(f"{pair.left[:20]:20} {pair.right[:20]:20}  {pair.spearman:9.3f} {pair.overlap:8.1%}")


@app.command()
def check(config: ConfigOption, overrides: SetOption = None) -> None:
    """Check configuration, paths, schemas, model, Java and jars; report every problem at once."""
    settings = _load(config, overrides)
    from betr_spark.pipeline.check import problems  # noqa: PLC0415

    _stop_at(problems(settings))
    typer.echo("no problem found")


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
    """Run the command line and exit: 0 done, 2 user error (one line each), 1 anything else."""
    logging.basicConfig(format="%(message)s", stream=sys.stderr, level=logging.WARNING)
    logging.getLogger("betr_spark").setLevel(logging.INFO)
    logging.getLogger("py4j").setLevel(logging.CRITICAL)
    try:
        app(args=list(argv) if argv is not None else None, prog_name="betr-spark", standalone_mode=True)
    except BetrSparkError as error:
        _fail(str(error))
    except Exception as error:
        from betr_spark.spark.error_messages import spark_error_line  # noqa: PLC0415

        line = spark_error_line(error)
        if line is None:
            raise
        _fail(line)
    sys.exit(0)


def _context(settings: Config, *, again: bool = False) -> "RunContext":
    """A run that writes: the session, and an output that can be written to."""
    from betr_spark.pipeline.stage import RunContext  # noqa: PLC0415
    from betr_spark.spark.session import build_session  # noqa: PLC0415
    from betr_spark.storage.hadoop_files import check_writable  # noqa: PLC0415

    spark = build_session()
    check_writable(spark, settings.output)
    return RunContext(spark, settings, again=again)


def _load(path: Path, overrides: list[str] | None) -> Config:
    return load_config(path, tuple(overrides or ()))


def _stop_at(problems: Sequence[str]) -> None:
    if problems:
        _fail("\n".join(problems))


def _fail(lines: str) -> NoReturn:
    for line in lines.splitlines():
        print(f"error: {line}", file=sys.stderr)
    sys.exit(2)
