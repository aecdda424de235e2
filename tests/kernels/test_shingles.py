"""Sets of shingles and true Jaccard similarity against plain Python sets, for any text and any cutting."""

import itertools
import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from planted import shingle_set

from betr_spark.kernels.arrow_buffers import string_buffers
from betr_spark.kernels.shingles import jaccard, shingle_sets

texts = st.lists(st.text(alphabet="aB c\n9é漢ก。\u00a0—", max_size=40), min_size=1, max_size=6)


@given(texts, st.integers(1, 3))
@example(["a b c d " * 40_000, "x"], 2)  # a document longer than a slice
def test_sets_and_similarity_equal_plain_python(drawn: list[str], ngram: int) -> None:
    data, offsets = string_buffers(pa.array(["xx yy zz", *drawn]).slice(1))
    hashes, bounds = shingle_sets(data, offsets, ngram=ngram, seed=3)
    expected = [shingle_set(text, ngram) for text in drawn]
    assert np.diff(bounds).tolist() == [len(each) for each in expected]
    parts = [hashes[a:b] for a, b in zip(bounds, bounds[1:], strict=False)]
    assert all((part[1:] > part[:-1]).all() for part in parts)
    for part, shingles in zip(parts, expected, strict=True):
        repeated, repeated_bounds = np.concatenate([part] * len(parts)), np.arange(len(parts) + 1) * len(part)
        similarity = jaccard(hashes, bounds, repeated, repeated_bounds)
        sizes = [(len(shingles & each), len(shingles | each)) for each in expected]
        assert similarity.tolist() == [common / union if union else 0.0 for common, union in sizes]


def test_bytes_that_are_no_text_do_no_harm() -> None:
    raw = bytes([0xE4] * 100 + [0xFF] * 3 + [0xF0, 0x9F])
    hashes, bounds = shingle_sets(np.frombuffer(raw, np.uint8), np.array([0, len(raw)], np.int64), ngram=1, seed=0)
    assert 0 < len(hashes) == bounds[1] <= len(raw)


@pytest.mark.parametrize("n_tokens", [1, 2, 33, 500, 70_000])
@pytest.mark.parametrize("n_words", [1, 2, 40, 10**6])
def test_sets_are_sorted_and_distinct_whatever_repeats(n_tokens: int, n_words: int) -> None:
    pick = random.Random(n_tokens)
    words = [f"w{pick.randrange(n_words)}" for _ in range(n_tokens)]
    data, offsets = string_buffers(pa.array([" ".join(words), "", " ".join(words[::-1])]))
    hashes, bounds = shingle_sets(data, offsets, ngram=2, seed=1)
    for document, tokens in enumerate((words, [], words[::-1])):
        found = hashes[bounds[document] : bounds[document + 1]]
        assert (found[1:] > found[:-1]).all()
        assert len(found) == len(set(itertools.pairwise(tokens)))
