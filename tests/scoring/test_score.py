"""The scoring kernel against fastText's features in plain Python, on raw bytes of any kind."""

import dataclasses
import io
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from betr_spark.errors import ArtifactError
from betr_spark.kernels.text_preparation import prepare
from betr_spark.scoring import lookup
from betr_spark.scoring import score as kernel
from betr_spark.scoring.ngram_table import MAX_BUCKETS, NgramTable, fnv1a, stack
from betr_spark.scoring.score import score
from betr_spark.scoring.shared_memory import map_shared_tables, write_shared_tables

WORDS = ["</s>", "a", "b", "é", "漢字", "s>", "label__1", "costarring", "liquid", "a" * 40]
OTHERS = ["unknown", "__label__1", "</s>", "x</s>", "__label", "😀", "\u200b", "aa", "</s>x"]
SPACES = [" ", "\n", "\r\n", "\t", "\0", "\x1c", "\x85", "\xa0", "\u2028", "\u3000", "\u205f", "  "]
BUCKET = 97
pieces = st.one_of(st.sampled_from(WORDS), st.sampled_from(OTHERS), st.sampled_from(SPACES), st.text(max_size=3))
texts = st.lists(pieces, max_size=30).map("".join)


def table(word_ngrams: int = 2, words: list[str] = WORDS) -> NgramTable:
    draw = np.random.default_rng(word_ngrams)
    weights = draw.normal(size=len(words)).astype(np.float32), draw.normal(size=BUCKET).astype(np.float32)
    return NgramTable.build(words, *weights, word_ngrams=word_ngrams)


def score_all(documents: list[bytes], tables: list[NgramTable]) -> tuple[np.ndarray, np.ndarray]:
    offsets = np.cumsum([0, *map(len, documents)]).astype(np.int64)
    return score(np.frombuffer(b"".join(documents), np.uint8), offsets, stack(tables))


def plain_logit(text: str, folded: NgramTable, words: list[str] = WORDS) -> float:
    """Mean weight over fastText's features, in Python's unbounded integers."""
    tokens = [token for token in prepare(text).split(" ") if token]
    if not tokens:
        return math.nan
    tokens.append("</s>")
    weights = [float(folded.word_weights[words.index(token)]) for token in tokens if token in words]
    signed = [value - 2**32 if value >= 2**31 else value for value in (fnv1a(token.encode()) for token in tokens)]
    for start in range(len(tokens)):
        value = signed[start] % 2**64
        for following in signed[start + 1 : start + folded.word_ngrams]:
            value = (value * 116049371 + following) % 2**64
            weights.append(float(folded.bucket_weights[value % BUCKET]))
    return sum(weights) / len(weights) if weights else 0.0


@given(st.lists(texts, max_size=4), st.integers(1, 4))
def test_logits_are_means_over_fasttexts_features(documents: list[str], word_ngrams: int) -> None:
    encoded = [text.encode("utf-8", "replace") for text in documents]
    folded = table(word_ngrams)
    n_words, logits = score_all(encoded, [folded])
    assert n_words.dtype == np.int32
    assert logits.dtype == np.float32
    expected = [plain_logit(raw.decode(), folded) for raw in encoded]
    np.testing.assert_allclose(logits[:, 0], expected, rtol=1e-6, atol=1e-6)
    assert n_words.tolist() == [
        len(prepare(raw.decode()).split(" ")) - prepare(raw.decode()).split(" ").count("") for raw in encoded
    ]


@pytest.mark.parametrize(("word_ngrams", "n_buckets"), [(0, 0), (0, 5), (2, 0)])
def test_a_table_without_the_buckets_that_it_requires_is_refused(word_ngrams: int, n_buckets: int) -> None:
    with pytest.raises(ArtifactError, match=f"{n_buckets} buckets for n-grams of up to {word_ngrams} words"):
        NgramTable.build(["a"], np.ones(1, np.float32), np.zeros(n_buckets, np.float32), word_ngrams=word_ngrams)


