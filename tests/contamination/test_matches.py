"""Matches against a plain detector, planted leaks of all forms, and what does not match."""

import random
import re
import textwrap

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain_detector import Run, runs_of, words_of

from betr_spark.contamination import anchors
from betr_spark.contamination.index import Index, build_index
from betr_spark.contamination.items import Item
from betr_spark.contamination.matches import Matches, find_matches, sketch_and_find_matches
from betr_spark.kernels.arrow_buffers import string_buffers
from betr_spark.kernels.minhash import MinHasher

SEPARATORS = [" ", "\n", ", ", "\r\n\t", " — ", "\u00a0", ".\u2028(", "' "]
words = st.sampled_from(
    ["a", "A", "b", "É", "é", "Σας", "ΣΑΣ", "漢", "字", "longer-than-eight", "LongerWordOfManyLetters", "7"]
)
texts = st.lists(st.tuples(words, st.sampled_from(SEPARATORS)), max_size=14).map(
    lambda pairs: "".join(word + separator for word, separator in pairs)
)
PLAIN = [f"{a}{b}" for a in "bdfgklmnprst" for b in ("ane", "ilo", "ust", "erring", "o")]
ACCENTED = ["Éclair", "Ñandú", "Ærøskøbing", "Łódź", "Москва", "Привет", "Αθήνα", "Ωμέγα", "Žižek", "Հայաստան"]


def index_of(items: list[str], **options: int) -> Index:
    return build_index([Item("b", row, text) for row, text in enumerate(items)], **options)


def matches_of(documents: list[str], index: Index) -> Matches:
    return find_matches(*string_buffers(pa.array(["before", *documents], pa.string()).slice(1)), index.ngrams)


def runs_in(matches: Matches, index: Index) -> set[Run]:
    """Matches as runs of items, one for each item of a text."""
    rows = zip(*(column.tolist() for column in matches[:5]), strict=True)
    bounds, row = index.members.bounds, index.members.row
    return {
        Run(document, word, int(item), text_word, n_words)
        for document, word, text, text_word, n_words in rows
        for item in row[bounds[text] : bounds[text + 1]]
    }


@given(st.lists(texts, max_size=4), st.lists(texts, max_size=4), st.integers(1, 3), st.integers(0, 2))
def test_runs_are_those_of_the_plain_detector(documents: list[str], items: list[str], n_min: int, more: int) -> None:
    index = index_of(items, n_min=n_min, n_max=n_min + more)
    runs = runs_in(matches_of(documents, index), index)
    expected = runs_of(documents, items, n_min=n_min, n_max=n_min + more)
    assert runs <= expected
    for run in expected - runs:  # a run before it overlaps it, begins at the same word of the item, and is as long
        assert any(
            (each.document, each.item, each.item_word) == (run.document, run.item, run.item_word)
            and each.word < run.word < each.word + each.n_words
            and each.n_words >= run.n_words
            for each in runs
        )


@given(st.lists(texts, max_size=4), st.lists(texts, max_size=4), st.integers(1, 3))
def test_sketches_and_matches_together_are_those_of_each_alone(
    documents: list[str], items: list[str], ngram: int
) -> None:
    index, hasher = index_of(items, n_min=2, n_max=3), MinHasher(ngram=ngram, bands=2, rows=3, seed=1)
    data, offsets = string_buffers(pa.array(["before", *documents], pa.string()).slice(1))
    sketches, matches = sketch_and_find_matches(data, offsets, hasher, index.ngrams)
    for together, alone in ((sketches, hasher(data, offsets)), (matches, find_matches(data, offsets, index.ngrams))):
        assert all(map(np.array_equal, together, alone))


@given(st.lists(texts, min_size=1, max_size=3), st.lists(texts, min_size=2, max_size=6), st.integers(1, 2))
def test_an_item_is_found_if_an_ngram_has_a_rare_anchor(documents: list[str], items: list[str], n_min: int) -> None:
    n_max = n_min + 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(anchors, "MAX_COPIES", 1)
        index = index_of(items, n_min=n_min, n_max=n_max)
    runs = runs_in(matches_of(documents, index), index)
    expected = runs_of(documents, items, n_min=n_min, n_max=n_max)
    assert runs <= expected
    of_items = [words_of(item) for item in items]
    places = [
        tuple(item[i : i + n_min]) for item in {tuple(each) for each in of_items} for i in range(len(item) - n_min + 1)
    ]
    for run in expected:
        item = of_items[run.item]
        n = min(len(item), n_max)
        for ngram in range(run.item_word, run.item_word + run.n_words - n + 1):
            for anchor in range(ngram, ngram + n - n_min + 1):
                if places.count(tuple(item[anchor : anchor + n_min])) == 1:
                    assert any((each.document, each.item) == (run.document, run.item) for each in runs)


