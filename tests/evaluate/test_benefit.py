"""Changes against random: equal tokens, intervals, verdicts, and selections whose effect is known."""

import io
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from betr_spark.evaluate import benefit
from betr_spark.evaluate.benefit import (
    ALL_TARGETS,
    GENERAL,
    TARGET,
    Change,
    Items,
    LanguageModel,
    Tokens,
    changes,
    conclusions,
    table,
    taken,
)
from betr_spark.evaluate.byte_pairs import encode, train_tokenizer
from betr_spark.evaluate.kneser_ney import KneserNey
from betr_spark.evaluate.plot import plot

KITCHEN = ["flour", "butter", "oven", "simmer", "garlic", "onion", "sauce", "bake", "whisk", "dough", "pepper", "roast"]
HARBOUR = ["anchor", "tide", "vessel", "mast", "cargo", "dock", "sailor", "current", "rope", "compass", "hull", "deck"]


def text(draw: np.random.Generator, words: list[str]) -> str:
    return " ".join(
        words[(position * 5 + draw.integers(0, 3)) % len(words)] for position in range(draw.integers(20, 60))
    )


@pytest.fixture(scope="module")
def pool() -> tuple[list[np.ndarray], np.ndarray, list[Items], int]:
    """Tokens of documents on two topics, which are on the first, and held-out items of both."""
    draw = np.random.default_rng(4)
    topic = draw.random(400) < 0.3
    texts = [text(draw, KITCHEN if on_topic else HARBOUR) for on_topic in topic]
    tokenizer = train_tokenizer(texts, n_vocabulary=400)
    items = []
    for name, kind, words in (("cooking", TARGET, KITCHEN), ("general", GENERAL, HARBOUR)):
        held_out = [text(draw, words) for _ in range(40)]
        items.append(Items(name, kind, encode(tokenizer, held_out), np.array([len(item) for item in held_out])))
    return encode(tokenizer, texts), topic, items, 400


def trigrams(n_vocabulary: int) -> Callable[[Tokens], LanguageModel]:
    return partial(KneserNey, order=3, n_vocabulary=n_vocabulary)


def of(results: list[Change], name: str, items: str) -> Change:
    return next(row for row in results if (row.name, row.items) == (name, items))


def test_a_selection_of_the_topic_wins_and_of_the_other_topic_loses(
    pool: tuple[list[np.ndarray], np.ndarray, list[Items], int],
) -> None:
    tokens, topic, items, n_vocabulary = pool
    draw = np.random.default_rng(0)
    shuffled = [draw.permutation(document) for document in tokens]
    best = np.argsort(~topic, kind="stable")
    controls = {f"random-{seed}": np.random.default_rng(seed).permutation(len(tokens)) for seed in range(8)}
    results = changes(
        tokens, {"right": best, "wrong": best[::-1]}, controls, items, budget=0.1, train=trigrams(n_vocabulary)
    )
    assert len({row.n_tokens for row in results}) == 1
    right, wrong = (of(results, name, "cooking") for name in ("right", "wrong"))
    assert (right.verdict, wrong.verdict) == ("win", "loss")
    assert of(results, "right", "general").verdict == "loss"
    assert right.low < right.change < right.high < 0
    mean = np.mean([of(results, name, "cooking").change for name in controls])
    assert mean == pytest.approx(0, abs=1e-12)
    assert all(abs(of(results, name, "cooking").change) <= right.spread for name in controls)
    assert of(results, "right", ALL_TARGETS).change == right.change
    mixed = changes(
        shuffled, {"right": best}, controls, items, budget=0.1, train=trigrams(n_vocabulary)
    )  # in which the order of the words says nothing
    assert of(mixed, "right", "cooking").bits_per_byte > 1.5 * right.bits_per_byte
    sentences = conclusions(results)
    assert sentences[0].startswith("right at 10% of the tokens helps: -")
    assert "better on 1 of 1 benchmarks, worse on 0, undecided on 0; outside the targets: general +" in sentences[0]
    assert sentences[1].startswith("wrong at 10% of the tokens harms: +")
    assert len(table(results)) == 1 + 2 * 3
    file = io.BytesIO()
    plot(results, file)
    assert file.getvalue().startswith(b"\x89PNG")


