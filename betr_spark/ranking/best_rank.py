"""Best rank of every document over all examples, in two passes over blocks of documents.

Cosines are exact: `on_grid` rounds each coordinate of a unit vector to a multiple of 2^-24, so a product is a multiple of
2^-48, sums stay below 2^53 of those units, and float64 represents them without rounding in any order of summation. So a pair
has the same cosine for any block size, thread count or BLAS, and equal vectors tie exactly. A float32 index (for example faiss)
rounds differently for each block shape, which moves ranks at ties; float64 BLAS takes about twice its time.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from betr_spark.kernels.jit import jit

GRID = 2.0**24
_EXACT_CELLS = 2**25  # up to 256 MB of cosines every document is ranked exactly
_MIN_DEPTH = 100
_CELLS_AT_ONCE = 2**23


class BestRanks(NamedTuple):
    """For each of n documents: its best rank (1 = nearest), the cosine and index of the example with that rank, and its score.

    The score, higher is better, is 1 / rank, or the mean over all examples of log2(1 / r) or of 1 / r. The same for each of G
    groups of examples: its scores, and the cosines that break their ties, [n, G].
    """

    rank: NDArray[np.int32]
    cosine: NDArray[np.float32]
    example: NDArray[np.int32]
    score: NDArray[np.float64]
    group_scores: NDArray[np.float64]
    group_cosines: NDArray[np.float32]


def on_grid(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale rows to unit length and round to multiples of 2^-24; zero and non-finite rows become zero. [n, d]."""
    wide = vectors.astype(np.float64)
    wide[~np.isfinite(wide).all(axis=1)] = 0
    length = np.linalg.norm(wide, axis=1, keepdims=True)
    unit = np.divide(wide, length, out=np.zeros_like(wide), where=length > 0)
    rounded: NDArray[np.float32] = (np.rint(unit * GRID) / GRID).astype(np.float32)
    return rounded


