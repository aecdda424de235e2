"""Best rank of every document over all examples, in two passes over blocks of documents (method 2).

Cosines are exact: `on_grid` puts each coordinate of a unit vector on the grid of 2^-24, so a product is a multiple of
2^-48, sums stay below 2^53 of those units, and float64 holds them without rounding whatever the order of summation. So a
pair has one cosine for any block size, thread count or BLAS, and equal vectors tie exactly. A float32 index (faiss among
them) rounds differently with the shape of the block, which moves ranks at ties; float64 BLAS costs about twice its time.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

GRID = 2.0**24
_EXACT_CELLS = 2**25  # up to 256 MB of cosines every document is ranked exactly
_LEAST_DEPTH = 100
_CELLS_AT_ONCE = 2**23


class BestRanks(NamedTuple):
    """For each document: its best rank (1 = nearest), and cosine and index of the example that gave it."""

    rank: NDArray[np.int32]
    cosine: NDArray[np.float32]
    example: NDArray[np.int32]


def on_grid(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale rows to unit length and round to multiples of 2^-24. A zero vector stays zero. Shape [n, d] float32."""
    wide = vectors.astype(np.float64)
    length = np.linalg.norm(wide, axis=1, keepdims=True)
    unit = np.divide(wide, length, out=np.zeros_like(wide), where=length > 0)
    rounded: NDArray[np.float32] = (np.rint(unit * GRID) / GRID).astype(np.float32)
    return rounded


def depth(*, n_documents: int, n_examples: int, positive_fraction: float) -> int:
    """Length R of the list kept for each example: all N documents while N * M is small, else at least 10 f N / M.

    A document in nobody's top R has rank R + 1; with this R nothing near the cut of the positives is affected.
    """
    needed = math.ceil(10 * positive_fraction * n_documents / n_examples)
    return min(n_documents, max(needed, _LEAST_DEPTH, _EXACT_CELLS // n_examples))


def top_cosines(examples: NDArray[np.float32], documents: NDArray[np.float32], *, depth: int) -> NDArray[np.float64]:
    """First pass over one block: the highest cosines of each example.

    Args:
        examples: [M, d] on the grid.
        documents: [n, d] on the grid.
        depth: R.

    Returns:
        [M, min(R, n)] descending.
    """
    best = np.empty((len(examples), 0))
    for block in _blocks(documents, len(examples)):
        best = merge_top([best, _cosines(examples, block)], depth=depth)
    return best


def merge_top(parts: list[NDArray[np.float64]], *, depth: int) -> NDArray[np.float64]:
    """Merge lists of cosines ([M, any] each) into the `depth` highest, descending."""
    joined = np.concatenate(parts, axis=1)
    if joined.shape[1] > depth:
        joined = np.partition(joined, joined.shape[1] - depth, axis=1)[:, joined.shape[1] - depth :]
    return np.ascontiguousarray(np.sort(joined, axis=1)[:, ::-1])


def best_ranks(examples: NDArray[np.float32], documents: NDArray[np.float32], *, top: NDArray[np.float64]) -> BestRanks:
    """Second pass over one block: rank = 1 + number of the example's top cosines that are higher.

    The best example is that of the lowest rank, then the highest cosine, then the lowest index.

    Args:
        examples: [M, d] on the grid.
        documents: [n, d] on the grid.
        top: [M, R] descending, of the whole sample.
    """
    found = [_block_ranks(examples, block, top) for block in _blocks(documents, len(examples))]
    if not found:
        return BestRanks(np.empty(0, np.int32), np.empty(0, np.float32), np.empty(0, np.int32))
    return BestRanks(*(np.concatenate(column) for column in zip(*found, strict=True)))


def _block_ranks(examples: NDArray[np.float32], block: NDArray[np.float32], top: NDArray[np.float64]) -> BestRanks:
    cosines = _cosines(examples, block)
    ascending = top[:, ::-1]
    rank = np.full(len(block), np.iinfo(np.int32).max, np.int32)
    cosine = np.full(len(block), -np.inf)
    example = np.zeros(len(block), np.int32)
    for index in range(len(examples)):
        higher = top.shape[1] - np.searchsorted(ascending[index], cosines[index], side="right")
        better = (higher + 1 < rank) | ((higher + 1 == rank) & (cosines[index] > cosine))
        rank[better] = higher[better] + 1
        cosine[better] = cosines[index][better]
        example[better] = index
    return BestRanks(rank, cosine.astype(np.float32), example)


def _cosines(examples: NDArray[np.float32], documents: NDArray[np.float32]) -> NDArray[np.float64]:
    return examples.astype(np.float64) @ documents.astype(np.float64).T


def _blocks(documents: NDArray[np.float32], n_examples: int) -> list[NDArray[np.float32]]:
    size = max(1, _CELLS_AT_ONCE // n_examples)
    return [documents[start : start + size] for start in range(0, len(documents), size)]