def test_the_items_themselves_win_by_far(pool: tuple[list[np.ndarray], np.ndarray, list[Items], int]) -> None:
    tokens, topic, items, n_vocabulary = pool
    leaked = [*items[0].tokens, *tokens]
    controls = {
        f"random-{seed}": len(items[0].tokens) + np.random.default_rng(seed).permutation(400) for seed in range(3)
    }
    results = changes(
        leaked,
        {"items": np.arange(len(leaked)), "right": len(items[0].tokens) + np.argsort(~topic, kind="stable")},
        controls, items, budget=0.1, train=trigrams(n_vocabulary),
    )  # fmt: skip
    items_first, right = (of(results, name, "cooking") for name in ("items", "right"))
    assert items_first.high < right.low < right.high < 0


def test_a_random_selection_is_a_tie_about_as_often_as_it_should_be(
    pool: tuple[list[np.ndarray], np.ndarray, list[Items], int],
) -> None:
    tokens, _, items, n_vocabulary = pool
    orders = {f"random-{seed}": np.random.default_rng(seed).permutation(len(tokens)) for seed in range(43)}
    more = {name: orders.pop(name) for name in list(orders)[3:]}
    results = changes(tokens, more, orders, items, budget=0.1, train=trigrams(n_vocabulary))
    outside = [abs(row.change) > row.spread for row in results if not row.control and row.items == "cooking"]
    assert len(outside) == 40
    assert sum(outside) <= 6  # 2 are to be expected


def test_a_control_among_the_selections_is_a_tie(pool: tuple[list[np.ndarray], np.ndarray, list[Items], int]) -> None:
    tokens, _, items, n_vocabulary = pool
    controls = {f"random-{seed}": np.random.default_rng(seed).permutation(len(tokens)) for seed in range(8)}
    same = {"same": controls["random-1"]}
    results = changes(tokens, same, controls, items, budget=0.5, train=trigrams(n_vocabulary))
    assert {of(results, "same", items_name).verdict for items_name in ("cooking", "general", ALL_TARGETS)} == {"tie"}
    assert "cannot be distinguished from random" in conclusions(results)[0]


def test_exactly_as_many_tokens_are_taken() -> None:
    tokens = [np.arange(n, dtype=np.uint16) for n in (3, 0, 5, 2)]
    for count in range(11):
        documents = taken(np.array([2, 1, 0, 3]), tokens, count)
        assert sum(len(document) for document in documents) == count
    assert [document.tolist() for document in taken(np.array([3, 2]), tokens, 4)] == [[0, 1], [0, 1]]
    with pytest.raises(ValueError, match="the documents have 10 tokens, 11 are required"):
        taken(np.array([0, 1, 2, 3]), tokens, 11)


def test_intervals_hold_the_truth_about_as_often_as_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benefit, "_DRAWS", 300)
    draw, inside = np.random.default_rng(1), 0
    for _ in range(100):
        base, item_bits = draw.gamma(5, size=80), draw.gamma(5, size=80)
        ratios = benefit._weights(80) @ item_bits / (benefit._weights(80) @ base) - 1
        low, high = np.percentile(ratios, (2.5, 97.5))
        inside += low <= 0 <= high
    assert 85 <= inside <= 100


def test_tokens_give_the_text_again() -> None:
    texts = ["Grüße, 世界!\n\ttabs", "", "<|boundary|>x", "a\x00b", "\ud83d"]
    tokenizer = train_tokenizer(["some words to train on"] * 5, n_vocabulary=300)
    token_ids = encode(tokenizer, texts)
    assert [tokenizer.decode((ids - 1).tolist()) for ids in token_ids] == [*texts[:4], "?"]
    assert all((ids > 0).all() for ids in token_ids)
    assert tokenizer.get_vocab_size() < 300
