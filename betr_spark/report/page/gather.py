"""Everything that the page shows, computed from the tables of an output."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import NamedTuple

from pyspark.sql import DataFrame, SparkSession

from betr_spark import __version__, schemas
from betr_spark.config import Config
from betr_spark.pipeline.stage import RunContext
from betr_spark.redaction import redacted
from betr_spark.report.change import Change
from betr_spark.report.figures import SelectionFigures, selection_figures
from betr_spark.report.outcomes import outcomes
from betr_spark.report.overlap import Overlap
from betr_spark.report.page.benchmarks import Benchmarks, Chosen, chosen
from betr_spark.report.page.cost import Cost, EvaluationRow, cost, evaluation
from betr_spark.report.page.funnel import Funnel, Records, funnel
from betr_spark.report.page.further import Duplicates, further_sections
from betr_spark.report.page.scores import Ranked, Scores, scores
from betr_spark.report.page.sources import Sources, source_tables
from betr_spark.report.page.verdict import Verdict, verdict
from betr_spark.report.readings import Readings
from betr_spark.report.trust import Trust
from betr_spark.selection.tally import N_IN_MEMORY
from betr_spark.spark.jobs import describe
from betr_spark.storage import delta, runs


class SelectionPage(NamedTuple):
    """The sections of one selection; None where there is nothing to compute them from, or where `problems` says why not."""

    name: str
    scorer: str
    table: str
    summary: SelectionFigures | None
    verdict: Verdict | None
    funnel: Funnel | None
    scores: Scores | None
    sources: Sources | None
    chosen: Chosen | None
    trust: Trust | None = None
    overlap: Overlap | None = None
    readings: Readings | None = None
    change: Change | None = None
    problems: Mapping[str, str] = {}


class PageFigures(NamedTuple):
    """The whole page.

    Attributes:
        output: path, without credentials.
        written_at: UTC.
        version: of betr-spark.
        out_of_date: why the figures are those of an earlier run; empty if all stages are up to date.
        unit: of tokens.
        selections: of the configuration, in its order.
        benchmarks: in the target ranking.
        evaluation: the last one.
        cost: of the stages.
        duplicates: what deduplication removed.
    """

    output: str
    written_at: str
    version: str
    out_of_date: str
    unit: str
    selections: list[SelectionPage]
    benchmarks: Benchmarks | None
    evaluation: list[EvaluationRow]
    cost: Cost
    duplicates: Duplicates


Draw = Callable[[int, Scores | None, Trust | None], None]
_IN_MEMORY = 100_000  # documents, up to which the tables that most sections read are kept in memory
_FOR_FEW = {
    "spark.sql.codegen.wholeStage": "false", "spark.sql.codegen.factoryMode": "NO_CODEGEN", "spark.sql.shuffle.partitions": "2",
}  # fmt: skip


def gather(context: RunContext, *, out_of_date: Callable[[], str] = str, draw: Draw = lambda *_: None) -> PageFigures:
    """Compute the sections, from narrow columns of the tables; no text is read but samples.

    Args:
        context: of the command.
        out_of_date: gives the first stage that is not up to date and why, or an empty string; called once, in another thread.
        draw: is called with the position, scores and trust of each selection while other sections are computed.

    Raises:
        DataError: there is no table `features`.
    """
    features = runs.made_by(context.spark, context.config.table(schemas.FEATURES_TABLE))
    # to compile the plans of some dozen queries takes longer than few rows do
    with ExitStack() as settings, ThreadPoolExecutor(1) as thread:
        few = features is not None and features.rows_out <= N_IN_MEMORY
        if few:
            for name, value in _FOR_FEW.items():
                settings.enter_context(delta.session_conf(context.spark, name, value))
        state = thread.submit(out_of_date)
        if features is not None and features.rows_out < _IN_MEMORY:
            settings.enter_context(_in_memory(context.spark, context.config))
        return _gather(context, state, draw, few=few)


@contextmanager
def _in_memory(spark: SparkSession, config: Config) -> Iterator[None]:
    """Keep tables in memory: Delta looks for a table's files in each query, which takes longer than to read few rows."""
    names = [schemas.FEATURES_TABLE, schemas.DUPLICATES_TABLE, schemas.RANKED_SAMPLE_TABLE]
    paths = [config.table(name) for name in (*names, *(f"selected/{name}" for name in config.selections))]
    paths = [path for path in paths if delta.exists(spark, path)]
    with ThreadPoolExecutor(2) as threads:  # most of it is planning
        found = list(threads.map(lambda path: delta.read(spark, path), paths))
        tables = [table for table in found if not table.storageLevel.useMemory]  # others are the caller's
        try:
            list(threads.map(DataFrame.persist, tables))
            yield
        finally:
            for table in tables:
                table.unpersist()


