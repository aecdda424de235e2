"""The n-gram model against a plain implementation of the published formulas."""

import math
from collections import Counter, defaultdict

import numpy as np
import pytest

from betr_spark.evaluate.kneser_ney import BOUNDARY, KneserNey


def plain(documents: list[list[int]], order: int, n_vocabulary: int, text: list[int]) -> list[float]:
    """Probabilities of a text's tokens in order, from dictionaries and recursion."""
    closed = [[BOUNDARY, *document, BOUNDARY] for document in documents]
    raw: dict[int, Counter[tuple[int, ...]]] = defaultdict(Counter)
    for document in closed:
        for length in range(1, order + 1):
            for end in range(length, len(document) + 1):
                gram = tuple(document[end - length : end])
                if gram != (BOUNDARY,) or end > 1:
                    raw[length][gram] += 1
    counts = {order: dict(raw[order])}
    for length in range(1, order):
        before = defaultdict(set)
        for gram in raw[length + 1]:
            before[gram[1:]].add(gram[0])
        counts[length] = {gram: len(predecessors) for gram, predecessors in before.items()}
        for gram, count in raw[length].items():
            if length > 1 and gram[0] == BOUNDARY:
                counts[length][gram] = count

    def discount(length: int, count: int) -> float:
        n = Counter(counts[length].values())
        if not n[1] or not n[2]:
            return 0.5 if count else 0.0
        y = n[1] / (n[1] + 2 * n[2])
        kind = min(count, 3)
        if not count or not n[kind]:
            return 0.5 if count else 0.0
        estimate = kind - (kind + 1) * y * n[kind + 1] / n[kind]
        return estimate if 0 < estimate <= kind else 0.5

    def probability(gram: tuple[int, ...]) -> float:
        if not gram:
            return 1 / n_vocabulary
        counts_of_length = counts[len(gram)]
        same = [count for known, count in counts_of_length.items() if known[:-1] == gram[:-1]]
        lower = probability(gram[1:])
        if not same:
            return lower
        discounts = sum(discount(len(gram), count) for count in same)
        count = counts_of_length.get(gram, 0)
        return (count - discount(len(gram), count)) / sum(same) + discounts / sum(same) * lower

    whole = [BOUNDARY, *text]
    return [probability(tuple(whole[max(0, end - order) : end])) for end in range(2, len(whole) + 1)]


def documents(seed: int, count: int, most: int = 30) -> list[list[int]]:
    draw = np.random.default_rng(seed)
    return [(draw.zipf(1.6, size=draw.integers(0, most)) % 19 + 1).tolist() for _ in range(count)]


def arrays(token_ids: list[list[int]]) -> list[np.ndarray]:
    return [np.array(document, np.uint16) for document in token_ids]


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_probabilities_are_those_of_the_formulas(order: int) -> None:
    training, held_out = documents(1, 60), documents(2, 8)
    model = KneserNey(arrays(training), order=order, n_vocabulary=25)
    for text, actual in zip(held_out, model.log2_probabilities(arrays(held_out)), strict=True):
        expected = [math.log2(value) for value in plain(training, order, 25, text)]
        np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-9)


def test_probabilities_of_all_tokens_sum_to_one() -> None:
    model = KneserNey(arrays(documents(3, 40)), order=4, n_vocabulary=25)
    for context in ([], [3], [1, 2], [1, 1, 1], [24, 24, 24]):
        texts = arrays([[*context, token] for token in range(25)])
        assert sum(2.0 ** logarithms[-1] for logarithms in model.log2_probabilities(texts)) == pytest.approx(1)


def test_short_and_empty_documents_are_read() -> None:
    model = KneserNey(arrays([[], [5]]), order=4, n_vocabulary=10)
    logarithms = model.log2_probabilities(arrays([[], [5, 5], [7]]))
    assert [len(document) for document in logarithms] == [0, 2, 1]
    assert logarithms[1][0] > logarithms[2][0]
    with pytest.raises(ValueError, match="order: an integer from 1 to 4 is required, found 5"):
        KneserNey([], order=5, n_vocabulary=10)