@given(st.lists(st.integers(0, 2**32 - 1), max_size=30), st.integers(1, MAX_BUCKETS - 1), st.integers(1, 5))
def test_buckets_are_exact_remainders(hashes: list[int], n_buckets: int, word_ngrams: int) -> None:
    buckets = np.empty((word_ngrams - 1, len(hashes)), np.int32)
    lookup._buckets(np.array(hashes, np.uint32), n_buckets, buckets)
    signed = [value - 2**32 if value >= 2**31 else value for value in hashes]
    for start in range(len(hashes)):
        value = signed[start] % 2**64
        for m, following in enumerate(signed[start + 1 : start + word_ngrams]):
            value = (value * 116049371 + following) % 2**64
            assert buckets[m, start] == value % n_buckets


@given(texts)
def test_raw_text_scores_as_prepared_text_does(text: str) -> None:
    raw = text.encode("utf-8", "replace")
    n_words, logits = score_all([raw, prepare(raw.decode()).encode()], [table()])
    assert n_words[0] == n_words[1]
    np.testing.assert_array_equal(logits[0], logits[1])


@given(st.lists(st.binary(max_size=12), min_size=1, max_size=6), st.data())
def test_a_document_is_read_within_its_own_bytes(documents: list[bytes], data: st.DataObject) -> None:
    """Also if the end of a document cuts a character and the next document begins with the missing bytes."""
    whole = data.draw(st.sampled_from([[], ["\u2028".encode(), "é".encode(), "\u3000".encode()]]))
    documents += [part for character in whole for part in (b"a" + character[:1], character[1:] + b"b")]
    n_words, logits = score_all(documents, [table()])
    for index, raw in enumerate(documents):
        alone_words, alone = score_all([raw], [table()])
        assert n_words[index] == alone_words[0]
        np.testing.assert_array_equal(logits[index], alone[0])


@pytest.mark.parametrize("raw", [b"a\xe2\x80", b"a\xe2", b"a\xc2", b"a\xe3\x80", b"a\xff\xfeb", b"\x80", b"\xf0\x9f"])
def test_bytes_that_are_no_utf8_belong_to_words(raw: bytes) -> None:
    n_words, logits = score_all([raw, b"b " + raw + b" b"], [table()])
    assert n_words.tolist() == [1, 3]
    assert np.isfinite(logits).all()


