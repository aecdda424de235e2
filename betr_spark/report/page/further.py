"""The sections that compare and sample: trust, controls, duplicates, readings and change. A section that fails says why."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from betr_spark import schemas
from betr_spark.errors import BetrSparkError
from betr_spark.pipeline.stage import RunContext
from betr_spark.report.change import Change, change
from betr_spark.report.overlap import Overlap, overlaps
from betr_spark.report.reading_texts import all_with_texts
from betr_spark.report.readings import Readings, readings
from betr_spark.report.removed import Removed, WordDiff, removed, word_diffs
from betr_spark.report.texts import texts_of
from betr_spark.report.trust import Trust, trust
from betr_spark.spark.error_messages import translated
from betr_spark.spark.jobs import describe
from betr_spark.storage import delta

T = TypeVar("T")


class Further(NamedTuple):
    """Sections of one selection; None where there is nothing to compute them from, or where `problems` says why not.

    Attributes:
        trust: agreement of the scorer with the target ranking.
        overlap: with other selections and scorers, and with the targets.
        readings: documents with texts.
        change: since the version before.
        problems: sentences by section.
    """

    trust: Trust | None
    overlap: Overlap | None
    readings: Readings | None
    change: Change | None
    problems: dict[str, str]


class Duplicates(NamedTuple):
    """What deduplication removed, and pairs of texts; `problems` are sentences by part."""

    removed: Removed | None
    diffs: list[WordDiff]
    problems: dict[str, str]


def further(context: RunContext, names: Sequence[str]) -> tuple[dict[str, Further], Duplicates]:
    """Compute the sections of finished selections, and what deduplication removed. The texts of all are read together.

    Args:
        context: of the command.
        names: of selections that are written.
    """
    spark, config = context.spark, context.config
    problems: dict[str, dict[str, str]] = {name: {} for name in names}
    general: dict[str, str] = {}
    describe(spark, "report: duplicates")
    has_duplicates = delta.exists(spark, config.table(schemas.DUPLICATES_TABLE))
    figures = _attempt(general, "duplicates", lambda: removed(spark, config)) if has_duplicates else None
    of_scorers: dict[str, Trust | None] = {}
    untrusted: dict[str, dict[str, str]] = {}
    chosen: dict[str, Readings | None] = {}
    changes: dict[str, Change | None] = {}
    for name in names:
        scorer, mine = config.selections[name].scorer, problems[name]
        describe(spark, f"report: {name}: trust in the scorer")
        if scorer not in of_scorers:
            problem = untrusted.setdefault(scorer, {})
            of_scorers[scorer] = _attempt(problem, "trust", lambda n=name: trust(spark, config, n))  # type: ignore[misc]
        describe(spark, f"report: {name}: readings")
        chosen[name] = _attempt(mine, "readings", lambda n=name: readings(context, n))  # type: ignore[misc]
        describe(spark, f"report: {name}: change")
        changes[name] = _attempt(mine, "change", lambda n=name: change(spark, config, n))  # type: ignore[misc]
    describe(spark, "report: controls")
    overlap_problem: dict[str, str] = {}
    compared = _attempt(overlap_problem, "controls", lambda: overlaps(spark, config, names)) or []
    overlap = {each.name: each for each in compared}
    describe(spark, "report: read texts")
    ids = {doc_id for each in chosen.values() if each is not None for doc_id in each.ids()}
    ids |= set(figures.ids()) if figures is not None else set()
    texts = _attempt(general, "diffs", lambda: texts_of(context, ids)) or {}
    unread = [each for each in chosen.values() if each is not None]
    reading_problem: dict[str, str] = {}
    filled = _attempt(reading_problem, "readings", lambda: all_with_texts(context, unread, texts)) or []
    with_text = {each.name: each for each in filled}
    scorer_of = {name: config.selections[name].scorer for name in names}
    sections = {
        name: Further(
            of_scorers[scorer], overlap.get(name), with_text.get(name), changes[name],
            {**overlap_problem, **reading_problem, **untrusted[scorer], **problems[name]},
        )
        for name, scorer in scorer_of.items()
    }  # fmt: skip
    return sections, Duplicates(figures, word_diffs(figures, texts) if figures is not None else [], general)


def _attempt(problems: dict[str, str], section: str, compute: Callable[[], T]) -> T | None:
    """Compute a section; if this is not possible, note why in a sentence, and the page is written without it."""
    try:
        with translated():
            return compute()
    except BetrSparkError as error:
        problems[section] = str(error.args[0]) if error.args else str(error)
        return None
