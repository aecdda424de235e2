"""The sections that compare and sample: trust, controls, duplicates, readings and change. A section that fails says why."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
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
_AT_ONCE = 2  # sections


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
    overlap_problem: dict[str, str] = {}
    scorer_of = {name: config.selections[name].scorer for name in names}
    first_of = {
        scorer: name for name, scorer in reversed(scorer_of.items())
    }  # selections with one scorer share its figures
    untrusted: dict[str, dict[str, str]] = {scorer: {} for scorer in first_of}
    has_duplicates = delta.exists(spark, config.table(schemas.DUPLICATES_TABLE))

    def compute(section: str, name: str, mine: dict[str, str], call: Callable[[], T]) -> T | None:
        describe(spark, f"report: {name}: {section}")
        return _attempt(mine, section, call)

    threads = ThreadPoolExecutor(_AT_ONCE)  # planning takes most of the time of small tables, in one thread each
    try:
        start = threads.submit
        compared = start(compute, "controls", "all", overlap_problem, lambda: overlaps(spark, config, names))
        removal = (
            start(compute, "duplicates", "all", general, lambda: removed(spark, config)) if has_duplicates else None
        )
        reading = {
            name: start(compute, "readings", name, problems[name], partial(readings, context, name)) for name in names
        }
        trusted = {
            scorer: start(compute, "trust", scorer, untrusted[scorer], partial(trust, spark, config, name))
            for scorer, name in first_of.items()
        }
        changed = {
            name: start(compute, "change", name, problems[name], partial(change, spark, config, name)) for name in names
        }
        overlap = {each.name: each for each in compared.result() or []}
        figures = None if removal is None else removal.result()
        chosen = {name: each.result() for name, each in reading.items()}
        of_scorers = {scorer: each.result() for scorer, each in trusted.items()}
        changes = {name: each.result() for name, each in changed.items()}
    finally:
        threads.shutdown(cancel_futures=True)  # after an error or Ctrl-C no other section starts
    describe(spark, "report: read texts")
    ids = {doc_id for each in chosen.values() if each is not None for doc_id in each.ids()}
    ids |= set(figures.ids()) if figures is not None else set()
    texts = _attempt(general, "diffs", lambda: texts_of(context, ids)) or {}
    unread = [each for each in chosen.values() if each is not None]
    reading_problem: dict[str, str] = {}
    filled = _attempt(reading_problem, "readings", lambda: all_with_texts(context, unread, texts)) or []
    with_text = {each.name: each for each in filled}
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
