"""What ranks the documents: each example, centroids, one vector a benchmark, or one of all (method 2, for ablation)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2

from betr_spark.ranking.best_rank import on_grid

ALL = "(all)"  # the benchmark of the one global vector


class QueryVectors(NamedTuple):
    """Vectors that rank documents: benchmark and number of each (an example's row, or a centroid's place), [M, d] float32."""

    benchmarks: list[str]
    rows: list[int]
    vectors: NDArray[np.float32]

    def groups(self) -> dict[str, slice]:
        """Where the vectors of each benchmark lie."""
        found: dict[str, slice] = {}
        for place, name in enumerate(self.benchmarks):
            found[name] = slice(found[name].start if name in found else place, place + 1)
        return found


def query_vectors(
    benchmarks: Sequence[str], rows: Sequence[int], vectors: NDArray[np.float32], *, granularity: str, clusters: int
) -> QueryVectors:
    """Make the vectors that rank of those of the examples.

    Args:
        benchmarks: of each example; the examples of a benchmark lie together.
        rows: of each example.
        vectors: [n, d] float32, on the grid.
        granularity: example, kmeans, benchmark or global.
        clusters: k-means centroids a benchmark, fewer where it has fewer examples.
    """
    if granularity == "example":
        return QueryVectors(list(benchmarks), list(rows), vectors)
    if granularity == "global":
        return QueryVectors([ALL], [0], on_grid(_mean(vectors)))
    names: list[str] = []
    numbers: list[int] = []
    parts = []
    for name in dict.fromkeys(benchmarks):
        own = vectors[np.array([benchmark == name for benchmark in benchmarks])]
        centres = _mean(own) if granularity == "benchmark" else _centroids(own, clusters)
        names += [name] * len(centres)
        numbers += range(len(centres))
        parts.append(centres)
    return QueryVectors(names, numbers, on_grid(np.concatenate(parts)))


def _mean(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    mean: NDArray[np.float32] = vectors.astype(np.float64).mean(axis=0, keepdims=True).astype(np.float32)
    return mean


def _centroids(vectors: NDArray[np.float32], clusters: int) -> NDArray[np.float32]:
    count = min(clusters, len(np.unique(vectors, axis=0)))
    centres, label = kmeans2(vectors.astype(np.float64), count, minit="++", rng=np.random.default_rng(0))
    used: NDArray[np.float32] = centres[np.unique(label)].astype(np.float32)
    return used
