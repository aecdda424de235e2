"""Logits of folded fastText models on raw UTF-8 bytes.

They are those of fastText for `kernels.text_preparation.prepare(text)` and a newline. Sums are float64, in the order of the
document.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from betr_spark.kernels.jit import jit
from betr_spark.kernels.token_runs import end_of_slice, prefetch
from betr_spark.scoring.dsir import LogRatios, log_ratio_scores
from betr_spark.scoring.fasttext_tokens import tokenise
from betr_spark.scoring.lookup import AHEAD, look_up, max_tokens
from betr_spark.scoring.ngram_table import SharedTables

# Large slices: in each of them, the weights displace everything else from the processor's cache.
_SLICE_BYTES = 1 << 21


def score(
    data: NDArray[np.uint8], offsets: NDArray[np.int64], shared_tables: SharedTables
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Count words and score documents.

    Args:
        data: bytes of all documents, uint8.
        offsets: int64 [n + 1]; document i is data[offsets[i] : offsets[i + 1]].
        shared_tables: the result of `ngram_table.stack` for K tables.

    Returns:
        Number of words of each document, int32 [n], and logits, float32 [n, K]. The logit of a document without a word is NaN,
        with log-ratios 0. It is 0 if no feature of the document is in the model: unknown words only, and a model of single
        words without `</s>`.
    """
    n, n_columns = len(offsets) - 1, sum(len(shared_table.columns) for shared_table in shared_tables)
    n_words, logits = np.empty(n, np.int32), np.empty((n, n_columns), np.float32)
    words, buckets = np.empty(0, np.int32), np.empty((0, 0), np.int32)
    a = 0
    while a < n:
        b = end_of_slice(offsets, a, _SLICE_BYTES)
        part = offsets[a : b + 1]
        first = None
        for shared_table in shared_tables:
            if isinstance(shared_table, LogRatios):
                logits[a:b, shared_table.columns] = log_ratio_scores(data, part, shared_table)
                continue
            shape = shared_table.word_ngrams - 1, max_tokens(part)
            if shape[0] > buckets.shape[0] or shape[1] > buckets.shape[1]:  # else reuse those of the previous slice
                words, buckets = np.empty(shape[1], np.int32), np.empty(shape, np.int32)
            grams = buckets[: shape[0]]
            first = look_up(data, part, shared_table.vocabulary, max(1, len(shared_table.bucket_weights)), words, grams)
            weights = shared_table.word_weights, shared_table.word_counts, shared_table.bucket_weights
            logits[a:b, shared_table.columns] = _means(first, words, grams, *weights)
        if first is None:
            first, _ = tokenise(data, part)
        n_words[a:b] = np.maximum(np.diff(first) - 1, 0)
        a = b
    return n_words, logits


