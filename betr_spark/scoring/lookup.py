"""Where the weights of documents' words and n-grams lie: tokenise, then look up in bulk.

The loops call nothing that takes arrays: such a call counts references to them, token by token, which costs more than the
look-up itself.
"""

import numpy as np
from numpy.typing import NDArray

from betr_spark.kernels.jit import jit
from betr_spark.kernels.token_runs import end_of_slice
from betr_spark.scoring.fasttext_tokens import Tokens, tokenise
from betr_spark.scoring.ngram_table import LONGEST, Vocabulary

AHEAD = 64  # tokens between asking for a row and its use: some ten rows can be on their way at a time
_BYTES_AT_ONCE = 1 << 17  # so that the tokens still lie in the cache when the vocabulary is looked up
_NGRAM_FACTOR = np.uint64(116049371)
_1, _16, _40 = np.uint64(1), np.uint64(16), np.uint64(40)
_LOW_16, _LOW_24 = np.uint64(0xFFFF), np.uint64(0xFFFFFF)


def most_tokens(offsets: NDArray[np.int64]) -> int:
    """Bound the tokens of documents, and AHEAD of them: a byte at least parts two words, `</s>` closes each document."""
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
    """Tokenise documents and find the rows that the weights of their words and n-grams lie in.

    Args:
        data: bytes of all documents, uint8.
        offsets: int64 [n + 1].
        vocabulary: of a shared_table.
        n_buckets: number of rows for n-grams.
        words: the row of each token's word comes here, int32 [>= most_tokens(offsets)].
        buckets: the row of the n-gram of m + 2 tokens from each token on, int32 [word_ngrams - 1, as many].

    Returns:
        The first token of each document, and the end, int64 [n + 1].
    """
    n = len(offsets) - 1
    first, a = np.zeros(n + 1, np.int64), 0
    while a < n:
        b = end_of_slice(offsets, a, _BYTES_AT_ONCE)
        own_first, tokens = tokenise(data, offsets[a : b + 1])
        begin, end = first[a], first[a] + own_first[b - a]
        first[a + 1 : b + 1] = own_first[1:] + begin
        _find(data, offsets[a], tokens, vocabulary, words[begin:end])
        _buckets(tokens.hashes, n_buckets, buckets[:, begin:end])
        a = b
    return first


@jit
def _find(data: NDArray[np.uint8], base: int, tokens: Tokens, vocabulary: Vocabulary, found: NDArray[np.int32]) -> None:
    """Find the number + 1 of every token in a vocabulary, 0 where it is none of its words."""
    starts, lengths, prefixes, long, tails, hashes = tokens
    words, word_offsets, word_prefixes, word_tails, word_lengths, slots = vocabulary
    n_tokens, mask = len(prefixes), np.uint64(len(slots) - 1)
    rest, n_rest = np.empty(n_tokens + len(long) + 1, np.int32), np.uint64(0)
    for t in range(n_tokens):  # without a branch, so that the cache misses of many tokens overlap
        word = slots[np.uint64(hashes[t]) & mask]
        found[t] = word
        rest[n_rest] = t
        n_rest += np.uint64(
            (word != 0) & ((word_prefixes[word] != prefixes[t]) | (word_lengths[word] != min(lengths[t], LONGEST)))
        )
    after = np.uint64(0)
    while n_rest != 0:  # those that met another word go on to the next slot, all at once for the same reason
        n, n_rest, after = np.int64(n_rest), np.uint64(0), after + _1
        for r in range(n):
            t = rest[r]
            word = slots[(np.uint64(hashes[t]) + after) & mask]
            found[t] = word
            rest[n_rest] = t
            n_rest += np.uint64(
                (word != 0) & ((word_prefixes[word] != prefixes[t]) | (word_lengths[word] != min(lengths[t], LONGEST)))
            )
    for i in range(len(long)):
        t = long[i]
        unlike = (word_tails[np.uint32(found[t])] != tails[i]) | (lengths[t] > 16)
        rest[n_rest] = t
        n_rest += np.uint64((found[t] != 0) & unlike)
    for r in range(np.int64(n_rest)):
        t = rest[r]
        at, length, start = np.uint64(hashes[t]) & mask, np.int64(lengths[t]), base + starts[t]
        word = slots[at]
        while word != 0:
            there, k = word_offsets[word - 1], 8
            if word_prefixes[word] == prefixes[t] and word_offsets[word] - there == length:
                while k < length and data[start + k] == words[there + k]:
                    k += 1
                if k >= length:
                    break
            at = (at + _1) & mask
            word = slots[at]
        found[t] = word


@jit
def _buckets(hashes: NDArray[np.uint32], n_buckets: int, buckets: NDArray[np.int32]) -> None:
    """Find the bucket of the n-gram of m + 2 tokens from each token on, across documents too; see `look_up`."""
    n = len(hashes)
    values = np.empty(n, np.uint64)
    for t in range(n):
        values[t] = np.uint64(np.int64(np.int32(hashes[t])))
    # value % n_buckets by floating point, which vectorises: the upper 24 bits, the next 24 and the lower 16 make a number of
    # less than 2^53 with the same remainder, and a quotient off by one at most. All is exact for n_buckets < MOST_BUCKETS.
    inverse, modulus = 1.0 / np.float64(n_buckets), np.float64(n_buckets)
    of_upper, of_middle = np.float64((1 << 40) % n_buckets), np.float64((1 << 16) % n_buckets)
    for m in range(len(buckets)):
        own = buckets[m]
        for t in range(n - m - 1):
            value = values[t] * _NGRAM_FACTOR + np.uint64(np.int64(np.int32(hashes[t + m + 1])))
            values[t] = value
            number = np.float64(np.int64(value >> _40)) * of_upper
            number += np.float64(np.int64((value >> _16) & _LOW_24)) * of_middle + np.float64(np.int64(value & _LOW_16))
            rest = number - np.floor(number * inverse) * modulus
            rest += modulus if rest < 0 else 0.0
            rest -= modulus if rest >= modulus else 0.0
            own[t] = np.int32(rest)
