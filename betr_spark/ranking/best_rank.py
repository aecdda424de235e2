"""Best rank of every document over all examples, in two passes over blocks of documents (method 2).

Cosines are exact: `on_grid` puts each coordinate of a unit vector on the grid of 2^-24, so a product is a multiple of
2^-48, sums stay below 2^53 of those units, and float64 holds them without rounding whatever the order of summation. So a
pair has one cosine for any block size, thread count or BLAS, and equal vectors tie exactly. A float32 index (faiss among
them) rounds differently with the shape of the block, which moves ranks at ties; float64 BLAS costs about twice its time.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from betr_spark.kernels.jit import jit

GRID = 2.0**24
_EXACT_CELLS = 2**25  # up to 256 MB of cosines every document is ranked exactly
_LEAST_DEPTH = 100
_CELLS_AT_ONCE = 2**23


class BestRanks(NamedTuple):
    """For each document: its best rank (1 = nearest), cosine and index of the example that gave it, and the teacher's score.

    The score, the higher the better, is 1 / rank, or the mean over all examples of log2(1 / r) or of 1 / r. The same for each
    of G groups of examples: its scores, and the cosines that break their ties, [n, G].
    """

    rank: NDArray[np.int32]
    cosine: NDArray[np.float32]
    example: NDArray[np.int32]
    score: NDArray[np.float64]
    group_scores: NDArray[np.float64]
    group_cosines: NDArray[np.float32]


def on_grid(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale rows to unit length and round to multiples of 2^-24. Zero vectors, and not finite ones, are zero. [n, d]."""
    wide = vectors.astype(np.float64)
    wide[~np.isfinite(wide).all(axis=1)] = 0
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


class TopCosines:
    """First pass: the highest cosines of each example, block after block, in memory of [M, 1.25 R + 1024] float64."""

    def __init__(self, examples: NDArray[np.float32], *, depth: int) -> None:
        """Begin without a document.

        Args:
            examples: [M, d] on the grid.
            depth: R.
        """
        self._examples, self._depth = examples, depth
        self._found = np.empty((len(examples), depth + depth // 4 + 1024))
        self._counts = np.zeros(len(examples), np.int64)
        self._least = np.full(len(examples), -np.inf)

    def add(self, vectors: NDArray[np.float32], first: NDArray[np.int64] | None = None) -> None:
        """Look at a block of documents: vectors and places as `best_ranks` has them."""
        for _, cosines in _cosines(self._examples, vectors, first):
            _keep_highest(cosines, self._found, self._counts, self._least, self._depth)

    def lists(self) -> NDArray[np.float64]:
        """The highest cosines so far, [M, min(R, n)] descending."""
        n = int(min(self._counts.min(initial=self._depth), self._depth))
        rows = [np.sort(found[:count])[::-1][:n] for found, count in zip(self._found, self._counts, strict=True)]
        return np.stack(rows) if rows else np.empty((0, n))


@jit
def _keep_highest(
    cosines: NDArray[np.float64],
    found: NDArray[np.float64],
    counts: NDArray[np.int64],
    least: NDArray[np.float64],
    depth: int,
) -> None:
    """Add what is above the R-th highest so far; a full row is cut back to its R highest."""
    for example in range(len(cosines)):
        count, bound = counts[example], least[example]
        for cosine in cosines[example]:
            if cosine > bound:
                if count == found.shape[1]:
                    found[example] = np.partition(found[example], count - depth)[::-1]
                    count = depth
                    bound = found[example, :depth].min()
                    if cosine <= bound:
                        continue
                found[example, count] = cosine
                count += 1
        counts[example], least[example] = count, bound


def merge_top(parts: list[NDArray[np.float64]], *, depth: int) -> NDArray[np.float64]:
    """Merge lists of cosines ([M, any] each) into the `depth` highest, descending."""
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

    The best example is that of the lowest rank, then the highest cosine, then the lowest index.

    Args:
        examples: [M, d] on the grid.
        vectors: [v, d] on the grid, of n documents one after the other.
        first: place of each document's first vector, and v, int64 [n + 1]; each has one vector where this is left out. The
            cosine of a document is that of its best vector.
        top: [M, R] descending, of the whole sample.
        aggregate: best_rank, mean_log_rank or mean_reciprocal_rank; in a mean, ranks beyond R count as R + 1.
        groups: examples that belong together, one group after the other, all of them.
    """
    n, ranks = len(vectors) if first is None else len(first) - 1, np.arange(1, top.shape[1] + 2, dtype=np.float64)
    values = {"mean_log_rank": -np.log2(ranks), "mean_reciprocal_rank": 1 / ranks}.get(aggregate, np.empty(0))
    worst, shape = top.shape[1] + 1, (n, len(groups))
    best = BestRanks(
        np.full(n, worst, np.int32), np.empty(n, np.float32), np.zeros(n, np.int32), np.zeros(n), np.zeros(shape),
        np.empty(shape, np.float32),
    )  # fmt: skip
    for own, cosines in _cosines(examples, vectors, first):
        highest = np.full(cosines.shape[1], -np.inf)
        for group, members in enumerate(groups):
            start, count = members.indices(len(examples))[0], len(examples[members])
            rank, example = np.full(cosines.shape[1], worst, np.int32), np.zeros(cosines.shape[1], np.int32)
            cosine, total = np.full(cosines.shape[1], -np.inf), np.zeros(cosines.shape[1])
            _lowest_rank(cosines[members], top[members], rank, cosine, example, values, total)
            best.group_scores[own, group] = total / count if len(values) else 1 / rank
            best.group_cosines[own, group] = cosine
            better = (rank < best.rank[own]) | ((rank == best.rank[own]) & (cosine > highest))
            best.rank[own][better], best.example[own][better] = rank[better], example[better] + start
            highest[better] = cosine[better]
            best.score[own] += total / len(examples)
        best.cosine[own] = highest
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
    """Lower `rank`, which holds R + 1, with its cosine and example; add up the value of each rank where there are values."""
    depth, adds = top.shape[1], len(values) > 0
    for index in range(len(cosines)):
        least = top[index, depth - 1]
        for document in range(len(rank)):
            own = cosines[index, document]
            if own < least:  # rank R + 1: counts while the document has no better
                if rank[document] > depth and own > cosine[document]:
                    cosine[document], example[document] = own, index
                if adds:
                    score[document] += values[depth]
                continue
            low = 0
            high = depth if adds else min(depth, rank[document])  # more higher ones than that would be a worse rank
            while low < high:
                middle = (low + high) // 2
                if top[index, middle] > own:
                    low = middle + 1
                else:
                    high = middle
            if adds:
                score[document] += values[low]
            if low + 1 < rank[document] or (low + 1 == rank[document] and own > cosine[document]):
                rank[document], cosine[document], example[document] = low + 1, own, index


def _cosines(
    examples: NDArray[np.float32], vectors: NDArray[np.float32], first: NDArray[np.int64] | None
) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Some documents after the others, and their cosines with the examples, [M, documents]."""
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