@jit
def _means(
    first: NDArray[np.int64],
    words: NDArray[np.int32],
    buckets: NDArray[np.int32],
    word_weights: NDArray[np.float32],
    word_counts: NDArray[np.uint8],
    bucket_weights: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Compute the mean weight over the features of each document, float32 [n, K]."""
    n, n_columns = len(first) - 1, word_weights.shape[1]
    logits, sums, known = np.empty((n, n_columns), np.float32), np.empty(n_columns), np.empty(n_columns, np.int64)
    for document in range(n):
        a, b = first[document], first[document + 1]
        if a == b:
            logits[document] = np.nan
            continue
        for k in range(0, n_columns - 3, 4):
            _sum_four(words, buckets, a, b, word_weights, bucket_weights, k, sums)
        for k in range(n_columns - n_columns % 4, n_columns):
            sums[k] = _sum_single(words, buckets, a, b, word_weights[:, k], bucket_weights[:, k])
        for k in range(n_columns):
            known[k] = _known(words[a:b], word_counts[:, k]) if k < word_counts.shape[1] else known[0]
        n_ngrams = 0
        for m in range(len(buckets)):
            n_ngrams += max(0, b - a - 1 - m)
        for k in range(n_columns):
            count = known[k] + n_ngrams
            logits[document, k] = sums[k] / count if count > 0 else 0.0
    return logits


@jit
def _known(words: NDArray[np.int32], counts: NDArray[np.uint8]) -> Any:
    """Count the words of a document that a model knows."""
    known = np.int64(0)
    for word in words:
        known += counts[np.uint32(word)]
    return known


@jit
def _sum_single(
    words: NDArray[np.int32],
    buckets: NDArray[np.int32],
    a: int,
    b: int,
    word_weights: NDArray[np.float32],
    bucket_weights: NDArray[np.float32],
) -> float:
    """Sum the weights of the words and n-grams of a document, tokens a to b, for one model."""
    of_words, of_ngrams = 0.0, 0.0
    if len(buckets) > 0:  # two sums in one loop, because neither waits for the other
        row = buckets[0]
        for t in range(a, b - 1):
            prefetch(bucket_weights, np.uint64(np.uint32(row[t + AHEAD])))
            of_words += word_weights[np.uint32(words[t])]
            of_ngrams += bucket_weights[np.uint32(row[t])]
    for t in range(b - 1 if len(buckets) > 0 else a, b):
        of_words += word_weights[np.uint32(words[t])]
    for m in range(1, len(buckets)):
        row = buckets[m]
        for t in range(a, b - 1 - m):
            prefetch(bucket_weights, np.uint64(np.uint32(row[t + AHEAD])))
            of_ngrams += bucket_weights[np.uint32(row[t])]
    return of_words + of_ngrams


@jit
def _sum_four(
    words: NDArray[np.int32],
    buckets: NDArray[np.int32],
    a: int,
    b: int,
    word_weights: NDArray[np.float32],
    bucket_weights: NDArray[np.float32],
    column: int,
    sums: NDArray[np.float64],
) -> None:
    """Sum like `_sum_single` for four models at once, from a column on."""
    of_words, of_ngrams, at = np.zeros(4), np.zeros(4), np.uint64(column)
    if len(buckets) > 0:
        row = buckets[0]
        for t in range(a, b - 1):
            prefetch(bucket_weights, np.uint64(np.uint32(row[t + AHEAD])))
            _add_four(of_words, word_weights, np.uint64(np.uint32(words[t])), at)
            _add_four(of_ngrams, bucket_weights, np.uint64(np.uint32(row[t])), at)
    for t in range(b - 1 if len(buckets) > 0 else a, b):
        _add_four(of_words, word_weights, np.uint64(np.uint32(words[t])), at)
    for m in range(1, len(buckets)):
        row = buckets[m]
        for t in range(a, b - 1 - m):
            prefetch(bucket_weights, np.uint64(np.uint32(row[t + AHEAD])))
            _add_four(of_ngrams, bucket_weights, np.uint64(np.uint32(row[t])), at)
    for k in range(4):
        sums[column + k] = of_words[k] + of_ngrams[k]


@intrinsic
def _add_four(_: object, sums: Any, weights: Any, row: Any, column: Any) -> Any:
    """Add weights[row, column : column + 4] to sums[:4], both in C order; the compiler does not vectorise four sums."""
    if not (isinstance(sums, types.Array) and isinstance(weights, types.Array) and row == column == types.uint64):
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        to, table = (
            context.make_array(kind)(context, builder, value)
            for kind, value in zip(signature.args[:2], arguments[:2], strict=True)
        )
        offset = builder.add(builder.mul(arguments[2], builder.extract_value(table.shape, 1)), arguments[3])
        four = ir.VectorType(ir.FloatType(), 4)
        address = builder.bitcast(builder.gep(table.data, [offset]), four.as_pointer())
        wide = ir.VectorType(ir.DoubleType(), 4)
        total = builder.bitcast(to.data, wide.as_pointer())
        more = builder.fpext(builder.load(address, align=4), wide)
        builder.store(builder.fadd(builder.load(total, align=8), more), total, align=8)
        return context.get_dummy_value()

    return types.void(sums, weights, row, column), generate
