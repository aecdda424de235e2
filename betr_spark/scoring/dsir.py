"""The DSIR scorer: log-ratios of hashed words and word pairs, on raw UTF-8 bytes.

A word is a run of letters, digits and `_`, or a run of punctuation. ASCII letters are converted to lower case. Every byte above
ASCII counts as a letter.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from betr_spark.kernels.jit import jit
from betr_spark.kernels.token_runs import mix

_SMOOTHING = 1e-8
_START, _PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)  # 64-bit FNV-1a
_PAIR = np.uint64(0x9E3779B97F4A7C15)


@dataclasses.dataclass(frozen=True)
class LogRatioTable:
    """Weights of the buckets of one scorer.

    Attributes:
        weights: float32 [buckets].
        per_feature: whether a logit is the mean of the weights of a document's features, not their sum.
    """

    weights: NDArray[np.float32]
    per_feature: bool

    @classmethod
    def fit(cls, target: NDArray[np.int64], raw: NDArray[np.int64], *, per_feature: bool) -> Self:
        """Compute log(p + 1e-8) - log(q + 1e-8) from the bucket counts of the target text and of the raw text.

        Args:
            target: int64 [buckets].
            raw: int64 [buckets].
            per_feature: whether the logit is the mean over a document's features.
        """
        shares = (counts / max(1, counts.sum()) for counts in (target, raw))
        p, q = (np.log(share + _SMOOTHING) for share in shares)
        return cls((p - q).astype(np.float32), per_feature)

    def arrays(self) -> dict[str, Any]:
        """Return the arrays by name, for an npz file."""
        return {"log_ratios": self.weights, "per_feature": np.asarray(self.per_feature)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Self:
        """Build a table from its `arrays`.

        Raises:
            KeyError: an array is missing.
        """
        return cls(arrays["log_ratios"], bool(arrays["per_feature"]))


class LogRatios(NamedTuple):
    """K log-ratio tables with the same number of buckets.

    Attributes:
        columns: column of each table in the logits, int64 [K].
        weights: float32 [buckets, K].
        per_feature: bool [K].
    """

    columns: NDArray[np.int64]
    weights: NDArray[np.float32]
    per_feature: NDArray[np.bool_]


def stack_log_ratios(tables: Sequence[LogRatioTable], columns: Sequence[int]) -> list[LogRatios]:
    """Stack the tables that have the same number of buckets."""
    by_buckets: dict[int, list[int]] = {}
    for position, table in enumerate(tables):
        by_buckets.setdefault(len(table.weights), []).append(position)
    return [
        LogRatios(
            np.array([columns[i] for i in positions], np.int64),
            np.stack([tables[i].weights for i in positions], axis=1),
            np.array([tables[i].per_feature for i in positions], np.bool_),
        )
        for positions in by_buckets.values()
    ]


def log_ratio_scores(data: NDArray[np.uint8], offsets: NDArray[np.int64], ratios: LogRatios) -> NDArray[np.float32]:
    """Compute the logits of documents.

    Args:
        data: bytes of all documents, uint8.
        offsets: int64 [n + 1].
        ratios: the tables.

    Returns:
        float32 [n, K]; 0 for a document without a word.
    """
    sums, counts = _sums(data, offsets, ratios.weights)
    divisor = np.where(ratios.per_feature[None, :], np.maximum(counts, 1)[:, None], 1)
    logits: NDArray[np.float32] = (sums / divisor).astype(np.float32)
    return logits


def bucket_counts(data: NDArray[np.uint8], offsets: NDArray[np.int64], *, n_buckets: int) -> NDArray[np.int64]:
    """Count the features of all documents by bucket, int64 [n_buckets]."""
    counts = np.zeros(n_buckets, np.int64)
    _count(data, offsets, counts)
    return counts


def pairs_and_words(
    data: NDArray[np.uint8], *, n_buckets: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Split one document into its features.

    Returns:
        First byte and end of each of the w words, int64 [w]; and the bucket of each feature, int64 [max(0, 2 * w - 1)]: that of
        word 0, then of word i and of the pair of words i - 1 and i, for each further i.
    """
    buckets = np.empty(2 * len(data) + 1, np.int64)
    n = _buckets(data, 0, len(data), n_buckets, buckets)
    starts, ends = _words(data)
    return starts, ends, buckets[:n]


@jit
def _words(data: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return first byte and end of each word of a document, as `_buckets` finds them."""
    starts, ends = np.empty(len(data), np.int64), np.empty(len(data), np.int64)
    n, at = 0, 0
    while at < len(data):
        kind, start = _word_class(data[at]), at
        while at < len(data) and _word_class(data[at]) == kind:
            at += 1
        if kind != 0:
            starts[n], ends[n] = start, at
            n += 1
    return starts[:n], ends[:n]


@jit
def _word_class(byte: int) -> int:
    """Return 0 for white space and controls, 1 for a byte of words, 2 for punctuation."""
    if byte >= 0x80 or 97 <= byte <= 122 or 65 <= byte <= 90 or 48 <= byte <= 57 or byte == 95:
        return 1
    return 0 if byte <= 32 or byte == 127 else 2


@jit
def _buckets(data: NDArray[np.uint8], start: int, end: int, n_buckets: int, buckets: NDArray[np.int64]) -> int:
    """Write the buckets of a document's words and word pairs to `buckets`, at most 2 for each byte; return their number."""
    n, at, before = 0, start, np.uint64(0)
    modulus = np.uint64(n_buckets)
    while at < end:
        kind = _word_class(data[at])
        if kind == 0:
            at += 1
            continue
        value = _START
        while at < end and _word_class(data[at]) == kind:
            byte = np.uint64(data[at])
            if 65 <= byte <= 90:
                byte += np.uint64(32)
            value = (value ^ byte) * _PRIME
            at += 1
        word = mix(value)
        buckets[n] = np.int64(word % modulus)
        n += 1
        if before != 0:
            buckets[n] = np.int64(mix(before * _PAIR ^ word) % modulus)
            n += 1
        before = word | np.uint64(1)
    return n


@jit
def _longest(offsets: NDArray[np.int64]) -> int:
    """Return the largest number of bytes of a document."""
    longest = 0
    for document in range(len(offsets) - 1):
        longest = max(longest, offsets[document + 1] - offsets[document])
    return longest


@jit
def _sums(
    data: NDArray[np.uint8], offsets: NDArray[np.int64], weights: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    n, n_columns = len(offsets) - 1, weights.shape[1]
    sums, counts = np.zeros((n, n_columns)), np.zeros(n, np.int64)
    buckets = np.empty(2 * _longest(offsets) + 1, np.int64)
    for document in range(n):
        counts[document] = _buckets(data, offsets[document], offsets[document + 1], len(weights), buckets)
        for i in range(counts[document]):
            for k in range(n_columns):
                sums[document, k] += weights[buckets[i], k]
    return sums, counts


@jit
def _count(data: NDArray[np.uint8], offsets: NDArray[np.int64], counts: NDArray[np.int64]) -> None:
    buckets = np.empty(2 * _longest(offsets) + 1, np.int64)
    for document in range(len(offsets) - 1):
        for i in range(_buckets(data, offsets[document], offsets[document + 1], len(counts), buckets)):
            counts[buckets[i]] += 1
