"""The command line: `betr-spark run`, one command a stage, and others. Exit 0 done, 2 the user's mistake, 1 anything else."""

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
    from pyspark.sql import SparkSession

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None,
    help="Rank, deduplicate and select pretraining text for the benchmarks you care about, on Spark.",
)  # fmt: skip
ConfigOption = Annotated[Path, typer.Option("--config", help="YAML file; see README.md for its keys.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="key.sub=value (YAML); repeat for more.")]
AgainOption = Annotated[bool, typer.Option("--again", help="Do the work even where it is up to date.")]


@app.command()
def run(
    config: ConfigOption,
    overrides: SetOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done; write nothing.")] = False,
) -> None:
    """Run all stages; finished ones are skipped."""
    settings = _load(config, overrides)
    from betr_spark.pipeline.check import problems  # noqa: PLC0415
    from betr_spark.pipeline.run import outlook, run_all  # noqa: PLC0415 - pyspark, only when needed
    from betr_spark.spark.session import build_session  # noqa: PLC0415

    spark = build_session()
    _stop_at(problems(settings, spark))
    if dry_run:
        typer.echo("\n".join(outlook(spark, settings)))
        return
    runs = run_all(spark, settings)
    for done in runs:
        typer.echo(_line(done))
    if all(done.skipped for done in runs):
        typer.echo("nothing to do: every table is up to date")
    typer.echo(f"tables: {settings.output}")


def _stage(name: str, config: Path, overrides: list[str] | None, **options: bool) -> None:
    settings = _load(config, overrides)
    from betr_spark.pipeline.run import STAGES  # noqa: PLC0415

    spark = _session(settings)
    logging.getLogger(__name__).info("%s: started", name)
    runs = STAGES[name](spark, settings, **options)
    for done in runs:
        typer.echo(_line(done))
    if not runs:
        typer.echo(f"{name}: nothing to do with these settings")


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
    """Pass once over the text of what is new: hashes, MinHash bands, token counts, logits."""
    _stage("features", config, overrides)


@app.command()
def dedup(config: ConfigOption, overrides: SetOption = None) -> None:
    """Find exact and near duplicates and the copy that stays."""
    _stage("dedup", config, overrides)


@app.command("dedup-eval")
def dedup_eval(
    config: ConfigOption,
    overrides: SetOption = None,
    documents: Annotated[int, typer.Option("--documents", min=1, help="How many are drawn.")] = 2000,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
) -> None:
    """Measure a finished deduplication by true similarity: precision and recall, from samples; reads the text once."""
    settings = _load(config, overrides)
    from betr_spark.dedup.evaluation import evaluate  # noqa: PLC0415

    found = evaluate(_session(settings), settings, documents=documents, seed=seed)
    typer.echo("\n".join(found.lines(settings.dedup.similarity)))


@app.command()
def select(config: ConfigOption, overrides: SetOption = None) -> None:
    """Write the selected documents of every selection."""
    _stage("select", config, overrides)


@app.command()
def report(config: ConfigOption, overrides: SetOption = None) -> None:
    """Print what was selected: share of each source before and after, and the best documents."""
    settings = _load(config, overrides)
    from betr_spark.report.figures import selection_figures  # noqa: PLC0415
    from betr_spark.spark.session import build_session  # noqa: PLC0415

    spark = build_session()
    for name, selection in settings.selections.items():
        figures = selection_figures(spark, settings, name)
        typer.echo(
            f"\n{name}: {figures.n_documents} documents, {figures.n_tokens} tokens, ranked by {selection.scorer}"
        )
        typer.echo("\n".join(figures.lines()))
        typer.echo(f"  table: {settings.table(f'selected/{name}')}")


@app.command()
def evaluate(config: ConfigOption, overrides: SetOption = None) -> None:
    """Train small language models on what each selection's scorer puts first, and read the benchmarks' test items."""
    settings = _load(config, overrides)
    from betr_spark.evaluate import stage  # noqa: PLC0415
    from betr_spark.evaluate.benefit import conclusions, table  # noqa: PLC0415

    stage.check(settings)
    spark = _session(settings)
    _stop_if_behind(spark, settings, but=("select",))
    done, found = stage.run(spark, settings)
    places = f"table: {settings.table('evaluations')}; plot: {settings.table(stage.PLOT)}"
    typer.echo("\n".join([_line(done), *table(found), "", *conclusions(found), *stage.caveats(settings), places]))


@app.command()
def compare(
    config: ConfigOption,
    overrides: SetOption = None,
    percent: Annotated[float, typer.Option("--percent", min=0.01, max=100.0, help="What counts as top.")] = 10.0,
) -> None:
    """Set the scorers of a finished run side by side: rank correlation, and overlap of their top documents."""
    settings = _load(config, overrides)
    from betr_spark.report.compare import compare as compared  # noqa: PLC0415
    from betr_spark.spark.session import build_session  # noqa: PLC0415

    spark = build_session()
    _stop_if_behind(spark, settings, but=("dedup", "select"))
    pairs, count = compared(spark, settings, percent=percent)
    typer.echo(f"{count} documents of the corpus; top {percent:g} %\n{'':42} {'Spearman':>9} {'overlap':>8}")
    for pair in pairs:
        typer.echo(f"{pair.one[:20]:20} {pair.other[:20]:20}  {pair.spearman:9.3f} {pair.overlap:8.1%}")


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
    """Run the command line and exit: 0 done, 2 the user's mistake (one line each), 1 anything else."""
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


def _session(settings: Config) -> "SparkSession":
    from betr_spark.spark.session import build_session  # noqa: PLC0415
    from betr_spark.storage.hadoop_files import check_writable  # noqa: PLC0415

    spark = build_session()
    check_writable(spark, settings.output)
    return spark


def _load(path: Path, overrides: list[str] | None) -> Config:
    return load_config(path, tuple(overrides or ()))


def _stop_if_behind(spark: "SparkSession", settings: Config, *, but: Sequence[str]) -> None:
    """Stop where a stage, but for some, has not made what the configuration and the input want."""
    from betr_spark.pipeline.run import plan  # noqa: PLC0415

    for one in plan(spark, settings):
        if one.work and one.stage.partition("/")[0] not in but:
            _fail(f"{settings.output}: {one.stage} has work to do ({one.why}); `betr-spark run` does it")


def _line(done: object) -> str:
    from betr_spark.storage.runs import StageRun  # noqa: PLC0415
    from betr_spark.training.records import in_words  # noqa: PLC0415

    assert isinstance(done, StageRun)
    new = f" ({done.metrics['rows_new']:.0f} new)" if "rows_new" in done.metrics and not done.skipped else ""
    counts = f"{done.rows_in} in{new}, {done.rows_out} out"
    dropped = ", ".join(f"{count} {reason}" for reason, count in sorted(done.dropped.items()) if count)
    state = "skipped, up to date" if done.skipped else f"{done.seconds:.1f} s"
    line = f"{done.stage}: {counts}{f' ({dropped})' if dropped else ''}; {state}"
    return f"{line}\n  {in_words(done.metrics)}" if done.stage.startswith("train/") else line


def _stop_at(found: Sequence[str]) -> None:
    if found:
        _fail("\n".join(found))


def _fail(lines: str) -> NoReturn:
    for line in lines.splitlines():
        print(f"error: {line}", file=sys.stderr)
    sys.exit(2)
