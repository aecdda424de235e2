"""The sections that compare and sample: trust, controls, duplicates, readings, change and benchmarks.

A section that fails says why.
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import NamedTuple, TypeVar

from betr_spark import schemas
from betr_spark.errors import BetrSparkError
from betr_spark.pipeline.stage import RunContext
from betr_spark.report.change import Change, change
from betr_spark.report.outcomes import Outcomes
from betr_spark.report.overlap import Overlap, overlaps
from betr_spark.report.page.benchmarks import Benchmarks, benchmarks
from betr_spark.report.page.scores import Ranked, histograms_of
from betr_spark.report.ranked_documents import Known, known_documents
from betr_spark.report.reading_texts import all_with_texts, explainers_of
from betr_spark.report.readings import Readings, readings
from betr_spark.report.removed import Removed, WordDiff, removed, word_diffs
from betr_spark.report.source_sums import SourceSums, source_sums
from betr_spark.report.texts import texts_of
from betr_spark.report.trust import Trust, trust
from betr_spark.scoring.logit import check_logits
from betr_spark.selection.score_histogram import Histogram
from betr_spark.spark.error_messages import translated
from betr_spark.spark.jobs import describe
from betr_spark.storage import delta

T = TypeVar("T")
_AT_ONCE = 3  # besides the sections of the calling thread


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


class FurtherSections:
    """Sections that are computed while the caller computes others; the texts of all are read together at the end."""

    def __init__(
        self, context: RunContext, ranked: Mapping[str, Ranked], documents: Outcomes, threads: ThreadPoolExecutor,
        frames: ExitStack,
    ) -> None:  # fmt: skip
        """Start to compute.

        Args:
            context: of the command.
            ranked: how the selections that are written rank, by name.
            documents: what became of each; computed by the first section that reads it.
            threads: that compute the sections.
            frames: what is persisted, to be closed after them.
        """
        spark, config, names = context.spark, context.config, list(ranked)
        known = {name: of for name, of in ranked.items() if of.scorer in documents.logits}
        self._context, self._frames, self._problems = context, frames, {name: dict[str, str]() for name in names}
        self._general, self._of_overlaps = dict[str, str](), dict[str, str]()
        self._scorer_of = {name: config.selections[name].scorer for name in names}
        first_of = {
            scorer: name for name, scorer in reversed(self._scorer_of.items())
        }  # selections with one scorer share its figures
        self._untrusted = {scorer: dict[str, str]() for scorer in first_of}

        def submit(name: str, call: Callable[[], T]) -> Future[T]:
            def compute() -> T:
                describe(spark, f"report: {name}")
                return call()

            return threads.submit(compute)

        def start(section: str, name: str, problems: dict[str, str], call: Callable[[], T | None]) -> Future[T | None]:
            return submit(f"{name}: {section}", lambda: _attempt(problems, section, call))

        self._sums = submit("sums by source", lambda: source_sums(documents))
        self._histograms = submit("histograms of scores", lambda: histograms_of(documents, known))
        self._overlaps = start(
            "controls", "all", self._of_overlaps, lambda: overlaps(spark, config, documents, self.sums)
        )
        self._trust = submit("trust in the scorers", self._trusts)
        self._change = {
            name: start("change", name, self._problems[name], partial(change, spark, config, name)) for name in names
        }
        self._benchmarks = submit("benchmarks", lambda: benchmarks(spark, config))
        self._explainers = submit("explanations", lambda: explainers_of(context, first_of))
        self._removed = start("duplicates", "all", self._general, lambda: self._removed_documents(documents.unit))
        self._known = submit("documents to read", lambda: self._known_documents(documents))
        self._readings = {
            name: start("readings", name, self._problems[name], partial(self._readings_of, name)) for name in names
        }

    @property
    def sums(self) -> SourceSums:
        """Over the sources."""
        return self._sums.result()

    @property
    def histograms(self) -> dict[str, Histogram]:
        """Of the scores that selections rank by, by name."""
        return self._histograms.result()

    @property
    def benchmarks(self) -> Benchmarks | None:
        """The section on benchmarks."""
        return self._benchmarks.result()

    def result(self) -> tuple[dict[str, Further], Duplicates]:
        """The sections of finished selections, and what deduplication removed."""
        context, general = self._context, self._general
        overlap = {each.name: each for each in self._overlaps.result() or []}
        figures = self._removed.result()
        chosen = {name: each.result() for name, each in self._readings.items()}
        trusted = self._trust.result()
        changes = {name: each.result() for name, each in self._change.items()}
        describe(context.spark, "report: read texts")
        ids = {doc_id for each in chosen.values() if each is not None for doc_id in each.ids()}
        ids |= set(figures.ids()) if figures is not None else set()
        texts = _attempt(general, "diffs", lambda: texts_of(context, ids)) or {}
        unread = [each for each in chosen.values() if each is not None]
        reading_problem: dict[str, str] = {}

        def fill() -> list[Readings]:
            return all_with_texts(context, unread, texts, explainers=self._explainers.result())

        filled = _attempt(reading_problem, "readings", fill) or []
        with_text = {each.name: each for each in filled}
        sections = {
            name: Further(
                trusted.get(scorer), overlap.get(name), with_text.get(name), changes[name],
                {**self._of_overlaps, **reading_problem, **self._untrusted[scorer], **self._problems[name]},
            )
            for name, scorer in self._scorer_of.items()
        }  # fmt: skip
        return sections, Duplicates(figures, word_diffs(figures, texts) if figures is not None else [], general)

    def _removed_documents(self, unit: str) -> Removed | None:
        """None before deduplication."""
        spark, config = self._context.spark, self._context.config
        if not delta.exists(spark, config.table(schemas.DUPLICATES_TABLE)):
            return None
        return removed(spark, config, self.sums, unit=unit)

    def _known_documents(self, documents: Outcomes) -> Known:
        return self._frames.enter_context(known_documents(self._context.config, documents, self.histograms))

    def _readings_of(self, name: str) -> Readings:
        return readings(self._context, name, self._known.result())

    def _trusts(self) -> dict[str, Trust | None]:
        """Figures of the scorers that can be measured, in one query."""
        spark, config = self._context.spark, self._context.config

        def is_known(scorer: str) -> bool:
            check_logits(delta.read(spark, config.table(schemas.FEATURES_TABLE)), config, [scorer])
            return True

        known = [
            scorer
            for scorer, problems in self._untrusted.items()
            if _attempt(problems, "trust", partial(is_known, scorer))
        ]
        general: dict[str, str] = {}
        found = _attempt(general, "trust", lambda: trust(spark, config, known)) or {}
        for scorer in known:
            self._untrusted[scorer].update(general)
        return found


@contextmanager
def further_sections(
    context: RunContext, ranked: Mapping[str, Ranked], documents: Outcomes
) -> Iterator[FurtherSections]:
    """Start `FurtherSections`, in as many threads as small tables need: for these, planning takes most of the time."""
    with ExitStack() as frames:
        threads = ThreadPoolExecutor(_AT_ONCE)
        try:
            yield FurtherSections(context, ranked, documents, threads, frames)
        finally:
            threads.shutdown(cancel_futures=True)  # after an error or Ctrl-C no other section starts


def _attempt(problems: dict[str, str], section: str, compute: Callable[[], T | None]) -> T | None:
    """Compute a section; if this is not possible, note why in a sentence, and the page is written without it."""
    try:
        with translated():
            return compute()
    except BetrSparkError as error:
        problems[section] = str(error.args[0]) if error.args else str(error)
        return None
