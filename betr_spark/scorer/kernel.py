"""Logits of folded fastText models on raw UTF-8 bytes.

Gives what fastText gives for `corpus.text.prepare(text)` and a newline. Sums are float64 in the document's order.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from betr_spark.corpus.jit import jit
from betr_spark.corpus.kernel import end_of_slice
from betr_spark.scorer.lookup import look_up, most_tokens
from betr_spark.scorer.table import Bank
from betr_spark.scorer.tokens import tokenise

_BYTES_AT_ONCE = 1 << 21  # so that the weights, which push everything else out of the cache, seldom come between


def score(
    data: NDArray[np.uint8], offsets: NDArray[np.int64], banks: Sequence[Bank]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Count words and score documents.

    Args:
        data: bytes of all documents, uint8.
        offsets: int64 [n + 1]; document i is data[offsets[i] : offsets[i + 1]].
        banks: what `table.stack` made of K tables.

    Returns:
        Words of each document, int32 [n], and logits, float32 [n, K], NaN for a document without a word. A document
        whose words are no feature of a model (unknown words, and a model of single words without `</s>`) has logit 0.
    """
    n, n_columns = len(offsets) - 1, sum(len(bank.columns) for bank in banks)
    n_words, logits = np.empty(n, np.int32), np.empty((n, n_columns), np.float32)
    words, buckets = np.empty(0, np.int32), np.empty((0, 0), np.int32)
    a = 0
    while a < n:
        b = end_of_slice(offsets, a, _BYTES_AT_ONCE)
        part = offsets[a : b + 1]
        for bank in banks:
            shape = bank.word_ngrams - 1, most_tokens(part)
            if (
                shape[0] > buckets.shape[0] or shape[1] > buckets.shape[1]
            ):  # else those of the slice before are used again
                words, buckets = np.empty(shape[1], np.int32), np.empty(shape, np.int32)
            grams = buckets[: shape[0]]
            first = look_up(data, part, bank.vocabulary, max(1, len(bank.bucket_weights)), words, grams)
            weights = bank.word_weights, bank.word_counts, bank.bucket_weights
            logits[a:b, bank.columns] = _means(first, words, grams, *weights)
        if not banks:
            first, _ = tokenise(data, part)
        n_words[a:b] = np.maximum(np.diff(first) - 1, 0)
        a = b
    return n_words, logits


@jit
def _sums(
    words: NDArray[np.int32],
    buckets: NDArray[np.int32],
    word_weights: NDArray[np.float32],
    bucket_weights: NDArray[np.float32],
) -> tuple[float, float, np.int64]:
    """Weights of a document's words and of its n-grams, and the words that the model knows, for a bank of one model."""
    of_words, of_ngrams, known = 0.0, 0.0, np.int64(0)
    n = len(words)
    if len(buckets) > 0:  # two sums at a time, since neither waits for the other
        first = buckets[0]
        for t in range(n - 1):
            of_words += word_weights[np.uint32(words[t])]
            of_ngrams += bucket_weights[np.uint32(first[t])]
            known += np.int64(words[t] != 0)
    for t in range(n - 1 if len(buckets) > 0 else 0, n):
        of_words += word_weights[np.uint32(words[t])]
        known += np.int64(words[t] != 0)
    for m in range(1, len(buckets)):
        for bucket in buckets[m, : max(n - 1 - m, 0)]:
            of_ngrams += bucket_weights[np.uint32(bucket)]
    return of_words, of_ngrams, known


@jit
def _means(
    first: NDArray[np.int64],
    words: NDArray[np.int32],
    buckets: NDArray[np.int32],
    word_weights: NDArray[np.float32],
    word_counts: NDArray[np.uint8],
    bucket_weights: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Mean weight over the features of each document, float32 [n, K]."""
    n, n_columns = len(first) - 1, word_weights.shape[1]
    logits = np.empty((n, n_columns), np.float32)
    of_words, of_ngrams = np.empty(n_columns, np.float64), np.empty(n_columns, np.float64)
    counts = np.empty(n_columns, np.int64)
    for document in range(n):
        a, b = first[document], first[document + 1]
        if a == b:
            logits[document] = np.nan
            continue
        n_ngrams = 0
        for m in range(len(buckets)):
            n_ngrams += max(0, b - a - 1 - m)
        of_words[:], of_ngrams[:], counts[:] = 0.0, 0.0, n_ngrams
        if n_columns == 1:
            of_words[0], of_ngrams[0], known = _sums(
                words[a:b], buckets[:, a:b], word_weights[:, 0], bucket_weights[:, 0]
            )
            counts[0] += known
        else:
            for m in range(len(buckets)):  # the first column brings the rows into the cache; the others find them there
                for bucket in buckets[m, a : max(a, b - 1 - m)]:
                    of_ngrams[0] += bucket_weights[np.uint32(bucket), 0]
            for m in range(len(buckets)):
                for bucket in buckets[m, a : max(a, b - 1 - m)]:
                    for k in range(1, n_columns):
                        of_ngrams[k] += bucket_weights[np.uint32(bucket), k]
            for word in words[a:b]:
                for k in range(n_columns):
                    of_words[k] += word_weights[np.uint32(word), k]
                    counts[k] += word_counts[np.uint32(word), k]
        for k in range(n_columns):
            logits[document, k] = (of_words[k] + of_ngrams[k]) / counts[k] if counts[k] > 0 else 0.0
    return logits
