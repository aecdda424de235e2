"""The drawings of the sections."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from markupsafe import Markup

from betr_spark.report.page.drawing import (
    ACCENT,
    MUTED,
    REJECTED,
    SELECTED,
    draw,
    log_ticks,
    percent,
    plain_ticks,
    short,
)
from betr_spark.report.page.scores import Lengths, ScoreHistogram, WhatIf

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def score_histogram(name: str, scores: ScoreHistogram) -> Markup:
    """Documents by logit, on a logarithmic axis: selected and rejected, and the lowest selected score."""
    top = max(2, *scores.selected, *scores.rejected)

    def paint(axes: "Axes") -> None:
        floor = 0.7  # below one document
        for counts, colour, label in ((scores.rejected, REJECTED, "rejected"), (scores.selected, SELECTED, "selected")):
            heights = np.where(np.array(counts) > 0, counts, floor)
            axes.stairs(heights, scores.edges, baseline=floor, fill=True, facecolor=colour, alpha=0.55, label=label)
            axes.stairs(heights, scores.edges, baseline=floor, edgecolor=colour, linewidth=1.2)
        if scores.lowest_selected is not None:
            axes.axvline(scores.lowest_selected, color=ACCENT, linewidth=1.4, linestyle="--", label="lowest selected")
        axes.set_yscale("log")
        axes.set_ylim(floor, top * 2)
        axes.set_xlim(scores.edges[0], scores.edges[-1])
        log_ticks(axes.yaxis)
        plain_ticks(axes.xaxis)
        axes.set_xlabel("logit")
        axes.set_ylabel("documents")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, handlelength=1.4, columnspacing=1.4)

    text = f"{sum(scores.selected):,} selected and {sum(scores.rejected):,} rejected documents in bars of equal width"
    return draw(name, "Documents by score", text, paint)


def what_if(name: str, figures: WhatIf) -> Markup:
    """Documents that keep rates keep, and the share of all documents with a score; the current keep rate is marked."""
    rates = [cut.keep_rate for cut in figures.curve]
    documents = [cut.documents for cut in figures.curve]

    def paint(axes: "Axes") -> None:
        axes.plot(rates, documents, color=SELECTED, linewidth=2)
        _rate_axis(axes, figures)
        axes.set_yscale("log")
        log_ticks(axes.yaxis)
        axes.set_ylabel("documents kept")

    text = (
        f"From {short(documents[0])} documents at {percent(rates[0])} to {short(documents[-1])} at {percent(rates[-1])}"
    )
    return draw(name, "Documents that a keep rate keeps", text, paint, height=2.9)


def thresholds(name: str, figures: WhatIf) -> Markup:
    """The logit at the cut, by keep rate."""
    rates, logits = [cut.keep_rate for cut in figures.curve], [cut.logit for cut in figures.curve]

    def paint(axes: "Axes") -> None:
        axes.plot(rates, logits, color=SELECTED, linewidth=2)
        _rate_axis(axes, figures)
        plain_ticks(axes.yaxis)
        axes.set_ylabel("logit at the cut")

    text = f"From {logits[0]:.3g} at {percent(rates[0])} down to {logits[-1]:.3g} at {percent(rates[-1])}"
    return draw(name, "The score at the cut, by keep rate", text, paint, height=2.9)


def _rate_axis(axes: "Axes", figures: WhatIf) -> None:
    axes.set_xscale("log")
    ticks = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0]
    axes.set_xlim(figures.curve[0].keep_rate, 1.0)
    log_ticks(axes.xaxis, percent, [tick for tick in ticks if tick >= figures.curve[0].keep_rate])
    axes.set_xlabel("keep rate (share of the tokens)")
    if figures.current is not None:
        axes.axvline(figures.current.keep_rate, color=ACCENT, linewidth=1.4, linestyle="--", label="this selection")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), handlelength=1.8)


def lengths(name: str, figures: Lengths) -> Markup:
    """The quartiles of the logit for each tenth of the documents by length."""
    parts = figures.parts
    positions = np.arange(len(parts))

    def paint(axes: "Axes") -> None:
        low, middle, high = (np.array([part.quartiles[quartile] for part in parts]) for quartile in range(3))
        axes.vlines(positions, low, high, color=SELECTED, linewidth=9, alpha=0.35, label="half of the documents")
        axes.plot(positions, middle, "o", color=SELECTED, markersize=5, label="median")
        axes.set_xticks(positions, [f"≤ {short(part.high)}" for part in parts], rotation=35, ha="right", fontsize=10)
        axes.tick_params(axis="x", length=0)
        plain_ticks(axes.yaxis)
        axes.set_xlabel("tokens")
        axes.set_ylabel("logit")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)

    text = ", ".join(f"up to {part.high:,} tokens: median {part.quartiles[1]:.3g}" for part in parts)
    return draw(name, "Score by length", text, paint)


class _Rate(Protocol):
    """A share with its interval."""

    @property
    def share(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


def recall(name: str, percents: Sequence[int], rates: Sequence[_Rate]) -> Markup:
    """Shares of the target ranking's tops that are in the scorer's tops, with intervals, beside an order by chance."""

    def paint(axes: "Axes") -> None:
        shares = np.array([rate.share for rate in rates])
        ends = [[rate.share - rate.low for rate in rates], [rate.high - rate.share for rate in rates]]
        axes.errorbar(
            percents, shares, np.maximum(ends, 0), fmt="o-", color=SELECTED, capsize=3, markersize=5, label="scorer"
        )
        axes.plot(percents, np.array(percents) / 100, "--", color=MUTED, linewidth=1.2, label="by chance")
        axes.set_xscale("log")
        axes.set_ylim(0, 1)
        log_ticks(axes.xaxis, lambda value: f"{value:g} %", percents)
        plain_ticks(axes.yaxis, percent)
        axes.set_xlabel("size of both tops")
        axes.set_ylabel("share in both")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)

    text = ", ".join(f"top {size} %: {rate.share:.0%}" for size, rate in zip(percents, rates, strict=True))
    return draw(name, "Agreement with the target ranking", text, paint, height=2.9)


def calibration(name: str, scores: Sequence[float], positives: Sequence[_Rate]) -> Markup:
    """Share of positives against the mean score, with intervals."""

    def paint(axes: "Axes") -> None:
        shares = np.array([rate.share for rate in positives])
        ends = [[rate.share - rate.low for rate in positives], [rate.high - rate.share for rate in positives]]
        axes.plot([0, 1], [0, 1], "--", color=MUTED, linewidth=1.2, label="calibrated")
        axes.errorbar(
            scores, shares, np.maximum(ends, 0), fmt="o", color=SELECTED, capsize=2, markersize=5, label="tenths"
        )
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        plain_ticks(axes.xaxis)
        plain_ticks(axes.yaxis, percent)
        axes.set_xlabel("mean score")
        axes.set_ylabel("positive documents")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)

    pairs = zip(scores, positives, strict=True)
    text = ", ".join(f"score {score:.2f}: {rate.share:.0%} positive" for score, rate in pairs)
    return draw(name, "Calibration", text, paint, height=2.9)
