"""How well a scorer agrees with the teacher's order, on documents that it was not trained on; pure NumPy."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

KEEP_PERCENTS = (1, 3, 10, 30)
LEAST_POSITIVES = 1_000
MOST_ACCURACY = 0.95
MOST_LENGTH_SPEARMAN = 0.5
_BINS = 10


class Sampled(NamedTuple):
    """Documents of the ranked sample, n of each.

    teacher: the teacher's score, the higher the better, float64; cosine: breaks its ties, float32. logit: float32, NaN where
    there is no text. label: 1, 0, or -1 for none, int8. n_bytes: int64. benchmarks: of the best example. sources.
    """

    teacher: NDArray[np.float64]
    cosine: NDArray[np.float32]
    logit: NDArray[np.float32]
    label: NDArray[np.int8]
    n_bytes: NDArray[np.int64]
    benchmarks: Sequence[str]
    sources: Sequence[str]


def in_words(figures: Mapping[str, Any]) -> str:
    """Names and values on one line, numbers to three decimals, or three digits where they are smaller than that."""
    shown = []
    for value in figures.values():
        if not isinstance(value, float):
            shown.append(str(value))
        elif 0 < abs(value) < 0.001:
            shown.append(f"{value:.3g}")
        else:
            shown.append(f"{value:.3f}".removesuffix(".000"))
    return ", ".join(f"{name} {value}" for name, value in zip(figures, shown, strict=True))


def places(*keys: NDArray[Any]) -> NDArray[np.int64]:
    """Place of each row, 0 the best, by the first key descending, then the next; equal rows keep their order."""
    order = np.lexsort([-np.nan_to_num(key.astype(np.float64), nan=-np.inf) for key in reversed(keys)])
    found = np.empty(len(order), np.int64)
    found[order] = np.arange(len(order))
    return found


def area_under_curve(logits: NDArray[np.float32], labels: NDArray[np.int8]) -> float:
    """Probability that a positive has the higher logit, ties counting half."""
    positive, negative = np.sort(logits[labels == 1]), np.sort(logits[labels == 0])
    below = np.searchsorted(negative, positive, side="left")
    not_above = np.searchsorted(negative, positive, side="right")
    return float((below + not_above).sum() / (2 * len(positive) * len(negative)))


def spearman(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Rank correlation, ties by their mean rank; 0 where one of them is constant or there are fewer than two rows."""
    ranks = [_mean_ranks(np.nan_to_num(values.astype(np.float64), nan=-np.inf)) for values in (one, other)]
    if len(one) < 2 or any(rank.std() == 0 for rank in ranks):
        return 0.0
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _mean_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, number, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[number]


def agreement(rows: Sampled) -> dict[str, float]:
    """Figures that compare the scorer with the teacher; empty for fewer than two documents."""
    n = len(rows.teacher)
    if n < 2:
        return {}
    teacher, student = places(rows.teacher, rows.cosine), places(rows.logit)
    figures = {"n_evaluated": float(n), "spearman": spearman(-teacher, rows.logit)}
    for percent in KEEP_PERCENTS:
        top = max(1, round(n * percent / 100))
        figures[f"recall_at_{percent}_percent"] = float(np.mean(student[teacher < top] < top))
    figures["spearman_length"] = spearman(rows.logit, rows.n_bytes)
    return figures


def details(rows: Sampled, *, most_sources: int = 20) -> dict[str, Any]:
    """Recall of the teacher's top tenth by benchmark, share of each source in the scorer's top tenth, and calibration."""
    n = len(rows.teacher)
    if n < 2:
        return {}
    teacher, student = places(rows.teacher, rows.cosine), places(rows.logit)
    top = max(1, round(n / 10))
    benchmarks, sources = np.array(rows.benchmarks), np.array(rows.sources)
    recall = {}
    for name in np.unique(benchmarks[teacher < top]).tolist():
        recall[name] = float(np.mean(student[(teacher < top) & (benchmarks == name)] < top))
    shares = {}
    names, counts = np.unique(sources, return_counts=True)
    for name in names[np.argsort(-counts, kind="stable")][:most_sources].tolist():
        own = sources == name
        shares[name] = {"sample": float(own.mean()), "top": float(own[student < top].mean())}
    return {
        "recall_at_10_percent_by_benchmark": recall,
        "source_shares": shares,
        "calibration": calibration(rows.logit, rows.label),
    }


def calibration(logit: NDArray[np.float32], label: NDArray[np.int8]) -> list[dict[str, float]]:
    """Mean probability against the share of positives, in ten bins of probability; empty bins are left out."""
    labelled = (label >= 0) & ~np.isnan(logit)
    probability = expit(logit[labelled].astype(np.float64))
    bins, found = np.minimum((probability * _BINS).astype(int), _BINS - 1), []
    for bin_ in range(_BINS):
        own = bins == bin_
        if own.any():
            positive = float(np.mean(label[labelled][own] == 1))
            found.append({"n": float(own.sum()), "probability": float(probability[own].mean()), "positive": positive})
    return found


def warnings(figures: dict[str, float]) -> list[str]:
    """What the figures give cause to look at, each with its figure."""
    found = []
    if figures.get("n_positive", LEAST_POSITIVES) < LEAST_POSITIVES:
        found.append(
            f"{figures['n_positive']:.0f} positive documents, fewer than {LEAST_POSITIVES}: raise sample.documents"
        )
    if figures.get("validation_accuracy", 0.0) > MOST_ACCURACY:
        found.append(
            f"validation accuracy {figures['validation_accuracy']:.3f}, above {MOST_ACCURACY}: it tells benchmark text from "
            "other text rather than good documents from others"
        )
    if abs(figures.get("spearman_length", 0.0)) > MOST_LENGTH_SPEARMAN:
        found.append(
            f"score and length have a rank correlation of {figures['spearman_length']:+.2f}: the scorer chooses by length"
        )
    return found
