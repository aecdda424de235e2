"""Agreement of a scorer with the target ranking, on documents that it was not fitted to; pure NumPy."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from betr_spark.training.records import FitMetrics, ScorerMetrics

MIN_POSITIVES = 1_000
MAX_ACCURACY = 0.95
MAX_LENGTH_SPEARMAN = 0.5
_BINS = 10


class TargetScores(NamedTuple):
    """What the target ranking says of n documents.

    score: the higher the better, float64 [n]. cosine: breaks ties, float32 [n]. label: 1, 0, or -1 for none, int8 [n].
    benchmarks: of the best example, n names.
    """

    score: NDArray[np.float64]
    cosine: NDArray[np.float32]
    label: NDArray[np.int8]
    benchmarks: Sequence[str]


class Evaluated(NamedTuple):
    """Documents of the sample that a scorer was not fitted to, n.

    logit: float32 [n], NaN for a document without text. n_bytes: int64 [n]. sources: n names. target: None if the sample was
    not ranked.
    """

    logit: NDArray[np.float32]
    n_bytes: NDArray[np.int64]
    sources: Sequence[str]
    target: TargetScores | None


def positions(*keys: NDArray[Any]) -> NDArray[np.int64]:
    """Position of each row, 0 the best, by the first key descending, then the next one; equal rows keep their order."""
    order = np.lexsort([-np.nan_to_num(key.astype(np.float64), nan=-np.inf) for key in reversed(keys)])
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return rank


def recall_counts(target: NDArray[np.int64], scored: NDArray[np.int64], percent: float) -> tuple[int, int]:
    """Count the documents of the target ranking's top that are in the scorer's top, and those of the top (at least 1).

    Args:
        target: position of each document in the target ranking, int64 [n].
        scored: its position by the scorer, int64 [n].
        percent: size of the top, as a percentage of the n documents.
    """
    top = max(1, round(len(target) * percent / 100))
    return int(np.count_nonzero(scored[target < top] < top)), top


def area_under_curve(logits: NDArray[np.float32], labels: NDArray[np.int8]) -> float:
    """Probability that a positive has the higher logit than a negative; ties count half."""
    positive, negative = np.sort(logits[labels == 1]), np.sort(logits[labels == 0])
    below = np.searchsorted(negative, positive, side="left")
    not_above = np.searchsorted(negative, positive, side="right")
    return float((below + not_above).sum() / (2 * len(positive) * len(negative)))


def spearman(x: NDArray[Any], y: NDArray[Any]) -> float:
    """Rank correlation, ties at their mean rank; 0 if `x` or `y` is constant or there are fewer than two rows."""
    ranks = [_mean_ranks(np.nan_to_num(values.astype(np.float64), nan=-np.inf)) for values in (x, y)]
    if len(x) < 2 or any(rank.std() == 0 for rank in ranks):
        return 0.0
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _mean_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, number, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[number]


def scorer_metrics(fit: FitMetrics, rows: Evaluated) -> ScorerMetrics:
    """Figures of the fit, and how the scorer agrees with the target ranking and with length; for two documents at least."""
    n, figures = len(rows.logit), ScorerMetrics(**dataclasses.asdict(fit))
    if n < 2:
        return figures
    figures = dataclasses.replace(figures, n_evaluated=n, spearman_length=spearman(rows.logit, rows.n_bytes))
    if rows.target is None:
        return figures
    target, scored = positions(rows.target.score, rows.target.cosine), positions(rows.logit)

    def recall(percent: int) -> float:
        in_top, top = recall_counts(target, scored, percent)
        return in_top / top

    return dataclasses.replace(
        figures,
        spearman=spearman(-target, rows.logit),
        recall_at_1_percent=recall(1),
        recall_at_3_percent=recall(3),
        recall_at_10_percent=recall(10),
        recall_at_30_percent=recall(30),
    )


def details(rows: Evaluated, *, max_sources: int = 20) -> dict[str, Any]:
    """Share of each source in the scorer's top tenth; with a target ranking also recall by benchmark and calibration.

    The recall is that of the target ranking's top tenth.
    """
    n = len(rows.logit)
    if n < 2:
        return {}
    scored, sources = positions(rows.logit), np.array(rows.sources)
    top = max(1, round(n / 10))
    shares = {}
    names, counts = np.unique(sources, return_counts=True)
    for name in names[np.argsort(-counts, kind="stable")][:max_sources].tolist():
        of_source = sources == name
        shares[name] = {"sample": float(of_source.mean()), "top": float(of_source[scored < top].mean())}
    if rows.target is None:
        return {"source_shares": shares}
    target, benchmarks = positions(rows.target.score, rows.target.cosine), np.array(rows.target.benchmarks)
    recall = {}
    for name in np.unique(benchmarks[target < top]).tolist():
        recall[name] = float(np.mean(scored[(target < top) & (benchmarks == name)] < top))
    return {
        "recall_at_10_percent_by_benchmark": recall,
        "source_shares": shares,
        "calibration": calibration(rows.logit, rows.target.label),
    }


def calibration(logit: NDArray[np.float32], label: NDArray[np.int8]) -> list[dict[str, float]]:
    """Mean probability and share of positives in ten bins of probability; empty bins are left out."""
    labelled = (label >= 0) & ~np.isnan(logit)
    probability = expit(logit[labelled].astype(np.float64))
    bins, rows = np.minimum((probability * _BINS).astype(int), _BINS - 1), []
    for index in range(_BINS):
        inside = bins == index
        if inside.any():
            positive = float(np.mean(label[labelled][inside] == 1))
            rows.append(
                {"n": float(inside.sum()), "probability": float(probability[inside].mean()), "positive": positive}
            )
    return rows


def warnings(figures: ScorerMetrics) -> list[str]:
    """Figures that need attention, one line each."""
    lines = []
    if figures.n_positive is not None and figures.n_positive < MIN_POSITIVES:
        lines.append(
            f"{figures.n_positive} positive documents, fewer than {MIN_POSITIVES}; increase sample.documents for a better fit"
        )
    if figures.validation_accuracy is not None and figures.validation_accuracy > MAX_ACCURACY:
        lines.append(
            f"validation accuracy {figures.validation_accuracy:.3f}, above {MAX_ACCURACY}: the scorer distinguishes benchmark "
            "text from corpus text rather than better documents from worse ones; read the n-grams of some documents (`explain`)"
        )
    if figures.spearman_length is not None and abs(figures.spearman_length) > MAX_LENGTH_SPEARMAN:
        lines.append(
            f"score and length have a rank correlation of {figures.spearman_length:+.2f}: the scorer selects by length"
        )
    return lines
