"""Rows of the weights of documents' words and n-grams: tokenise, then look up in bulk.

The loops do not call functions that take arrays: such a call counts references for each token, which costs more than the
look-up itself.
"""

import numpy as np
from numpy.typing import NDArray

from betr_spark.kernels.jit import jit
from betr_spark.kernels.token_runs import end_of_slice
from betr_spark.scoring.fasttext_tokens import Tokens, tokenise
from betr_spark.scoring.ngram_table import LONGEST, Vocabulary

AHEAD = 64  # tokens between the prefetch of a row and its use; about ten loads can be in progress at a time
_SLICE_BYTES = 1 << 17  # the tokens of a slice are still in the processor's cache when they are looked up
_NGRAM_FACTOR = np.uint64(116049371)
_1, _16, _40 = np.uint64(1), np.uint64(16), np.uint64(40)
_LOW_16, _LOW_24 = np.uint64(0xFFFF), np.uint64(0xFFFFFF)


def max_tokens(offsets: NDArray[np.int64]) -> int:
    """Return an upper bound of the number of tokens, plus AHEAD: a separator follows each word, `</s>` ends each document."""
    return int(offsets[-1] - offsets[0]) // 2 + 2 * (len(offsets) - 1) + AHEAD


@jit
def look_up(
    data: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    vocabulary: Vocabulary,
    n_buckets: int,
    words: NDArray[np.int32],
    buckets: NDArray[np.int32],
) -> NDArray[np.int64]:
    """Tokenise documents and look up the rows of their words and n-grams.

    Args:
        data: bytes of all documents, uint8.
        offsets: int64 [n + 1].
        vocabulary: the words of a shared table.
        n_buckets: number of rows for n-grams.
        words: output, the row of each token's word, int32 [>= max_tokens(offsets)].
        buckets: output, the row of the n-gram of m + 2 tokens from each token on, int32 [word_ngrams - 1, len(words)].

    Returns:
        The position of each document's first token, and the number of tokens, int64 [n + 1].
    """
    n = len(offsets) - 1
    first, a = np.zeros(n + 1, np.int64), 0
    while a < n:
        b = end_of_slice(offsets, a, _SLICE_BYTES)
        first_of_slice, tokens = tokenise(data, offsets[a : b + 1])
        begin, end = first[a], first[a] + first_of_slice[b - a]
        first[a + 1 : b + 1] = first_of_slice[1:] + begin
        _word_rows(data, offsets[a], tokens, vocabulary, words[begin:end])
        _buckets(tokens.hashes, n_buckets, buckets[:, begin:end])
        a = b
    return first


@jit
def _word_rows(
    data: NDArray[np.uint8], base: int, tokens: Tokens, vocabulary: Vocabulary, rows: NDArray[np.int32]
) -> None:
    """Write the row of every token: its position in the vocabulary + 1, or 0 for an unknown word."""
    starts, lengths, prefixes, long, tails, hashes = tokens
    words, word_offsets, word_prefixes, word_tails, word_lengths, slots = vocabulary
    n_tokens, mask = len(prefixes), np.uint64(len(slots) - 1)
    rest, n_rest = np.empty(n_tokens + len(long) + 1, np.int32), np.uint64(0)
    for t in range(n_tokens):  # without a branch, so that the cache misses of many tokens overlap
        word = slots[np.uint64(hashes[t]) & mask]
        rows[t] = word
        rest[n_rest] = t
        n_rest += np.uint64(
            (word != 0) & ((word_prefixes[word] != prefixes[t]) | (word_lengths[word] != min(lengths[t], LONGEST)))
        )
    after = np.uint64(0)
    while n_rest != 0:  # tokens whose slot has a different word continue with the next slot, in bulk
        n, n_rest, after = np.int64(n_rest), np.uint64(0), after + _1
        for r in range(n):
            t = rest[r]
            word = slots[(np.uint64(hashes[t]) + after) & mask]
            rows[t] = word
            rest[n_rest] = t
            n_rest += np.uint64(
                (word != 0) & ((word_prefixes[word] != prefixes[t]) | (word_lengths[word] != min(lengths[t], LONGEST)))
            )
    for i in range(len(long)):
        t = long[i]
        differs = (word_tails[np.uint32(rows[t])] != tails[i]) | (lengths[t] > 16)
        rest[n_rest] = t
        n_rest += np.uint64((rows[t] != 0) & differs)
    for r in range(np.int64(n_rest)):
        t = rest[r]
        at, length, start = np.uint64(hashes[t]) & mask, np.int64(lengths[t]), base + starts[t]
        word = slots[at]
        while word != 0:
            word_start, k = word_offsets[word - 1], 8
            if word_prefixes[word] == prefixes[t] and word_offsets[word] - word_start == length:
                while k < length and data[start + k] == words[word_start + k]:
                    k += 1
                if k >= length:
                    break
            at = (at + _1) & mask
            word = slots[at]
        rows[t] = word


@jit
def _buckets(hashes: NDArray[np.uint32], n_buckets: int, buckets: NDArray[np.int32]) -> None:
    """Write the bucket of the n-gram of m + 2 tokens from each token on, across documents; see `look_up`."""
    n = len(hashes)
    values = np.empty(n, np.uint64)
    for t in range(n):
        values[t] = np.uint64(np.int64(np.int32(hashes[t])))
    # value % n_buckets in floating point, which vectorises: the upper 24 bits, the next 24 and the lower 16 give a number below
    # 2^53 with the same remainder, and its quotient differs by at most 1. This is exact for n_buckets < MAX_BUCKETS.
    inverse, modulus = 1.0 / np.float64(n_buckets), np.float64(n_buckets)
    of_upper, of_middle = np.float64((1 << 40) % n_buckets), np.float64((1 << 16) % n_buckets)
    for m in range(len(buckets)):
        row = buckets[m]
        for t in range(n - m - 1):
            value = values[t] * _NGRAM_FACTOR + np.uint64(np.int64(np.int32(hashes[t + m + 1])))
            values[t] = value
            number = np.float64(np.int64(value >> _40)) * of_upper
            number += np.float64(np.int64((value >> _16) & _LOW_24)) * of_middle + np.float64(np.int64(value & _LOW_16))
            rest = number - np.floor(number * inverse) * modulus
            rest += modulus if rest < 0 else 0.0
            rest -= modulus if rest >= modulus else 0.0
            row[t] = np.int32(rest)
