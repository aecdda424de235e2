"""What training works with and reports: texts with labels, fitted tables, and their figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from betr_spark.scoring.ngram_table import Table
from betr_spark.storage.runs import Metrics


class Labelled(NamedTuple):
    """Texts that are held out, n, with their labels (1 positive, 0 negative), int8 [n]."""

    texts: Sequence[str]
    labels: NDArray[np.int8]


@dataclass(frozen=True, kw_only=True)
class FitMetrics(Metrics):
    """Figures of a fit: on the validation split, and numbers of documents. None if it does not apply to the kind of scorer.

    `validation_sd` is the standard deviation of the probability.
    """

    validation_auc: float | None = None
    validation_accuracy: float | None = None
    validation_sd: float | None = None
    n_validation: int | None = None
    n_training: int | None = None
    n_positive: int | None = None


@dataclass(frozen=True, kw_only=True)
class ScorerMetrics(FitMetrics):
    """Figures of a scorer: those of its fit, and on documents of the sample that it was not fitted to.

    `spearman` and `recall_at_P_percent` compare with the target ranking; None if there is no target ranking.
    """

    n_evaluated: int | None = None
    spearman: float | None = None
    recall_at_1_percent: float | None = None
    recall_at_3_percent: float | None = None
    recall_at_10_percent: float | None = None
    recall_at_30_percent: float | None = None
    spearman_length: float | None = None


class HyperParameters(NamedTuple):
    """The hyper-parameters of fastText that are chosen by validation."""

    lr: float
    epochs: int

    def __str__(self) -> str:
        """Name them in a message."""
        return f"lr {self.lr} x {self.epochs} epochs"


class Fitted(NamedTuple):
    """A table of weights, the settings it was fitted with (for scorer.json), and its figures.

    `chosen` are the hyper-parameters of a fastText model that was trained here.
    """

    table: Table
    settings: Mapping[str, float | int | str]
    metrics: FitMetrics
    chosen: HyperParameters | None = None


def in_words(figures: Mapping[str, Any]) -> str:
    """Names and values on one line; numbers have three decimals, or three digits if they are below 0.001."""
    shown = []
    for value in figures.values():
        if not isinstance(value, float):
            shown.append(str(value))
        elif 0 < abs(value) < 0.001:
            shown.append(f"{value:.3g}")
        else:
            shown.append(f"{value:.3f}".removesuffix(".000"))
    return ", ".join(f"{name} {value}" for name, value in zip(figures, shown, strict=True))