def depth(*, n_documents: int, n_examples: int, positive_fraction: float) -> int:
    """Length R of the list kept for each example: all N documents if N * M is small, else at least 10 f N / M.

    A document that is in no list has rank R + 1; this R is so large that the cut of the positives is not affected.
    """
    needed = math.ceil(10 * positive_fraction * n_documents / n_examples)
    return min(n_documents, max(needed, _MIN_DEPTH, _EXACT_CELLS // n_examples))


class TopCosines:
    """First pass: the highest cosines of each example, block by block, in [M, 1.25 R + 1024] float64 of memory."""

    def __init__(self, examples: NDArray[np.float32], *, depth: int) -> None:
        """Start without documents.

        Args:
            examples: [M, d] on the grid.
            depth: R.
        """
        self._examples, self._depth = examples, depth
        self._highest = np.empty((len(examples), depth + depth // 4 + 1024))
        self._counts = np.zeros(len(examples), np.int64)
        self._bounds = np.full(len(examples), -np.inf)

    def add(self, vectors: NDArray[np.float32], first: NDArray[np.int64] | None = None) -> None:
        """Add a block of documents; vectors and their first indices as `best_ranks` takes them."""
        for _, cosines in _cosines(self._examples, vectors, first):
            _keep_highest(cosines, self._highest, self._counts, self._bounds, self._depth)

    def lists(self) -> NDArray[np.float64]:
        """The highest cosines so far, [M, min(R, n)] descending."""
        n = int(min(self._counts.min(initial=self._depth), self._depth))
        rows = [np.sort(row[:count])[::-1][:n] for row, count in zip(self._highest, self._counts, strict=True)]
        return np.stack(rows) if rows else np.empty((0, n))


@jit
def _keep_highest(
    cosines: NDArray[np.float64],
    highest: NDArray[np.float64],
    counts: NDArray[np.int64],
    bounds: NDArray[np.float64],
    depth: int,
) -> None:
    """Add the cosines above the R-th highest so far; a full row is cut to its R highest."""
    for example in range(len(cosines)):
        count, bound = counts[example], bounds[example]
        for cosine in cosines[example]:
            if cosine > bound:
                if count == highest.shape[1]:
                    highest[example] = np.partition(highest[example], count - depth)[::-1]
                    count = depth
                    bound = highest[example, :depth].min()
                    if cosine <= bound:
                        continue
                highest[example, count] = cosine
                count += 1
        counts[example], bounds[example] = count, bound


def merge_top(parts: list[NDArray[np.float64]], *, depth: int) -> NDArray[np.float64]:
    """Merge lists of cosines ([M, any length] each) into the `depth` highest, descending."""
    joined = np.concatenate(parts, axis=1)
    if joined.shape[1] > depth:
        joined = np.partition(joined, joined.shape[1] - depth, axis=1)[:, joined.shape[1] - depth :]
    return np.ascontiguousarray(np.sort(joined, axis=1)[:, ::-1])


def best_ranks(
    examples: NDArray[np.float32],
    vectors: NDArray[np.float32],
    first: NDArray[np.int64] | None = None,
    *,
    top: NDArray[np.float64],
    aggregate: str = "best_rank",
    groups: Sequence[slice] = (slice(None),),
) -> BestRanks:
    """Second pass over one block: rank = 1 + number of the example's top cosines that are higher.

    The best example has the lowest rank, then the highest cosine, then the lowest index.

    Args:
        examples: [M, d] on the grid.
        vectors: [v, d] on the grid; the vectors of each of n documents are consecutive.
        first: index of the first vector of each document, and v, int64 [n + 1]; without it each document has one vector. The
            cosine of a document is that of its best vector.
        top: [M, R] descending, of the whole sample.
        aggregate: best_rank, mean_log_rank or mean_reciprocal_rank; in a mean, ranks beyond R count as R + 1.
        groups: consecutive ranges of examples that together cover all of them.
    """
    n, ranks = len(vectors) if first is None else len(first) - 1, np.arange(1, top.shape[1] + 2, dtype=np.float64)
    values = {"mean_log_rank": -np.log2(ranks), "mean_reciprocal_rank": 1 / ranks}.get(aggregate, np.empty(0))
    worst, shape = top.shape[1] + 1, (n, len(groups))
    best = BestRanks(
        np.full(n, worst, np.int32), np.empty(n, np.float32), np.zeros(n, np.int32), np.zeros(n), np.zeros(shape),
        np.empty(shape, np.float32),
    )  # fmt: skip
    for block, cosines in _cosines(examples, vectors, first):
        highest = np.full(cosines.shape[1], -np.inf)
        for group, members in enumerate(groups):
            start, count = members.indices(len(examples))[0], len(examples[members])
            rank, example = np.full(cosines.shape[1], worst, np.int32), np.zeros(cosines.shape[1], np.int32)
            cosine, total = np.full(cosines.shape[1], -np.inf), np.zeros(cosines.shape[1])
            _lowest_rank(cosines[members], top[members], rank, cosine, example, values, total)
            best.group_scores[block, group] = total / count if len(values) else 1 / rank
            best.group_cosines[block, group] = cosine
            better = (rank < best.rank[block]) | ((rank == best.rank[block]) & (cosine > highest))
            best.rank[block][better], best.example[block][better] = rank[better], example[better] + start
            highest[better] = cosine[better]
            best.score[block] += total / len(examples)
        best.cosine[block] = highest
    return best if len(values) else best._replace(score=1 / best.rank)


@jit
def _lowest_rank(
    cosines: NDArray[np.float64],
    top: NDArray[np.float64],
    rank: NDArray[np.int32],
    cosine: NDArray[np.float64],
    example: NDArray[np.int32],
    values: NDArray[np.float64],
    score: NDArray[np.float64],
) -> None:
    """Lower `rank`, which starts as R + 1, with its cosine and example; add the value of each rank if there are values."""
    depth, adds = top.shape[1], len(values) > 0
    for index in range(len(cosines)):
        lowest = top[index, depth - 1]
        for document in range(len(rank)):
            value = cosines[index, document]
            if value < lowest:  # rank R + 1: counts until the document has a better rank
                if rank[document] > depth and value > cosine[document]:
                    cosine[document], example[document] = value, index
                if adds:
                    score[document] += values[depth]
                continue
            low = 0
            high = depth if adds else min(depth, rank[document])  # a rank above this would not be better
            while low < high:
                middle = (low + high) // 2
                if top[index, middle] > value:
                    low = middle + 1
                else:
                    high = middle
            if adds:
                score[document] += values[low]
            if low + 1 < rank[document] or (low + 1 == rank[document] and value > cosine[document]):
                rank[document], cosine[document], example[document] = low + 1, value, index


def _cosines(
    examples: NDArray[np.float32], vectors: NDArray[np.float32], first: NDArray[np.int64] | None
) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Yield blocks of documents with their cosines to the examples, [M, documents]."""
    wide = examples.astype(np.float64)
    size, start = max(1, _CELLS_AT_ONCE // len(examples)), 0
    n = len(vectors) if first is None else len(first) - 1
    while start < n:
        if first is None or n == len(vectors):
            end = min(n, start + size)
            yield slice(start, end), wide @ vectors[start:end].astype(np.float64).T
        else:
            end = min(n, max(start + 1, int(np.searchsorted(first, first[start] + size, side="right")) - 1))
            products = wide @ vectors[first[start] : first[end]].astype(np.float64).T
            yield slice(start, end), np.maximum.reduceat(products, first[start:end] - first[start], axis=1)
        start = end
