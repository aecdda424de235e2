"""The vectors that rank documents: each example, centroids, one vector per benchmark, or one of all."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2

from betr_spark.ranking.best_rank import on_grid

ALL = "(all)"  # the benchmark of the one global vector


class QueryVectors(NamedTuple):
    """Vectors that rank documents.

    benchmarks: of each vector, M names; the vectors of a benchmark are consecutive. rows: row of the example, or index of the
    centroid in its benchmark, M. vectors: [M, d] float32, on the grid of best_rank.
    """

    benchmarks: list[str]
    rows: list[int]
    vectors: NDArray[np.float32]

    def groups(self) -> dict[str, slice]:
        """Range of the vectors of each benchmark."""
        groups: dict[str, slice] = {}
        for index, name in enumerate(self.benchmarks):
            groups[name] = slice(groups[name].start if name in groups else index, index + 1)
        return groups


def query_vectors(
    benchmarks: Sequence[str], rows: Sequence[int], vectors: NDArray[np.float32], *, granularity: str, clusters: int
) -> QueryVectors:
    """Compute the query vectors from the vectors of the examples.

    Args:
        benchmarks: of each example; the examples of a benchmark are consecutive.
        rows: of each example.
        vectors: [n, d] float32, on the grid.
        granularity: example, kmeans, benchmark or global.
        clusters: k-means centroids per benchmark, fewer if it has fewer distinct examples.
    """
    if granularity == "example":
        return QueryVectors(list(benchmarks), list(rows), vectors)
    if granularity == "global":
        return QueryVectors([ALL], [0], on_grid(_mean(vectors)))
    names: list[str] = []
    indices: list[int] = []
    parts = []
    for name in dict.fromkeys(benchmarks):
        examples = vectors[np.array([benchmark == name for benchmark in benchmarks])]
        centres = _mean(examples) if granularity == "benchmark" else _centroids(examples, clusters)
        names += [name] * len(centres)
        indices += range(len(centres))
        parts.append(centres)
    return QueryVectors(names, indices, on_grid(np.concatenate(parts)))


def _mean(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    mean: NDArray[np.float32] = vectors.astype(np.float64).mean(axis=0, keepdims=True).astype(np.float32)
    return mean


def _centroids(vectors: NDArray[np.float32], clusters: int) -> NDArray[np.float32]:
    count = min(clusters, len(np.unique(vectors, axis=0)))
    centres, label = kmeans2(vectors.astype(np.float64), count, minit="++", rng=np.random.default_rng(0))
    used: NDArray[np.float32] = centres[np.unique(label)].astype(np.float32)
    return used
