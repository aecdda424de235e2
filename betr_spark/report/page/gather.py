"""Everything that the page shows, computed from the tables of an output."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import NamedTuple

from betr_spark import __version__, schemas
from betr_spark.config import Config
from betr_spark.pipeline.stage import RunContext
from betr_spark.redaction import redacted
from betr_spark.report.change import Change
from betr_spark.report.figures import SelectionFigures, SourceShare, selection_figures
from betr_spark.report.overlap import Overlap
from betr_spark.report.page.benchmarks import Benchmarks, Chosen, benchmarks, chosen
from betr_spark.report.page.cost import Cost, EvaluationRow, cost, evaluation
from betr_spark.report.page.funnel import Funnel, Records, funnel
from betr_spark.report.page.further import Duplicates, further
from betr_spark.report.page.outcomes import Outcomes, outcomes
from betr_spark.report.page.scores import Scores, length_edges, scores
from betr_spark.report.page.sources import Sources, source_tables
from betr_spark.report.page.verdict import Verdict, verdict
from betr_spark.report.readings import Readings
from betr_spark.report.trust import Trust
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


_FEW_DOCUMENTS = 500_000
_FOR_FEW = {"spark.sql.codegen.wholeStage": "false", "spark.sql.codegen.factoryMode": "NO_CODEGEN"}


def gather(context: RunContext, *, out_of_date: str = "") -> PageFigures:
    """Compute the sections. `features` is joined once with what says what became of its documents; no text is read but samples.

    Args:
        context: of the command.
        out_of_date: the first stage that is not up to date and why, if there is one.

    Raises:
        DataError: there is no table `features`.
    """
    features = runs.made_by(context.spark, context.config.table(schemas.FEATURES_TABLE))
    with ExitStack() as settings:  # to compile the plans of some dozen queries takes longer than few rows do
        if features is not None and features.rows_out < _FEW_DOCUMENTS:
            for name, value in _FOR_FEW.items():
                settings.enter_context(delta.session_conf(context.spark, name, value))
        return _gather(context, out_of_date)


def _gather(context: RunContext, out_of_date: str) -> PageFigures:
    spark, config = context.spark, context.config
    tables = [config.table(f"selected/{name}") for name in config.selections]
    finished = [name for name, path in zip(config.selections, tables, strict=True) if runs.all_exist(spark, [path])]
    describe(spark, "report: what became of each document")
    with outcomes(spark, config, finished) as documents:
        describe(spark, "report: sources")
        sources = source_tables(documents, finished)
        describe(spark, "report: scores and lengths")
        edges = length_edges(documents)
        pages = [
            _selection(context, documents, name, sources.get(name), edges=edges, out_of_date=out_of_date)
            for name in config.selections
        ]
        unit = documents.unit
    of_selections, duplicates = further(context, finished)
    pages = [
        page._replace(**of_selections[page.name]._asdict()) if page.name in of_selections else page for page in pages
    ]
    describe(spark, "report: benchmarks and cost")
    return PageFigures(
        output=redacted(config.output),
        written_at=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        version=__version__,
        out_of_date=out_of_date,
        unit=unit,
        selections=pages,
        benchmarks=benchmarks(spark, config),
        evaluation=evaluation(spark, config),
        cost=cost(spark, config),
        duplicates=duplicates,
    )


def _selection(
    context: RunContext, documents: Outcomes, name: str, sources: Sources | None, *, edges: Sequence[int], out_of_date: str
) -> SelectionPage:  # fmt: skip
    spark, config = context.spark, context.config
    scorer, table = config.selections[name].scorer, config.table(f"selected/{name}")
    records = Records.of(spark, config, name)
    if sources is None:
        rows = funnel(records, n_selected=None)
        return SelectionPage(name, scorer, table, None, None, rows, None, None, None)
    shares = [SourceShare(source.source, source.before, source.after) for source in sources.largest_before]
    summary = selection_figures(spark, config, name, shares=(shares, sources.n_sources))
    n_selected = sources.documents
    rows = funnel(records, n_selected=n_selected)
    computed = None
    if scorer in documents.logits:
        by_value, train_tokens = scorer in config.expressions(), _train_tokens(config, name)
        computed = scores(documents, name, scorer, edges=edges, train_tokens=train_tokens, by_value=by_value)
    judged = verdict(
        config, name, records, documents=n_selected, unit=documents.unit, rows=rows, scores=computed, sources=sources,
        warnings=[*([f"out of date: {out_of_date}"] if out_of_date else []), *_leaks(summary)],
    )  # fmt: skip
    picked = chosen(spark, config, name)
    return SelectionPage(name, scorer, table, summary, judged, rows, computed, sources, picked)


def _train_tokens(config: Config, name: str) -> float | None:
    """Tokens that the configured training run reads."""
    selection = config.selections[name]
    if selection.phases:
        return float(sum(phase.tokens for phase in selection.phases))
    return selection.keep.training.tokens if selection.keep.training else None


def _leaks(summary: SelectionFigures) -> list[str]:
    """A warning if the selection has documents with test items."""
    of_all = summary.contamination[0] if summary.contamination else None
    if of_all is None or not of_all.selected.n:
        return []
    return [
        f"{of_all.selected.n:,} selected documents have a test item of a benchmark; see {schemas.CONTAMINATION_TABLE}"
    ]
