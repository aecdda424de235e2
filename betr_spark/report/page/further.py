"""The sections that compare and sample: trust, controls, duplicates, readings, change and benchmarks.

A section that fails says why.
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple, TypeVar

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
_AT_ONCE = 2  # sections of each pool, besides those of the calling thread


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
        self, context: RunContext, ranked: Mapping[str, Ranked], documents: Outcomes, frames: ExitStack, *,
        threads: ThreadPoolExecutor, first: ThreadPoolExecutor,
    ) -> None:  # fmt: skip
        """Start to compute.

        Args:
            context: of the command.
            ranked: how the selections that are written rank, by name.
            documents: what became of each; computed by the first section that reads it.
            frames: what is persisted, to be closed after the threads.
            threads: that compute the sections.
            first: that compute the readings, and what they need.
        """
        spark, config, names = context.spark, context.config, list(ranked)
        known = {name: of for name, of in ranked.items() if of.scorer in documents.logits}
        self._context, self._frames, self._problems = context, frames, {name: dict[str, str]() for name in names}
        self._general, self._of_overlaps = dict[str, str](), dict[str, str]()
        self._started = list[Future[Any]]()
        self._scorer_of = {name: config.selections[name].scorer for name in names}
        first_of = {
            scorer: name for name, scorer in reversed(self._scorer_of.items())
        }  # selections with one scorer share its figures
        self._untrusted = {scorer: dict[str, str]() for scorer in first_of}

        def submit(name: str, call: Callable[[], T], pool: ThreadPoolExecutor = threads) -> Future[T]:
            def compute() -> T:
                describe(spark, f"report: {name}")
                return call()

            future = pool.submit(compute)
            self._started.append(future)
            return future

        def start(
            section: str, call: Callable[[str], T | None], pool: ThreadPoolExecutor
        ) -> dict[str, Future[T | None]]:
            def of(name: str) -> T | None:
                return _attempt(self._problems[name], section, lambda: call(name))

            return {name: submit(f"{name}: {section}", partial(of, name), pool) for name in names}

        self._histograms = submit("histograms of scores", lambda: histograms_of(documents, known), first)
        self._known = submit("documents to read", lambda: self._known_documents(documents), first)
        self._readings = start("readings", self._readings_of, first)
        self._sums = submit("sums by source", lambda: source_sums(documents))
        self._trust = submit("trust in the scorers", self._trusts)
        self._removed = submit(
            "duplicates", lambda: _attempt(self._general, "duplicates", lambda: self._removed_documents(documents.unit))
        )
        self._explainers = submit("explanations", lambda: explainers_of(context, first_of))
        self._benchmarks = submit("benchmarks", lambda: benchmarks(spark, config))
        self._change = start("change", lambda name: change(spark, config, name), threads)
        self._overlaps = submit(
            "controls",
            lambda: _attempt(self._of_overlaps, "controls", lambda: overlaps(spark, config, documents, self.sums)),
        )
        self._texts = submit("read texts", self._with_texts, first)

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

    @property
    def trust(self) -> dict[str, Trust | None]:
        """Agreement with the target ranking, by scorer; without the scorers that cannot be measured."""
        return self._trust.result()

    def result(self) -> tuple[dict[str, Further], Duplicates]:
        """The sections of finished selections, and what deduplication removed."""
        for future in wait(self._started, return_when=FIRST_EXCEPTION).done:
            future.result()  # the first error ends the others
        with_text, reading_problem, diffs = self._texts.result()
        overlap = {each.name: each for each in self._overlaps.result() or []}
        changes = {name: each.result() for name, each in self._change.items()}
        sections = {
            name: Further(
                self.trust.get(scorer), overlap.get(name), with_text.get(name), changes[name],
                {**self._of_overlaps, **reading_problem, **self._untrusted[scorer], **self._problems[name]},
            )
            for name, scorer in self._scorer_of.items()
        }  # fmt: skip
        return sections, Duplicates(self._removed.result(), diffs, self._general)

    def _with_texts(self) -> tuple[dict[str, Readings], dict[str, str], list[WordDiff]]:
        """Readings by selection, why there are none, and pairs of duplicates; the texts of all are read together."""
        context, problem = self._context, dict[str, str]()
        chosen = [found for each in self._readings.values() if (found := each.result()) is not None]
        figures = self._removed.result()
        ids = {doc_id for each in chosen for doc_id in each.ids()} | set(figures.ids() if figures is not None else ())
        texts = _attempt(self._general, "diffs", lambda: texts_of(context, ids)) or {}

        def fill() -> list[Readings]:
            return all_with_texts(context, chosen, texts, explainers=self._explainers.result())

        filled = _attempt(problem, "readings", fill) or []
        diffs = word_diffs(figures, texts) if figures is not None else []
        return {each.name: each for each in filled}, problem, diffs

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
        threads, first = ThreadPoolExecutor(_AT_ONCE), ThreadPoolExecutor(_AT_ONCE)
        try:
            yield FurtherSections(context, ranked, documents, frames, threads=threads, first=first)
        finally:
            threads.shutdown(cancel_futures=True)  # after an error or Ctrl-C no other section starts
            first.shutdown(cancel_futures=True)


def _attempt(problems: dict[str, str], section: str, compute: Callable[[], T | None]) -> T | None:
    """Compute a section; if this is not possible, note why in a sentence, and the page is written without it."""
    try:
        with translated():
            return compute()
    except BetrSparkError as error:
        problems[section] = str(error.args[0]) if error.args else str(error)
        return None
