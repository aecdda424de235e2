"""What each n-gram of a text adds to a scorer's logit.

Words, pairs and their buckets come from the functions that score the corpus (`scoring.score`), on the same bytes. Entries
are n-grams, not buckets: two pairs of words that share a bucket share its weight, and stay two entries.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from betr_spark.kernels.text_preparation import as_buffers
from betr_spark.scoring.dsir import LogRatioTable, pairs_and_words
from betr_spark.scoring.fasttext_tokens import tokenise
from betr_spark.scoring.lookup import look_up, max_tokens
from betr_spark.scoring.ngram_table import END_OF_LINE, SharedTable, Table, stack

SHIFT = "shift"  # in the settings of `scorer.json`
_MIN_UNSEEN = 0.5  # share of the buckets


class Contribution(NamedTuple):
    """An n-gram of a text, how often it occurs, and what all its occurrences together add to the logit.

    `</s>` is the end of the text. The words of DSIR are in lower case, as it counts them.
    """

    ngram: str
    times: int
    value: float


class Explanation(NamedTuple):
    """The parts of a document's logit.

    Attributes:
        logit: intercept and contributions, added up in float64; None for a text without a word, which has no logit.
        intercept: the logit of a document whose n-grams are all unknown to the scorer.
        contributions: one for each n-gram of the text that the scorer counts, the highest first.
    """

    logit: float | None
    intercept: float
    contributions: Sequence[Contribution]

    def raised(self, n: int) -> list[Contribution]:
        """The n-grams that raise the logit most, the strongest first."""
        return [part for part in self.contributions[:n] if part.value > 0]

    def lowered(self, n: int) -> list[Contribution]:
        """The n-grams that lower the logit most, the strongest first."""
        return [part for part in reversed(self.contributions[-n:]) if part.value < 0] if n else []


def tolerance(logit: float) -> float:
    """How much the sum of an explanation may differ from the logit in `features`: 1e-5, or what float32 rounds off a large one.

    Only sums of DSIR are so large.
    """
    return max(1e-5, float(np.spacing(np.float32(abs(logit)))))


class LogitExplainer:
    """Explains the logits of one trained scorer.

    The sum of an explanation is the logit in `features`, see `tolerance`. It has no noise of DSIR, which a selection adds.
    """

    def __init__(self, table: Table, about: Mapping[str, Any] | None = None) -> None:
        """Index the words of a table; takes a second for a million of them.

        Args:
            table: of the scorer.
            about: what its `scorer.json` says; a linear model's calibration has a shift, which is the intercept.
        """
        self._table = table
        (shared_table,) = stack([table])
        self._shared_table = shared_table if isinstance(shared_table, SharedTable) else None
        self._intercept = 0.0 if self._shared_table is None else _intercept(table, (about or {}).get("settings") or {})

    def explain(self, text: str) -> Explanation:
        """Split the logit of a text; takes time in proportion to its length, about a second for 2 MB."""
        data, offsets = as_buffers([text])
        first, tokens = tokenise(data, offsets)
        if first[-1] == 0:
            return Explanation(None, self._intercept, [])
        if self._shared_table is None:
            features, divisor = self._log_ratios(data)
        else:
            ends = tokens.starts + tokens.lengths
            words = [data[start:end].tobytes() for start, end in zip(tokens.starts, ends, strict=True)]
            features, divisor = self._weights([*words[:-1], END_OF_LINE.encode()], data, offsets, self._shared_table)
        intercept = self._intercept if divisor else 0.0
        weight_of: dict[bytes, float] = {}
        counts: dict[bytes, int] = {}
        for ngram, weight in features:
            counts[ngram] = counts.get(ngram, 0) + 1
            weight_of[ngram] = weight
        contributions = [
            Contribution(ngram.decode("utf-8", "replace"), count, count * (weight_of[ngram] - intercept) / divisor)
            for ngram, count in counts.items()
        ]
        contributions.sort(key=lambda part: (-part.value, part.ngram))
        logit = math.fsum([intercept, *(part.value for part in contributions)])
        return Explanation(logit, intercept, contributions)

    def _weights(
        self, words: Sequence[bytes], data: NDArray[np.uint8], offsets: NDArray[np.int64], shared_table: SharedTable
    ) -> tuple[Iterator[tuple[bytes, float]], int]:
        """Known words and all n-grams with their weights, and their number."""
        n, longest = len(words), shared_table.word_ngrams
        rows, buckets = np.empty(max_tokens(offsets), np.int32), np.empty((longest - 1, max_tokens(offsets)), np.int32)
        look_up(data, offsets, shared_table.vocabulary, max(1, len(shared_table.bucket_weights)), rows, buckets)
        known = shared_table.word_counts[rows[:n], 0] > 0
        of_words = shared_table.word_weights[rows[:n], 0].tolist()

        def features() -> Iterator[tuple[bytes, float]]:
            for position in np.flatnonzero(known).tolist():
                yield words[position], of_words[position]
            for m in range(longest - 1):
                of_ngrams = shared_table.bucket_weights[buckets[m, : max(0, n - 1 - m)], 0].tolist()
                for position, weight in enumerate(of_ngrams):
                    yield b" ".join(words[position : position + m + 2]), weight

        n_ngrams = sum(max(0, n - 1 - m) for m in range(longest - 1))
        return features(), int(known.sum()) + n_ngrams

    def _log_ratios(self, data: NDArray[np.uint8]) -> tuple[Iterator[tuple[bytes, float]], int]:
        """Words and pairs with their log-ratios, and what the sum is divided by."""
        assert isinstance(self._table, LogRatioTable)
        starts, ends, buckets = pairs_and_words(data, n_buckets=len(self._table.weights))
        weights = self._table.weights[buckets].tolist()
        words = [data[start:end].tobytes().lower() for start, end in zip(starts, ends, strict=True)]

        def features() -> Iterator[tuple[bytes, float]]:
            for feature, weight in enumerate(weights):  # word 0, then word i and the pair that it ends
                word = (feature + 1) // 2
                yield (words[word] if feature % 2 or feature == 0 else b" ".join(words[word - 1 : word + 1])), weight

        return features(), max(1, len(weights)) if self._table.per_feature else 1


def _intercept(table: Table, settings: Mapping[str, Any]) -> float:
    """The weight of an n-gram that training has not seen; 0 for fastText, whose unseen buckets have small random weights."""
    if SHIFT in settings:
        return float(settings[SHIFT])
    if settings.get("model") != "linear":
        return 0.0
    weights = table.arrays()["bucket_weights"]  # an artifact of an earlier version: most buckets are unseen and equal
    middle = np.median(weights)
    return float(middle) if np.mean(weights == middle) > _MIN_UNSEEN else 0.0