def planted(form: str, words: list[str], pick: random.Random) -> tuple[str, int]:
    """A document with the words of an item, and the word at which they begin."""
    text = " ".join(words)
    if form == "re-wrapped":
        return textwrap.fill(text, 23), 0
    if form == "upper case":
        return text.upper(), 0
    if form == "title case":
        return text.title(), 0
    if form == "other punctuation":
        return "“" + re.sub(" ", lambda _: pick.choice(SEPARATORS), text) + "”!", 0
    if form == "embedded":
        before, after = ([pick.choice(PLAIN) for _ in range(pick.randint(50, 3_000))] for _ in range(2))
        return " ".join([*before, "x.", *words, ", y", *after]), len(before) + 1
    return text, 0


@pytest.mark.parametrize("n_words", [8, 9, 12, 13, 14, 40, 300])
@pytest.mark.parametrize(
    "form", ["verbatim", "re-wrapped", "upper case", "title case", "other punctuation", "embedded"]
)
def test_planted_items_are_found_whole(form: str, n_words: int) -> None:
    pick = random.Random(n_words)
    items = [[pick.choice(PLAIN + ACCENTED) for _ in range(n_words)] for _ in range(100)]
    index = index_of([", ".join(item) + "?" for item in items])
    documents = [planted(form, item, pick) for item in items]
    runs = runs_in(matches_of([text for text, _ in documents], index), index)
    expected = {Run(row, position, row, 0, n_words) for row, (_, position) in enumerate(documents)}
    assert expected <= runs


def test_a_script_without_spaces_matches_by_character() -> None:
    text = "東京は日本の首都であり世界最大の都市です"
    index = index_of([text])
    assert runs_in(
        matches_of(["注意：「東京は、日本の\n首都であり 世界最大の都市です」以上", "東京は日本"], index), index
    ) == {Run(0, 2, 0, 0, 20)}


def test_items_that_share_a_beginning_are_told_apart_by_what_follows() -> None:
    pick = random.Random(0)
    beginning = [pick.choice(PLAIN) for _ in range(30)]
    items = [
        " ".join([*beginning[: 12 if i % 2 else 30], f"number{i}", *pick.choices(PLAIN, k=i % 2 * 20)])
        for i in range(400)
    ]
    index = index_of(items)
    assert index.n_left_out > 0
    runs = runs_in(matches_of(items, index), index)
    assert {(row, 0, row, 0, len(items[row].split())) for row in range(400)} <= runs
    halves = [" ".join(items[300].split()[:11]), " ".join(items[300].split()[11:])]
    assert Run(1, 0, 300, 11, 20) in runs_in(matches_of(halves, index), index)
    common = matches_of([" ".join(beginning)], index)
    assert 0 < len(common.document) <= 18 * anchors.MAX_COPIES  # of 400 items with that match


def test_equal_items_are_all_found() -> None:
    text = " ".join(PLAIN[:20])
    index = build_index([Item(f"b{row % 3}", row, text.upper() if row % 2 else text) for row in range(100)])
    assert len(index.ngrams.n_words) == 1
    assert {run.item for run in runs_in(matches_of([text], index), index)} == set(range(100))


def test_a_match_does_not_cross_documents() -> None:
    words = PLAIN[:30]
    index = index_of([" ".join(words)])
    assert len(matches_of([" ".join(words[:7]), " ".join(words[7:14]), " ".join(words[14:])], index).document) == 1
    assert (
        len(matches_of([" ".join(words[:12]), "", " ".join(words[12:24]), " ".join(words[24:])], index).document) == 0
    )


