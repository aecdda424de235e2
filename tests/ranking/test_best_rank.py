"""Best ranks compared with a brute-force ranking, with ties, for any block size."""

import numpy as np
import pytest

from betr_spark.ranking import best_rank
from betr_spark.ranking.best_rank import TopCosines, best_ranks, depth, merge_top, on_grid


def brute_force(examples: np.ndarray, documents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rank of each document for each example: 1 + how many documents have a higher cosine; and the cosines."""
    units = [np.rint(m.astype(np.float64) * 2**24).astype(np.int64) for m in (examples, documents)]
    cosines = units[0] @ units[1].T  # exact, in units of 2^-48
    ranks = np.empty(cosines.shape, np.int64)
    for index, row in enumerate(cosines):
        ranks[index] = 1 + np.searchsorted(np.sort(-row), -row, side="left")
    return ranks, cosines


def top_cosines(examples: np.ndarray, documents: np.ndarray, *, depth: int) -> np.ndarray:
    """The lists of one block."""
    highest = TopCosines(examples, depth=depth)
    highest.add(documents)
    return highest.lists()


@pytest.fixture(scope="module")
def vectors() -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(3)
    documents = on_grid(draw.normal(size=(2000, 48)).astype(np.float32))
    documents[100:400] = documents[:300]  # ties by equal vectors
    documents[500] = 0
    coarse = np.sign(draw.normal(size=(200, 48))).astype(np.float32)
    documents[1000:1200] = on_grid(coarse)  # ties by chance
    examples = on_grid(draw.normal(size=(500, 48)).astype(np.float32))
    examples[250:300] = on_grid(np.sign(draw.normal(size=(50, 48))).astype(np.float32))
    return examples, documents


@pytest.mark.parametrize("block", [2000, 333, 64])
def test_best_ranks_equal_brute_force(vectors: tuple[np.ndarray, np.ndarray], block: int) -> None:
    examples, documents = vectors
    ranks, cosines = brute_force(examples, documents)
    assert depth(n_documents=2000, n_examples=500, positive_fraction=0.1) == 2000
    blocks = [documents[start : start + block] for start in range(0, 2000, block)]
    top = merge_top([top_cosines(examples, b, depth=2000) for b in blocks], depth=2000)
    parts = [best_ranks(examples, b, top=top) for b in blocks]
    rank, cosine, example, *_ = (np.concatenate(column) for column in zip(*parts, strict=True))
    best = ranks.min(axis=0)
    np.testing.assert_array_equal(rank, best)
    for document in range(0, 2000, 7):
        tied = np.flatnonzero(ranks[:, document] == best[document])
        nearest = max(tied, key=lambda i: (cosines[i, document], -i))
        assert example[document] == nearest
        assert cosine[document] == np.float32(cosines[nearest, document] / 2**48)
    assert len(np.unique(rank)) < 2000  # there were ties


def test_beyond_the_depth_the_rank_is_depth_plus_one(vectors: tuple[np.ndarray, np.ndarray]) -> None:
    examples, documents = vectors
    ranks, cosines = brute_force(examples[:20], documents)
    top = top_cosines(examples[:20], documents, depth=40)
    computed = best_ranks(examples[:20], documents, top=top)
    np.testing.assert_array_equal(computed.rank, np.minimum(ranks.min(axis=0), 41))
    outside = computed.rank == 41
    assert outside.any()
    highest = (cosines.max(axis=0) / 2**48).astype(np.float32)
    np.testing.assert_array_equal(computed.cosine[outside], highest[outside])


@pytest.mark.parametrize("aggregate", ["best_rank", "mean_log_rank", "mean_reciprocal_rank"])
def test_scores_are_means_over_all_examples(vectors: tuple[np.ndarray, np.ndarray], aggregate: str) -> None:
    examples, documents = vectors
    ranks, _ = brute_force(examples, documents)
    capped = np.minimum(ranks, 41)
    means = {"mean_log_rank": -np.log2(capped), "mean_reciprocal_rank": 1 / capped}
    expected = means[aggregate].mean(axis=0) if aggregate in means else 1 / capped.min(axis=0)
    computed = best_ranks(examples, documents, top=top_cosines(examples, documents, depth=40), aggregate=aggregate)
    np.testing.assert_allclose(computed.score, expected, rtol=1e-12)
    np.testing.assert_array_equal(computed.rank, capped.min(axis=0))


@pytest.mark.parametrize("aggregate", ["best_rank", "mean_log_rank"])
def test_groups_of_examples_are_ranked_as_if_they_were_alone(
    vectors: tuple[np.ndarray, np.ndarray], aggregate: str
) -> None:
    examples, documents = vectors
    top, groups = top_cosines(examples, documents, depth=60), [slice(0, 7), slice(7, 260), slice(260, 500)]
    whole = best_ranks(examples, documents, top=top, aggregate=aggregate)
    grouped = best_ranks(examples, documents, top=top, aggregate=aggregate, groups=groups)
    for expected, values in zip(whole[:3], grouped[:3], strict=True):
        np.testing.assert_array_equal(values, expected)
    np.testing.assert_allclose(grouped.score, whole.score, rtol=1e-12)
    for number, group in enumerate(groups):
        alone = best_ranks(examples[group], documents, top=top[group], aggregate=aggregate)
        np.testing.assert_array_equal(grouped.group_scores[:, number], alone.score)
        np.testing.assert_array_equal(grouped.group_cosines[:, number], alone.cosine)


def test_a_document_of_several_vectors_counts_by_its_best(
    vectors: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    examples, documents = vectors
    first = np.concatenate([[0], np.cumsum(np.random.default_rng(1).integers(1, 9, 400))])
    first = np.append(first[first < len(documents)], len(documents)).astype(np.int64)
    cosines = examples.astype(np.float64) @ documents.astype(np.float64).T
    best = np.stack([cosines[:, a:b].max(axis=1) for a, b in zip(first[:-1], first[1:], strict=True)], axis=1)
    expected = 1 + (best[:, :, None] < best[:, None, :]).sum(axis=2)
    for cells in (2**23, 20 * len(examples)):
        monkeypatch.setattr(best_rank, "_CELLS_AT_ONCE", cells)
        highest = TopCosines(examples, depth=len(first) - 1)
        highest.add(documents, first)
        computed = best_ranks(examples, documents, first, top=highest.lists())
        np.testing.assert_array_equal(computed.rank, expected.min(axis=0))
        cosine = best[computed.example, np.arange(len(computed.rank))]
        np.testing.assert_array_equal(computed.cosine, cosine.astype(np.float32))


def test_small_blocks_inside_a_pass_change_nothing(
    vectors: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    examples, documents = vectors
    whole = top_cosines(examples, documents, depth=50)
    expected = best_ranks(examples, documents, top=whole)
    monkeypatch.setattr(best_rank, "_CELLS_AT_ONCE", 7 * len(examples))
    np.testing.assert_array_equal(top_cosines(examples, documents, depth=50), whole)
    for values, expected_values in zip(best_ranks(examples, documents, top=whole), expected, strict=True):
        np.testing.assert_array_equal(values, expected_values)


def test_lists_fill_up_and_are_cut_back_in_any_order() -> None:
    draw = np.random.default_rng(5)
    examples, documents = (on_grid(draw.normal(size=(n, 4)).astype(np.float32)) for n in (3, 20_000))
    expected = np.sort(examples.astype(np.float64) @ documents.astype(np.float64).T, axis=1)[:, ::-1][:, :10]
    rising = documents[
        np.argsort(documents.astype(np.float64) @ examples[0].astype(np.float64))
    ]  # each is let in, then cut
    for order in (documents, rising, rising[::-1]):
        np.testing.assert_array_equal(top_cosines(examples, order, depth=10), expected)


def test_the_grid_is_exact() -> None:
    vectors = on_grid(np.random.default_rng(0).normal(size=(50, 384)).astype(np.float32))
    scaled = vectors.astype(np.float64) * 2**24
    np.testing.assert_array_equal(scaled, np.rint(scaled))
    assert np.abs(np.linalg.norm(vectors.astype(np.float64), axis=1) - 1).max() < 1e-5


def test_vectors_that_are_not_finite_are_zero() -> None:
    vectors = np.array([[np.inf, 1], [np.nan, 0], [3, 4]], np.float32)
    np.testing.assert_allclose(on_grid(vectors), [[0, 0], [0, 0], [0.6, 0.8]], atol=1e-6)


def test_depth_follows_the_method() -> None:
    assert depth(n_documents=10_000_000, n_examples=14_000, positive_fraction=0.1) == 2396  # 2^25 // 14,000
    assert depth(n_documents=10_000_000, n_examples=1_000, positive_fraction=0.5) == 50_000  # 10 f N / M
    assert depth(n_documents=50, n_examples=14_000, positive_fraction=0.1) == 50
