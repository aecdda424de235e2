"""Tokens of shingles against `unicodedata`: every code point, any text, any bytes, across the borders of 64 bytes."""

import unicodedata

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from planted import SEPARATORS, shingle_set, shingle_tokens

from betr_spark.kernels.shingle_tokens import _TOKEN_BITS, token_marks
from betr_spark.kernels.shingles import jaccard, shingle_sets
from betr_spark.kernels.text_preparation import as_buffers
from betr_spark.kernels.token_runs import token_runs

CODE_POINTS = range(0x110000)
IN_TABLE = np.unpackbits(_TOKEN_BITS.view(np.uint8), bitorder="little").astype(bool)
BY_CATEGORY = np.array([unicodedata.category(chr(c))[0] in "LMN" for c in CODE_POINTS])
DIFFERENT = np.flatnonzero(IN_TABLE[: len(BY_CATEGORY)] != BY_CATEGORY)  # a later Unicode version has more characters
CASES = "aZ9_ .\u00a0\u00ad\u00b2\u00d7\u00e9\u00f7\u0301\u0482\u0436\u03b1\u060c\u0663\u0e01\u0e31\u0e3f\u0939\u093f\u200b\u200d"
CASES += "\u2013\u201c\u2028\u20dd\u2603\u3000\u3005\u3042\u3099\u30fb\u4e00\ufe0f\uff0c\uff19\uff76\ufffd\U0001f600\U00020000"
CASES += "\U0001d7d8\U000e0100\U0010ffff\0\x7f\x85"
characters = st.characters(exclude_categories=["Cs"], exclude_characters=[chr(c) for c in DIFFERENT])
texts = st.text(st.one_of(st.sampled_from(CASES), characters), max_size=90)


def kernel_tokens(documents: list[bytes]) -> list[list[bytes]]:
    data = np.frombuffer(b"".join(documents), np.uint8)
    offsets = np.cumsum([0, *map(len, documents)]).astype(np.int64)
    first, starts, lengths = token_runs(*token_marks(data, offsets), offsets, 0)
    tokens = [data[start : start + length].tobytes() for start, length in zip(starts, lengths, strict=True)]
    return [tokens[a:b] for a, b in zip(first[:-1], first[1:], strict=True)]


def lower_ascii(token: str) -> bytes:
    return token.encode().lower()  # of bytes only ASCII has cases


def test_the_table_has_the_letters_marks_and_digits_of_unicode_14() -> None:
    assert not IN_TABLE[len(BY_CATEGORY) :].any()
    if unicodedata.unidata_version == "14.0.0":
        assert DIFFERENT.tolist() == []
    assert BY_CATEGORY[DIFFERENT].all()  # what differs was unassigned before


def test_every_code_point_joins_separates_or_is_a_token() -> None:
    assigned = [*range(0xD800), *range(0xE000, 0x40000), *range(0xE0000, 0xE0200), 0x10FFFF]  # and a few others
    drawn = [chr(c) for c in np.setdiff1d(assigned, DIFFERENT)]
    tokens = kernel_tokens([f"x{character}y".encode() for character in drawn])
    for character, of_kernel in zip(drawn, tokens, strict=True):
        assert b" ".join(of_kernel).lower() == lower_ascii(" ".join(shingle_tokens(f"x{character}y"))), hex(
            ord(character)
        )


@given(st.lists(texts, max_size=4), st.integers(0, 70))
def test_tokens_are_those_of_the_reference(drawn: list[str], shift: int) -> None:
    documents = ["x" * shift, *drawn]
    tokens = kernel_tokens([text.encode() for text in documents])
    assert [[token.lower() for token in each] for each in tokens] == [
        [lower_ascii(token) for token in shingle_tokens(text)] for text in documents
    ]


@given(st.lists(st.text(characters, min_size=1, max_size=8), min_size=5, max_size=60), st.data())
def test_texts_of_equal_words_have_equal_shingles_whatever_separates_them(
    words: list[str], data: st.DataObject
) -> None:
    words = [word for word in words if len(shingle_tokens(word)) == 1 and not word.isascii()] or ["é"]
    plain = " ".join(words)
    separated = "".join(word + data.draw(st.sampled_from(SEPARATORS)) for word in words)
    hashes, bounds = shingle_sets(*as_buffers([plain, separated]), ngram=1, seed=1)
    left, right = hashes[: bounds[1]], hashes[bounds[1] :]
    assert left.tolist() == right.tolist()


@pytest.mark.parametrize("separator", SEPARATORS)
def test_jaccard_is_one_for_other_white_space_and_punctuation(separator: str) -> None:
    words = [f"w{i}" for i in range(240)]
    hashes, bounds = shingle_sets(*as_buffers([" ".join(words), separator.join(words)]), ngram=5, seed=1)
    assert np.diff(bounds).tolist() == [236, 236]
    one_pair = np.array([0, 236])
    assert jaccard(hashes[:236], one_pair, hashes[236:], one_pair).tolist() == [1.0]
    assert len(shingle_set(separator.join(words))) == 236


@given(st.lists(st.one_of(st.binary(max_size=80), texts.map(str.encode)), max_size=4), st.integers(0, 70))
@example([b"\xf4\xb0\x80\x80 \xf7\xbf\xbf\xbf\xff"], 3)  # beyond U+10FFFF
@example([b"x\xc2", b"\xa0y", b"\xe2\x80", b"\x9c"], 61)  # characters cut by the end of a document
def test_malformed_bytes_belong_to_tokens_and_ascii_separates_as_ever(documents: list[bytes], shift: int) -> None:
    """A document that is not UTF-8 goes to quarantine; its tokens have to stay within its bytes."""
    together = kernel_tokens([b"x" * shift, *documents])[1:]
    for document, tokens in zip(documents, together, strict=True):
        position = 0
        for token in tokens:
            position = document.index(token, position) + len(token)
        letters = bytes(b for b in document if b < 0x80 and chr(b).isalnum())
        assert bytes(b for token in tokens for b in token if b < 0x80) == letters
        try:
            expected = [lower_ascii(token) for token in shingle_tokens(document.decode())]
        except UnicodeDecodeError:
            continue
        assert [token.lower() for token in tokens] == expected


@pytest.mark.parametrize("raw", [b"\xc3", b"\xe4", b"\xf0", b"\xe4\xb8", b"\xf0\x9f\x98", b"\xff", b"\xa0"])
def test_a_character_cut_short_swallows_no_neighbour(raw: bytes) -> None:
    assert kernel_tokens([raw + b" a b", raw, b"a" + raw, b"b"]) == [[raw, b"a", b"b"], [raw], [b"a" + raw], [b"b"]]
