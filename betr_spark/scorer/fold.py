"""Fold a two-label fastText model into one weight a feature: logit = mean of w, w = input @ (o_pos - o_neg) (method 4)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from betr_spark.errors import ArtifactError
from betr_spark.scorer.table import MOST_BUCKETS, NgramTable

_ROWS_AT_ONCE = 65_536


def fold(model: Any, *, positive: str) -> NgramTable:
    """Fold exactly; the model itself is not needed afterwards.

    Args:
        model: a fasttext supervised model with two labels, softmax loss, and no character n-grams.
        positive: the label whose probability is sigmoid(logit).

    Raises:
        ArtifactError: a model of another kind, which does not fold.
    """
    arguments = model.f.getArgs()
    labels, _ = model.f.getLabels("strict")
    found = None
    if len(labels) != 2 or positive not in labels:
        found = f"labels {', '.join(labels)}; two are wanted, '{positive}' one of them"
    elif arguments.loss.name != "softmax":
        found = f"loss {arguments.loss.name}; softmax is wanted"
    elif model.f.isQuant():
        found = "quantised; full float32 matrices are wanted"
    elif arguments.maxn > 0:
        found = f"character n-grams up to {arguments.maxn}; none are wanted"
    elif arguments.bucket >= MOST_BUCKETS:
        found = f"{arguments.bucket} buckets; fewer than {MOST_BUCKETS} are wanted"
    if found is not None:
        raise ArtifactError(f"fastText model: does not fold: {found}")
    outputs = np.asarray(model.f.getOutputMatrix()).astype(np.float64)
    place = labels.index(positive)
    weights = _times(np.asarray(model.f.getInputMatrix()), outputs[place] - outputs[1 - place])
    words, _ = model.f.getVocab("surrogateescape")
    return NgramTable.build(
        words, weights[: len(words)].copy(), weights[len(words) :].copy(), word_ngrams=int(arguments.wordNgrams)
    )


def _times(matrix: NDArray[np.float32], vector: NDArray[np.float64]) -> NDArray[np.float32]:
    out = np.empty(len(matrix), np.float32)
    for start in range(0, len(matrix), _ROWS_AT_ONCE):
        out[start : start + _ROWS_AT_ONCE] = matrix[start : start + _ROWS_AT_ONCE].astype(np.float64) @ vector
    return out
