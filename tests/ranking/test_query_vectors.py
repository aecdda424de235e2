"""Vectors that rank documents instead of the examples."""

import numpy as np
import pytest

from betr_spark.ranking.best_rank import on_grid
from betr_spark.ranking.query_vectors import ALL, query_vectors

BENCHMARKS, ROWS = ["a"] * 30 + ["b"] * 20, [*range(30), *range(20)]


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    draw = np.random.default_rng(2)
    centres = np.eye(8)[[0] * 15 + [1] * 15 + [2] * 20]
    return on_grid((centres + 0.05 * draw.normal(size=(50, 8))).astype(np.float32))


def test_means_are_unit_vectors_of_the_mean(vectors: np.ndarray) -> None:
    whole = query_vectors(BENCHMARKS, ROWS, vectors, granularity="global", clusters=3)
    each = query_vectors(BENCHMARKS, ROWS, vectors, granularity="benchmark", clusters=3)
    assert (whole.benchmarks, whole.rows, each.benchmarks, each.rows) == ([ALL], [0], ["a", "b"], [0, 0])
    groups = ((whole.vectors[0], vectors), (each.vectors[0], vectors[:30]), (each.vectors[1], vectors[30:]))
    for query, examples in groups:
        mean = examples.astype(np.float64).mean(axis=0)
        np.testing.assert_allclose(query, mean / np.linalg.norm(mean), atol=1e-6)


def test_centroids_are_in_the_clusters_and_not_more_than_the_examples(vectors: np.ndarray) -> None:
    queries = query_vectors(BENCHMARKS, ROWS, vectors, granularity="kmeans", clusters=2)
    assert queries.benchmarks == ["a", "a", "b", "b"]
    assert sorted(queries.vectors[:2].argmax(axis=1).tolist()) == [0, 1]
    same = query_vectors(["c"] * 3, [0, 1, 2], vectors[[0, 0, 0]], granularity="kmeans", clusters=10)
    np.testing.assert_allclose(same.vectors, vectors[:1], atol=1e-6)
    again = query_vectors(BENCHMARKS, ROWS, vectors, granularity="kmeans", clusters=2)
    np.testing.assert_array_equal(again.vectors, queries.vectors)
