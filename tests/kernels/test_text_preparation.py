"""The text preparation, and the kernel that does the same on bytes."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from betr_spark.kernels.text_preparation import prepare
from betr_spark.kernels.token_runs import token_runs
from betr_spark.scoring.fasttext_tokens import _marks, tokenise
from betr_spark.scoring.ngram_table import fnv1a

PIECES = ["__label__", "__label__1", "</s>", "_", "<", "/", "s>", "a", "b", "é", "漢", "😀", "\u200b", "</s>x"]
SPACES = [
    " ",
    "\n",
    "\r",
    "\t",
    "\v",
    "\f",
    "\0",
    "\x1c",
    "\x1f",
    "\x85",
    "\xa0",
    "\u1680",
    "\u2003",
    "\u2028",
    "\u2029",
]
SPACES += ["\u202f", "\u205f", "\u3000"]
texts = st.lists(st.one_of(st.sampled_from(PIECES + SPACES), st.text(max_size=4))).map("".join)


def plain_tokens(text: str) -> list[str]:
    tokens = text.replace("\0", " ").split()
    return [t[2:] if t.startswith("__label__") or t == "</s>" else t for t in tokens]


@given(texts)
def test_prepared_text_is_one_line_of_plain_tokens(text: str) -> None:
    prepared = prepare(text)
    assert [token for token in prepared.split(" ") if token] == plain_tokens(text)
    assert prepare(prepared) == prepared


@given(st.lists(texts, max_size=4), st.integers(0, 70), st.integers(1, 5))
def test_the_kernel_finds_the_same_tokens_in_raw_bytes(documents: list[str], shift: int, times: int) -> None:
    encoded = [b"x" * shift, *(text.encode("utf-8", "replace") * times for text in documents)]
    data = np.frombuffer(b"".join(encoded), np.uint8)
    offsets = np.cumsum([0, *map(len, encoded)]).astype(np.int64)
    first, (starts, lengths, _, _, _, hashes) = tokenise(data, offsets)
    for index, raw in enumerate(encoded):
        expected = [token.encode() for token in plain_tokens(raw.decode())]
        words = range(first[index], first[index + 1])[:-1]  # `</s>` ends each document that has a word
        assert [data[starts[t] : starts[t] + lengths[t]].tobytes() for t in words] == expected
        assert [int(hashes[t]) for t in words] == [fnv1a(token) for token in expected]


@given(st.binary(max_size=200))
def test_any_bytes_are_tokenised_within_bounds(raw: bytes) -> None:
    data = np.frombuffer(raw, np.uint8)
    offsets = np.array([0, len(raw)], np.int64)
    marks = _marks(data, offsets)
    first, starts, lengths = token_runs(marks, np.zeros_like(marks), offsets, 0)
    n = first[1]
    assert np.all(starts[:n] >= 0)
    assert np.all(starts[:n] + lengths[:n] <= len(raw))
