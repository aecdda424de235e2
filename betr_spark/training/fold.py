"""Fold a fastText model into one weight a feature: logit = mean of w (method 4).

For a softmax over two labels w = input @ (o_pos - o_neg); where each label has a sigmoid of its own (one-vs-all, negative
sampling), w = input @ o_pos, whatever the number of labels; there fastText's own probability is up to 0.008 too low, since it
looks the sigmoid up in a table of 512 steps.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from betr_spark.errors import ArtifactError
from betr_spark.scoring.ngram_table import MAX_BUCKETS, NgramTable

_ROWS_AT_ONCE = 65_536
_SIGMOIDS = ("ova", "ns")


def fold(model: Any, *, positive: str) -> NgramTable:
    """Fold exactly; the model itself is not needed afterwards.

    Args:
        model: a fasttext supervised model without character n-grams; with softmax of two labels.
        positive: the label whose probability is sigmoid(logit).

    Raises:
        ArtifactError: a model of another kind, which does not fold.
    """
    arguments = model.f.getArgs()
    labels, _ = model.f.getLabels("strict")
    found = None
    loss = arguments.loss.name
    if positive not in labels:
        shown = ", ".join(labels[:5]) + (f" and {len(labels) - 5} more" if len(labels) > 5 else "")
        found = f"no label '{positive}'; it has {shown}"
    elif loss == "hs":
        found = "hierarchical softmax; softmax of two labels, or one-vs-all, is wanted"
    elif loss not in ("softmax", *_SIGMOIDS):
        found = f"loss {loss}; softmax or one-vs-all is wanted"
    elif loss == "softmax" and len(labels) != 2:
        found = f"softmax of {len(labels)} labels ({', '.join(labels[:5])}); two are wanted, or one-vs-all"
    elif model.f.isQuant():
        found = "quantised; full float32 matrices are wanted"
    elif arguments.maxn > 0:
        found = f"character n-grams up to {arguments.maxn}; none are wanted"
    elif arguments.bucket >= MAX_BUCKETS:
        found = f"{arguments.bucket} buckets; fewer than {MAX_BUCKETS} are wanted"
    if found is not None:
        raise ArtifactError(f"fastText model: does not fold: {found}")
    outputs = np.asarray(model.f.getOutputMatrix()).astype(np.float64)
    place = labels.index(positive)
    direction = outputs[place] if loss in _SIGMOIDS else outputs[place] - outputs[1 - place]
    weights = _times(np.asarray(model.f.getInputMatrix()), direction)
    words, _ = model.f.getVocab("surrogateescape")
    return NgramTable.build(
        words, weights[: len(words)].copy(), weights[len(words) :].copy(), word_ngrams=int(arguments.wordNgrams)
    )


def _times(matrix: NDArray[np.float32], vector: NDArray[np.float64]) -> NDArray[np.float32]:
    out = np.empty(len(matrix), np.float32)
    for start in range(0, len(matrix), _ROWS_AT_ONCE):
        out[start : start + _ROWS_AT_ONCE] = matrix[start : start + _ROWS_AT_ONCE].astype(np.float64) @ vector
    return out
