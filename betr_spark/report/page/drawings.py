"""The drawings of the page, drawn while other sections are computed."""

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Self

from markupsafe import Markup

from betr_spark.report.page import charts
from betr_spark.report.page.drawing import draw
from betr_spark.report.page.scores import Scores
from betr_spark.report.trust import Trust

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Drawings:
    """Drawings of the selections, in one thread, because matplotlib's settings are those of all threads."""

    def __init__(self) -> None:
        """Import matplotlib and let it find its fonts, which takes seconds the first time."""
        self._thread = ThreadPoolExecutor(1)
        self._first = self._thread.submit(draw, "first", "", "", _paint_first)
        self._found = dict[int, Future[Mapping[str, Markup]]]()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(cancel_futures=True)

    def start(self, position: int, scores: Scores | None, trust: Trust | None) -> None:
        """Draw the sections of one selection.

        Args:
            position: of the selection on the page.
            scores: its sections on scores.
            trust: agreement of its scorer with the target ranking.
        """
        self._found[position] = self._thread.submit(drawn, position, scores, trust)

    def result(self) -> list[Mapping[str, Markup]]:
        """The drawings of each selection that was started, in the order of the positions, by name."""
        self._first.result()
        return [self._found[position].result() for position in sorted(self._found)]


def drawn(position: int, scores: Scores | None, trust: Trust | None) -> Mapping[str, Markup]:
    """Draw the sections of one selection, by name; as `Drawings.start`."""
    prefix = f"drawing-{position}"
    of_trust = {} if trust is None else _drawings_of_trust(prefix, trust)
    if scores is None:
        return of_trust
    drawings = {**of_trust, "scores": charts.score_histogram(f"{prefix}-scores", scores.histogram)}
    if scores.what_if.curve:
        drawings["documents"] = charts.what_if(f"{prefix}-documents", scores.what_if)
        drawings["thresholds"] = charts.thresholds(f"{prefix}-thresholds", scores.what_if)
    if scores.lengths.parts:
        drawings["lengths"] = charts.lengths(f"{prefix}-lengths", scores.lengths)
    return drawings


def _drawings_of_trust(prefix: str, trust: Trust) -> Mapping[str, Markup]:
    recalls, deciles = trust.recalls, trust.deciles
    drawings = {
        "recall": charts.recall(f"{prefix}-recall", [at.percent for at in recalls], [at.recall for at in recalls])
    }
    if len(deciles) > 1:
        scores, positives = [part.score for part in deciles], [part.positive for part in deciles]
        drawings["calibration"] = charts.calibration(f"{prefix}-calibration", scores, positives)
    return drawings


def _paint_first(axes: "Axes") -> None:
    axes.set_title("first")
