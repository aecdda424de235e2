"""DSIR's features and weights against plain Python."""

import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from betr_spark.kernels.text_preparation import as_buffers
from betr_spark.scoring.dsir import LogRatioTable, bucket_counts
from betr_spark.scoring.ngram_table import stack
from betr_spark.training.fasttext import score_texts

BUCKETS = 97
MASK = 2**64 - 1


def mixed(x: int) -> int:
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        x = ((x ^ (x >> 33)) * factor) & MASK
    return x ^ (x >> 33)


def plain(text: str) -> list[int]:
    """Buckets of words and pairs: words as NLTK's WordPunct tokeniser has them, for ASCII."""
    hashes = []
    for word in re.findall(rb"[\w\x80-\xff]+|[^\w\s\x80-\xff\x00-\x20\x7f]+", text.encode()):
        value = 0xCBF29CE484222325
        for byte in word.lower():
            value = ((value ^ byte) * 0x100000001B3) & MASK
        hashes.append(mixed(value))
    pairs = [mixed((((a | 1) * 0x9E3779B97F4A7C15) & MASK) ^ b) for a, b in zip(hashes, hashes[1:], strict=False)]
    return [value % BUCKETS for value in (*hashes, *pairs)]


texts = st.lists(st.text("abAB1_.,;! \n\té漢\x00\x7f", max_size=40), min_size=1, max_size=6)


@given(texts)
def test_features_are_words_and_pairs_of_words(drawn: list[str]) -> None:
    counts = bucket_counts(*as_buffers(drawn), n_buckets=BUCKETS)
    expected = np.bincount([bucket for text in drawn for bucket in plain(text)], minlength=BUCKETS)
    np.testing.assert_array_equal(counts, expected)


@given(texts)
def test_scores_are_sums_or_means_of_log_ratios(drawn: list[str]) -> None:
    target, raw = (np.random.default_rng(seed).integers(0, 50, BUCKETS) for seed in (1, 2))
    ratios = np.log(target / target.sum() + 1e-8) - np.log(raw / raw.sum() + 1e-8)
    drawn = [text + " a" for text in drawn]  # so that fastText's word count is not 0
    for per_feature in (False, True):
        table = LogRatioTable.fit(target, raw, per_feature=per_feature)
        sums = [np.sum(ratios[plain(text)]) / (len(plain(text)) if per_feature else 1) for text in drawn]
        np.testing.assert_allclose(score_texts(drawn, table), sums, rtol=1e-4, atol=1e-4)
    tables = [LogRatioTable.fit(target, raw, per_feature=per) for per in (True, False)]
    assert [shared_table.columns.tolist() for shared_table in stack(tables)] == [[0, 1]]
