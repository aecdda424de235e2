"""Fold a fastText model into one weight for each feature: logit = mean of w.

For a softmax over two labels w = input @ (o_pos - o_neg). If each label has its own sigmoid (one-vs-all, negative sampling),
w = input @ o_pos for any number of labels; fastText's own probability is then up to 0.008 too low, because it looks the sigmoid
up in a table of 512 steps.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from betr_spark.errors import ArtifactError
from betr_spark.scoring.ngram_table import MAX_BUCKETS, NgramTable
from betr_spark.training.fasttext_file import ModelHeader

_ROWS_AT_ONCE = 65_536
_SIGMOIDS = ("ova", "ns")


def unsupported(header: ModelHeader, *, positive: str) -> str | None:
    """Return why a model cannot be folded, or None if it can; `positive` is the label whose probability is the score."""
    labels, loss = header.labels, header.loss
    if positive not in labels:
        shown = ", ".join(labels[:5]) + (f" and {len(labels) - 5} more" if len(labels) > 5 else "")
        return f"no label '{positive}'; it has {shown}"
    if loss == "hs":
        return "hierarchical softmax; a softmax of two labels or one-vs-all is required"
    if loss not in ("softmax", *_SIGMOIDS):
        return f"loss {loss}; softmax or one-vs-all is required"
    if loss == "softmax" and len(labels) != 2:
        return f"softmax of {len(labels)} labels ({', '.join(labels[:5])}); two labels or one-vs-all are required"
    if header.max_character_ngram > 0:
        return f"character n-grams up to {header.max_character_ngram}; a model without them is required"
    if header.n_buckets >= MAX_BUCKETS:
        return f"{header.n_buckets} buckets; fewer than {MAX_BUCKETS} are required"
    return None


def fold(model: Any, *, positive: str) -> NgramTable:
    """Fold exactly; the model itself is not needed afterwards.

    Args:
        model: a supervised fasttext model without character n-grams; a softmax must have two labels.
        positive: the label whose probability is sigmoid(logit).

    Raises:
        ArtifactError: the model is of an unsupported kind.
    """
    arguments = model.f.getArgs()
    labels, _ = model.f.getLabels("strict")
    loss = arguments.loss.name
    reason = unsupported(ModelHeader(labels, loss, arguments.maxn, arguments.bucket), positive=positive)
    if reason is None and model.f.isQuant():
        reason = "quantised; full float32 matrices are required"
    if reason is not None:
        raise ArtifactError(f"unsupported fastText model: {reason}")
    outputs = np.asarray(model.f.getOutputMatrix()).astype(np.float64)
    index = labels.index(positive)
    direction = outputs[index] if loss in _SIGMOIDS else outputs[index] - outputs[1 - index]
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
