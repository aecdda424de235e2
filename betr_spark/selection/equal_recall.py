"""Weights of benchmarks with which a selection keeps the same part of every benchmark's own first documents.

A document's value for a benchmark is near 1 if its position in the benchmark's ranking is within the budget, and falls with
the fourth power of the position beyond it. The selection is the prefix of the weighted sum of these values that fits the
budget. The recall of a benchmark is the part of its own prefix of the size of the budget, by tokens, that the selection has. A
benchmark that has less than the others gets a larger weight.
"""

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 80


def value(depth: NDArray[np.float64]) -> NDArray[np.float64]:
    """Value of documents for a benchmark, in (0, 1].

    Args:
        depth: position over the budget, both as shares of the tokens; float64, any shape.
    """
    squared = depth * depth
    return 1.0 / (1.0 + squared * squared)


def recalls(kept: NDArray[np.bool_], depth: NDArray[np.float64], n_tokens: NDArray[np.int64]) -> NDArray[np.float64]:
    """Part of the tokens of each benchmark's own prefix that is kept, float64 [b]; 1 for an empty prefix.

    Args:
        kept: bool [n].
        depth: float64 [n, b], as for `value`.
        n_tokens: int64 [n].
    """
    own = (depth <= 1.0) * n_tokens[:, None]
    total = own.sum(axis=0)
    return np.where(total > 0, own[kept].sum(axis=0) / np.maximum(total, 1), 1.0)


def equal_recall_weights(
    positions: NDArray[np.float64], n_tokens: NDArray[np.int64], *, fraction: float
) -> NDArray[np.float64]:
    """Find the weights by raising those of benchmarks with a low recall, in 80 rounds; those with the best lowest recall win.

    Args:
        positions: float64 [n, b], share of the tokens that rank higher by each benchmark's scorer.
        n_tokens: int64 [n].
        fraction: the budget as a share of the tokens, in (0, 1].

    Returns:
        float64 [b], mean 1.
    """
    n_benchmarks = positions.shape[1]
    depth = positions / fraction
    values, budget = value(depth), fraction * n_tokens.sum()
    weights = best = np.ones(n_benchmarks)
    highest = -1.0
    for step in range(_ROUNDS if len(n_tokens) and n_benchmarks > 1 else 0):
        order = np.argsort(-(values @ weights), kind="stable")
        kept = np.zeros(len(order), np.bool_)
        kept[order[np.cumsum(n_tokens[order]) <= budget]] = True
        recall = recalls(kept, depth, n_tokens)
        if recall.min() > highest:
            highest, best = float(recall.min()), weights
        weights = weights * np.exp(min(1.0, 3.0 / (1.0 + step / 4.0)) * (recall.mean() - recall))
        weights = weights / weights.mean()
    return best
