"""Figures of fitted tables on the validation split, and the choice among candidates."""

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from betr_spark.errors import ArtifactError, DataError
from betr_spark.kernels.text_preparation import as_buffers
from betr_spark.scoring.ngram_table import Table, stack
from betr_spark.scoring.score import score
from betr_spark.training.agreement import area_under_curve
from betr_spark.training.records import FitMetrics, Fitted, Labelled, in_words

MIN_AUC, MIN_SD = 0.6, 0.01
_logger = logging.getLogger(__name__)


def score_texts(texts: Sequence[str], table: Table) -> NDArray[np.float32]:
    """Logits of texts, float32 [n], NaN for a text without a word; uses the kernel that scores the corpus."""
    words, logits = score(*as_buffers(texts), stack([table]))
    return np.where(words > 0, logits[:, 0], np.float32(np.nan))


def validated(table: Table, validation: Labelled, *, n_training: int, n_positive: int | None = None) -> FitMetrics:
    """Figures on the validation split; without those figures if it has one class only."""
    counts = FitMetrics(n_training=n_training, n_positive=n_positive)
    if not 0 < validation.labels.sum() < len(validation.labels):
        return counts
    logits = np.nan_to_num(score_texts(validation.texts, table), nan=0.0)
    return FitMetrics(
        validation_auc=area_under_curve(logits, validation.labels),
        validation_accuracy=float(np.mean((logits > 0) == (validation.labels == 1))),
        validation_sd=float(expit(logits.astype(np.float64)).std()),
        n_validation=len(validation.labels),
        n_training=n_training,
        n_positive=n_positive,
    )


def check_validation(validation: Labelled, name: str) -> None:
    """Raise DataError unless the validation split has both labels."""
    if len(set(validation.labels.tolist())) < 2:
        raise DataError(
            f"scorers.{name}: {len(validation.labels)} validation documents of one class, both are required; increase "
            "sample.documents"
        )


def best_of(tried: Sequence[Fitted], *, name: str) -> Fitted:
    """The candidate with the highest validation AUC of those that pass.

    Raises:
        ArtifactError: none passes; gives the figures.
    """
    for fitted in tried:
        _logger.info("scorers.%s: %s: %s", name, in_words(fitted.settings), in_words(fitted.metrics.to_mapping()))
    passing = [
        fitted
        for fitted in tried
        if (fitted.metrics.validation_auc or 0) >= MIN_AUC and (fitted.metrics.validation_sd or 0) >= MIN_SD
    ]
    if not passing:
        figures = "; ".join(
            f"{_description(fitted)}: AUC {fitted.metrics.validation_auc:.3f}, sd of P {fitted.metrics.validation_sd:.2g}"
            for fitted in tried
        )
        raise ArtifactError(
            f"scorers.{name}: training failed on {tried[0].metrics.n_training} documents ({figures}; AUC >= {MIN_AUC} and "
            f"sd >= {MIN_SD} are required); increase sample.documents"
        )
    best = max(passing, key=lambda fitted: fitted.metrics.validation_auc or 0)
    if len(tried) > 1:
        _logger.info("scorers.%s: chose %s", name, _description(best))
    return best


def _description(fitted: Fitted) -> str:
    return str(fitted.chosen) if fitted.chosen else "linear model"