def test_long_documents_and_many_score_as_each_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel processes slices of the batch; their borders must not change the result."""
    documents = [b"a b unknown " * n for n in (0, 1, 40_000, 3, 0, 2, 60_000, 1, 0)]
    documents += [b"b unknown a \xc3\xa9 a " * (n % 60) for n in range(1_000)]  # some slices of short ones
    tables = [table(2), table(1), table(3)]
    n_words, logits = score_all(documents, tables)
    assert n_words[:9].tolist() == [0, 3, 120_000, 9, 0, 6, 180_000, 3, 0]
    assert np.isnan(logits[:9, 0]).tolist() == [True, False, False, False, True, False, False, False, True]
    for index, document in enumerate(documents):
        alone_words, alone = score_all([document], tables)
        assert n_words[index] == alone_words[0]
        np.testing.assert_array_equal(logits[index], alone[0])
    for size in (1, 37, 1 << 30):
        monkeypatch.setattr(kernel, "_SLICE_BYTES", size)
        again = score_all(documents, tables)
        np.testing.assert_array_equal(again[0], n_words)
        np.testing.assert_array_equal(again[1], logits)
    np.testing.assert_allclose(logits[6, 0], plain_logit(documents[6].decode(), tables[0]), rtol=1e-6)


@pytest.mark.parametrize("word_ngrams", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("n_scorers", [2, 4, 7, 9])
def test_several_scorers_give_what_each_gives_alone(word_ngrams: int, n_scorers: int) -> None:
    documents = [
        b"a",
        b"a b",
        b"",
        b"b unknown a b a",
        b"liquid a costarring " * 90,
    ]  # the first are shorter than an n-gram
    draw = np.random.default_rng(n_scorers)
    for words in ([WORDS] * n_scorers, [WORDS[k % 3 :] for k in range(n_scorers)]):  # one vocabulary, and several
        tables = []
        for vocabulary in words:
            weights = draw.normal(size=len(vocabulary)).astype(np.float32), draw.normal(size=BUCKET).astype(np.float32)
            tables.append(NgramTable.build(vocabulary, *weights, word_ngrams=word_ngrams))
        alone = np.column_stack([score_all(documents, [each])[1][:, 0] for each in tables])
        np.testing.assert_array_equal(score_all(documents, tables)[1], alone)
        expected = [
            [plain_logit(document.decode(), each, vocabulary) for each, vocabulary in zip(tables, words, strict=True)]
            for document in documents
        ]
        np.testing.assert_allclose(alone, expected, rtol=1e-5, atol=1e-6)


def test_offsets_may_begin_and_end_inside_the_buffer() -> None:
    data = np.frombuffer("unknown a b é".encode(), np.uint8)
    n_words, logits = score(data, np.array([8, 10, 10, 11], np.int64), stack([table()]))
    assert n_words.tolist() == [1, 0, 1]
    np.testing.assert_array_equal(logits, score_all([b"a", b"", b"b"], [table()])[1])


def test_no_table_counts_words_and_no_document_gives_no_rows() -> None:
    n_words, logits = score_all([b"a b", b""], [])
    assert n_words.tolist() == [2, 0]
    assert logits.shape == (2, 0)
    n_words, logits = score(np.empty(0, np.uint8), np.zeros(1, np.int64), stack([table()]))
    assert n_words.shape == (0,)
    assert logits.shape == (0, 1)


def test_words_of_equal_hash_have_each_its_own_weight() -> None:
    first, second = "dryfxb", "ugnkig"  # of equal length, so that only their bytes differ
    assert fnv1a(first.encode()) == fnv1a(second.encode())
    both = NgramTable.build([first, second], np.array([1, 5], np.float32), np.zeros(1, np.float32), word_ngrams=1)
    documents = [first.encode(), second.encode(), f"{second} {first}".encode()]
    assert score_all(documents, [both])[1][:, 0].tolist() == [1.0, 5.0, 3.0]
    alone = NgramTable.build([first], np.ones(1, np.float32), np.zeros(1, np.float32), word_ngrams=1)
    assert score_all(documents, [alone])[1][:, 0].tolist() == [1.0, 0.0, 1.0]


def test_a_large_vocabulary_is_found_word_for_word() -> None:
    words = [f"w{index}é" for index in range(20_000)]
    weights = np.arange(20_000, dtype=np.float32)
    folded = NgramTable.build(words, weights, np.zeros(1, np.float32), word_ngrams=1)
    _, logits = score_all([word.encode() for word in words], [folded])
    np.testing.assert_array_equal(logits[:, 0], weights)
    assert score_all([b"w20000\xc3\xa9", b"w1"], [folded])[1][:, 0].tolist() == [0.0, 0.0]


def test_a_table_outlives_an_npz() -> None:
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **table(3).arrays())
    file.seek(0)
    with np.load(file, allow_pickle=False) as arrays:
        again = NgramTable.from_arrays(arrays)
    documents = [b"a b unknown </s>", "漢字 é".encode()]
    np.testing.assert_array_equal(score_all(documents, [again])[1], score_all(documents, [table(3)])[1])
    assert again.word_ngrams == 3
    assert again.nbytes >= 4 * (len(WORDS) + BUCKET)
    with pytest.raises(KeyError):
        NgramTable.from_arrays({"words": again.words})


def test_shared_tables_mapped_from_a_file_are_the_same_and_aligned(tmp_path: Path) -> None:
    tables = [table(), table(), dataclasses.replace(table(), word_ngrams=1, bucket_weights=np.empty(0, np.float32))]
    shared_tables = stack(tables)
    layout = write_shared_tables(shared_tables, tmp_path)
    assert write_shared_tables(shared_tables, tmp_path) == layout
    mapped = map_shared_tables(pickle.loads(pickle.dumps(layout)), tmp_path / layout.name)
    assert [path.name for path in tmp_path.iterdir()] == [layout.name]
    text = np.frombuffer(b"some words that the table knows and some that it does not", np.uint8)
    offsets = np.array([0, 20, len(text)], np.int64)
    assert np.array_equal(score(text, offsets, mapped)[1], score(text, offsets, shared_tables)[1], equal_nan=True)
    for shared_table in mapped:
        assert shared_table.bucket_weights.ctypes.data % 64 == 0
        assert shared_table.word_weights.ctypes.data % 64 == 0
    assert write_shared_tables(stack(tables[:1]), tmp_path).name != layout.name