def _gather(context: RunContext, state: Future[str], draw: Draw, *, few: bool) -> PageFigures:
    spark, config = context.spark, context.config
    tables = [config.table(f"selected/{name}") for name in config.selections]
    finished = [name for name, path in zip(config.selections, tables, strict=True) if runs.all_exist(spark, [path])]
    ranked = {name: _ranked(config, name) for name in finished}
    with (
        outcomes(spark, config, finished, in_memory=few) as documents,
        further_sections(context, ranked, documents) as others,
    ):
        describe(spark, "report: cost")
        stages, evaluated = cost(spark, config), evaluation(spark, config)
        describe(spark, "report: sources")
        sources = source_tables(others.sums, finished)
        describe(spark, "report: scores and lengths")
        known = {name: each for name, each in ranked.items() if name in others.histograms}
        computed = scores(documents, known, others.histograms)
        for position, name in enumerate(config.selections):
            trust = others.trust.get(config.selections[name].scorer) if name in finished else None
            draw(position, computed.get(name), trust)
        describe(spark, "report: selections")
        out_of_date = state.result()
        shares = {name: each.shares() for name, each in sources.items()}
        summaries = selection_figures(spark, config, finished, shares=shares)
        found = {name: Computed(summaries[name], sources[name], computed.get(name)) for name in finished}
        pages = [
            _selection(context, name, records, found.get(name), unit=documents.unit, out_of_date=out_of_date)
            for name, records in Records.of(spark, config).items()
        ]
        of_selections, duplicates = others.result()
        of_benchmarks = others.benchmarks
    pages = [
        page._replace(**of_selections[page.name]._asdict()) if page.name in of_selections else page for page in pages
    ]
    return PageFigures(
        output=redacted(config.output),
        written_at=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        version=__version__,
        out_of_date=out_of_date,
        unit=documents.unit,
        selections=pages,
        benchmarks=of_benchmarks,
        evaluation=evaluated,
        cost=stages,
        duplicates=duplicates,
    )


class Computed(NamedTuple):
    """Sections of a finished selection that are computed together with those of the others."""

    summary: SelectionFigures
    sources: Sources
    scores: Scores | None


def _selection(
    context: RunContext, name: str, records: Records, computed: Computed | None, *, unit: str, out_of_date: str
) -> SelectionPage:
    spark, config = context.spark, context.config
    scorer, table = config.selections[name].scorer, config.table(f"selected/{name}")
    if computed is None:
        rows = funnel(records, n_selected=None)
        return SelectionPage(name, scorer, table, None, None, rows, None, None, None)
    n_selected = computed.sources.documents
    rows = funnel(records, n_selected=n_selected)
    judged = verdict(
        config, name, records, documents=n_selected, unit=unit, rows=rows, scores=computed.scores,
        sources=computed.sources,
        warnings=[*([f"out of date: {out_of_date}"] if out_of_date else []), *_leaks(computed.summary)],
    )  # fmt: skip
    picked = chosen(spark, config, name)
    return SelectionPage(name, scorer, table, computed.summary, judged, rows, computed.scores, computed.sources, picked)


def _ranked(config: Config, name: str) -> Ranked:
    """How a selection ranks, and the tokens that the configured training run reads."""
    selection, train_tokens = config.selections[name], None
    if selection.phases:
        train_tokens = float(sum(phase.tokens for phase in selection.phases))
    elif selection.keep.training:
        train_tokens = selection.keep.training.tokens
    return Ranked(selection.scorer, train_tokens, by_value=selection.scorer in config.expressions())


def _leaks(summary: SelectionFigures) -> list[str]:
    """A warning if the selection has documents with test items."""
    of_all = summary.contamination[0] if summary.contamination else None
    if of_all is None or not of_all.selected.n:
        return []
    return [
        f"{of_all.selected.n:,} selected documents have a test item of a benchmark; see {schemas.CONTAMINATION_TABLE}"
    ]