def test_a_match_does_not_cross_items() -> None:
    items = [" ".join(PLAIN[:15]), " ".join(PLAIN[15:30])]
    index = index_of(items)
    expected = {Run(0, 0, 0, 0, 15), Run(0, 15, 1, 0, 15)}
    assert runs_in(matches_of([" ".join(items)], index), index) == expected


def test_a_part_of_a_word_is_another_word() -> None:
    text = " ".join(PLAIN[:20])
    index = index_of([text])
    assert runs_in(matches_of([text[1:], text[:-1]], index), index) == {Run(0, 1, 0, 1, 19), Run(1, 0, 0, 0, 19)}


def test_a_longer_match_from_the_same_word_is_kept() -> None:
    index = index_of(["a b a b c d"], n_min=4, n_max=4)
    assert runs_in(matches_of(["a b a b a b c d"], index), index) == {Run(0, 0, 0, 0, 4), Run(0, 2, 0, 0, 6)}


def test_bytes_of_a_match_are_those_of_the_document() -> None:
    item = "Ünïted words — of a test item that is short enough"
    matches = matches_of(["", f"Öl {item.upper()}! end"], index_of([item]))
    assert (matches.document.tolist(), matches.word.tolist()) == ([1], [1])
    raw = f"Öl {item.upper()}! end".encode()
    assert raw[matches.start[0] : matches.end[0]].decode() == item.upper()


def test_long_documents_and_many_slices_match_as_documents_alone_do() -> None:
    pick = random.Random(5)
    items = [" ".join(pick.choices(PLAIN, k=15)) for _ in range(50)]
    documents = [
        " ".join([*pick.choices(PLAIN, k=pick.choice([0, 5, 2_000, 60_000])), pick.choice(items)]) for _ in range(30)
    ]
    index = index_of(items)
    together = matches_of(documents, index)
    alone = [matches_of([document], index) for document in documents]
    for column, parts in zip(together[1:], zip(*(each[1:] for each in alone), strict=True), strict=True):
        assert column.tolist() == np.concatenate(parts).tolist()
    assert set(together.document.tolist()) == set(range(30))


@pytest.mark.parametrize(
    ("documents", "items"), [([], []), (["", "a b"], []), ([], ["a b c"] * 2), (["", "..."], ["", "?!"])]
)
def test_nothing_matches_nothing(documents: list[str], items: list[str]) -> None:
    index = index_of(items, n_min=1, n_max=2)
    assert all(len(column) == 0 for column in matches_of(documents, index))
    assert index.n_without_words == sum(not words_of(item) for item in items)


def test_equal_hashes_of_other_words_are_no_match() -> None:
    text = " ".join(PLAIN[:20])
    index = index_of([text])
    assert len(matches_of([text], index).document) == 1
    for word in range(20):  # the index looks as if hashes of another word were those of this one
        start = 1 + len(" ".join(["", *PLAIN[:word]])) if word else 1
        other = index.ngrams.texts.copy()
        other[start] = ord("z")
        runs = runs_in(matches_of([text], index._replace(ngrams=index.ngrams._replace(texts=other))), index)
        changed = [*PLAIN[:word], "z" + PLAIN[word][1:], *PLAIN[word + 1 : 20]]
        assert runs == runs_of([text], [" ".join(changed)], n_min=8, n_max=13)


def test_repeated_words_give_few_matches() -> None:
    zeros = " ".join(["0"] * 20)
    index = index_of([f"the row {zeros} is empty", f"{zeros} {zeros}"])
    matches = matches_of(["0 " * 100_000], index)
    assert len(matches.document) < 20_000  # there are 200,000
    best = {text: int(matches.n_words[matches.text == text].max()) for text in (0, 1)}
    assert best == {0: 20, 1: 40}


def test_bytes_that_are_not_utf8_do_no_harm() -> None:
    text = " ".join(PLAIN[:20])
    raw = [b"\xff\xc3 " + text.encode() + b" \xe4\xb8", b"\xf0\x9f", b""]
    matches = find_matches(*string_buffers(pa.array(raw)), index_of([text]).ngrams)
    assert (matches.document.tolist(), matches.n_words.tolist()) == ([0], [20])


def test_lengths_of_ngrams_are_checked() -> None:
    with pytest.raises(ValueError, match="found 9, 8"):
        index_of(["a"], n_min=9, n_max=8)
