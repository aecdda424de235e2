"""Counts of a tokenizer against its own `encode`: awkward texts, any cutting into batches, a sample of the documents."""

import itertools
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_tokenizers import AWKWARD, CONTENT, IN_ONE_PIECE, expected
from tokenizers import Tokenizer, models

from betr_spark.errors import DataError
from betr_spark.features import token_counter
from betr_spark.features.text_pieces import pieces_are_exact, pieces_of
from betr_spark.features.token_counter import TokenCounter, counter_of, in_sample, tokenizer_of

# Many places to cut, and what could reach over one: contractions, digits, spaces of all kinds, marks, added tokens.
PARTS = [
    "a",
    "b",
    "the",
    "Tide",
    "ab",
    " ",
    " ",
    " ",
    "  ",
    "\n",
    "\t",
    "'s",
    "'",
    "12",
    "1234",
    ".",
    "<m>",
    "[CLS]",
    "é",
    "é",
    "漢",
    "σ",
    "Σ",
    "가",
    "ͺ",
    "ﷺ",
    "👩\u200d👩\u200d👧",
    "_",
    "▁",
    "a b",
    " Tide",
]
words = st.lists(st.sampled_from(PARTS), max_size=40).map("".join)
texts_of_any_kind = st.lists(st.one_of(st.sampled_from(AWKWARD), st.text(max_size=40), words), max_size=8)


def counts(counter: TokenCounter, texts: list[Any], kind: Any = None, valid: Any = None) -> list[int | None]:
    array = pa.array([t.encode() if isinstance(t, str) else t for t in texts], pa.large_binary())
    array = array.view(pa.large_string()) if kind != pa.string() else array.cast(pa.binary()).view(kind)
    ids = pa.array([f"d{n}" for n in range(len(texts))], pa.string())
    found: list[int | None] = counter(array, ids, np.ones(len(texts), bool) if valid is None else valid).to_pylist()
    return found


@pytest.mark.parametrize("name", CONTENT)
def test_a_count_is_that_of_encode_for_any_cutting(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    counter = TokenCounter(CONTENT[name], name=name)

    @given(texts_of_any_kind, st.integers(1, 50), st.sampled_from([pa.string(), pa.large_string()]), st.data())
    def check(texts: list[str], size: int, kind: Any, data: Any) -> None:
        for limit in ("_BYTES_AT_ONCE", "_CHARACTERS_AT_ONCE"):
            monkeypatch.setattr(token_counter, limit, size)
        cut = data.draw(st.integers(0, len(texts)))
        found = counts(counter, texts[:cut], kind) + counts(counter, texts[cut:], kind)
        assert found == [expected(CONTENT[name], text) for text in texts]

    check()


@pytest.mark.parametrize("name", CONTENT)
def test_pieces_are_for_tokenizers_where_they_are_exact(name: str) -> None:
    assert pieces_are_exact(CONTENT[name]) == (name not in IN_ONE_PIECE)


@given(st.text(alphabet="ab \nÉ漢", max_size=60), st.integers(1, 10))
def test_pieces_are_cut_before_a_space_between_letters(text: str, size: int) -> None:
    pieces = list(pieces_of(text, size))
    assert "".join(pieces) == text
    assert all(len(piece) >= size for piece in pieces[:-1])
    for left, right in itertools.pairwise(pieces):
        assert left[-1] in "abÉ"
        assert right[0] == " "
        assert right[1] in "abÉ"
        assert len(re.findall("(?<=[abÉ]) (?=[abÉ])", left[size:])) == 0


def test_texts_that_are_not_utf8_are_not_encoded() -> None:
    counter = TokenCounter(CONTENT["byte_level"], name="t")
    valid = np.array([True, False, True])
    assert counts(counter, ["the", b"\xff", ""], pa.string(), valid) == [1, None, 0]


def test_slices_and_batches_without_rows() -> None:
    counter = TokenCounter(CONTENT["byte_level"], name="t")
    texts, ids = pa.array(["the", "tide", "the the"]), pa.array(["a", "b", "c"])
    assert counter(texts[2:], ids[2:], np.ones(1, bool)).to_pylist() == [2]
    assert counter(texts[:0], ids[:0], np.ones(0, bool)).to_pylist() == []


def test_the_sample_is_one_in_so_many_and_depends_on_the_id_alone() -> None:
    ids = pa.array([f"document {n}" for n in range(20_000)])
    chosen = in_sample(ids, 20)
    assert abs(chosen.sum() - 1_000) < 4 * 1_000**0.5
    assert (in_sample(ids[7:], 20) == chosen[7:]).all()
    assert (in_sample(pa.array(["x", None]), 1)).all()
    counter = TokenCounter(CONTENT["byte_level"], name="t", one_in=20)
    texts = pa.array(["the"] * len(ids))
    found = counter(texts, ids, np.ones(len(ids), bool))
    assert found.to_pylist() == [1 if sampled else None for sampled in chosen]
    assert pc.sum(found).as_py() == chosen.sum()


def test_a_text_that_cannot_be_encoded_is_one_line() -> None:
    words = Tokenizer(models.WordLevel({"a": 0}, unk_token="[UNK]"))  # a token that the vocabulary lacks
    counter = TokenCounter(words.to_str().encode(), name="w.json")
    with pytest.raises(DataError, match=r"^input.tokens.tokenizer: w.json: cannot encode a text \(.*\)$"):
        counts(counter, ["b"])


@pytest.mark.parametrize("content", [b"", b"{}", b'{"model_type": "gpt2"}', b"\xff\xfe"])
def test_another_file_is_refused(content: bytes) -> None:
    with pytest.raises(DataError, match=r"^input.tokens.tokenizer: t.json: no tokenizer that tokenizers [\d.]+ reads"):
        tokenizer_of(content, "t.json")


def test_a_worker_loads_once_and_uses_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "t.json"
    file.write_bytes(CONTENT["byte_level"])
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    counter = counter_of(file, "t.json", 1)
    assert counter_of(file, "t.json", 1) is counter
    threads = len(list(Path("/proc/self/task").iterdir()))
    assert counts(counter, ["the tide"] * 500) == [expected(CONTENT["byte_level"], "the tide")] * 500
    assert len(list(Path("/proc/self/task").iterdir())) == threads
    assert os.environ["TOKENIZERS_PARALLELISM"] == "false"
