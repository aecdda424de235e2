"""Logits of folded fastText models on raw UTF-8 bytes: tokenise once, then look up in bulk, bank by bank.

Gives what fastText gives for `corpus.text.prepare(text)` and a newline. Sums are float64 in the document's order.

The loops call nothing that takes arrays: such a call counts references to them, token by token, which costs more than the
look-up itself.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from betr_spark.corpus.kernel import first_eight, heads_of, jit, separator_length, slices, token_runs
from betr_spark.scorer.table import END_OF_LINE, FNV_PRIME, FNV_START, Bank

_BYTES_AT_ONCE = 1 << 17  # so that the tokens still lie in the cache when the tables are looked up
_END_HEAD, _END_LENGTH = np.uint64(int.from_bytes(END_OF_LINE.encode(), "little")), len(END_OF_LINE)
_NGRAM_FACTOR = np.uint64(116049371)
_1, _8, _56 = np.uint64(1), np.uint64(8), np.uint64(56)
_LABEL = np.frombuffer(b"__label__", np.uint8)


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
    for a, b in slices(offsets, _BYTES_AT_ONCE):
        part = offsets[a : b + 1]
        first, starts, lengths = token_runs(_marks(data, part), part, 1)
        n_words[a:b] = np.maximum(np.diff(first) - 1, 0)
        if banks:
            heads, hashes = _heads_and_hashes(data, offsets[a], first, starts, lengths)
        for bank in banks:
            words = _find(
                data, offsets[a], starts, lengths, heads, hashes, bank.slots, bank.heads, bank.words, bank.word_offsets
            )
            buckets = _buckets(hashes, bank.word_ngrams, max(1, len(bank.bucket_weights)))
            weights = bank.word_weights, bank.word_counts, bank.bucket_weights
            logits[a:b, bank.columns] = _means(first, words, buckets, *weights)
    return n_words, logits


@jit
def _marks(data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> NDArray[np.uint8]:
    """1 for each byte of a word, 0 for each byte of a separator."""
    begin = offsets[0]
    marks = np.empty(offsets[-1] - begin, np.uint8)
    for document in range(len(offsets) - 1):
        own = data[offsets[document] : offsets[document + 1]]
        out = marks[offsets[document] - begin : offsets[document + 1] - begin]
        n_leads = np.int64(0)
        for i in range(len(own)):  # without a branch
            b = own[i]
            out[i] = np.uint8((b != 0) & ((b < 0x09) | (b > 0x0D)) & ((b < 0x1C) | (b > 0x20)))
            n_leads += np.uint8((b == 0xC2) | ((b >= 0xE1) & (b <= 0xE3)))
        if n_leads > 0:  # the longer separators begin with one of these
            for i in range(len(own)):
                b = own[i]
                if b == 0xC2 or (0xE1 <= b <= 0xE3):
                    for k in range(separator_length(own, i, len(own))):
                        out[i + k] = 0
    return marks


@jit
def _heads_and_hashes(
    data: NDArray[np.uint8],
    base: int,
    first: NDArray[np.int64],
    starts: NDArray[np.int32],
    lengths: NDArray[np.int32],
) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:
    """First eight bytes and FNV hash of every token; `</s>` closes each document that has a word.

    Where `prepare` takes two bytes from the front of a token (`__label__...` and `</s>`), so does this.
    """
    n_tokens = first[-1]
    heads, hashes = heads_of(data, base, starts, lengths, n_tokens), np.empty(n_tokens, np.uint32)
    for t in range(n_tokens):
        lead = heads[t] & np.uint64(0xFF)
        if lead == 0x5F or lead == 0x3C:  # '_' or '<'
            start = base + starts[t]
            skip = heads[t] == _END_HEAD
            if lengths[t] >= len(_LABEL):
                skip = True
                for k in range(len(_LABEL)):
                    skip = skip and data[start + k] == _LABEL[k]
            if skip:
                starts[t] += 2
                lengths[t] -= 2
                heads[t] = first_eight(data, start + 2, min(lengths[t], 8))
    for document in range(len(first) - 1):
        last = first[document + 1] - 1
        if last >= first[document]:
            heads[last], lengths[last] = _END_HEAD, _END_LENGTH
    for t in range(n_tokens):  # without a branch, so that it vectorises over tokens
        value, head, length = FNV_START, heads[t], lengths[t]
        for k in range(8):
            signed = np.uint32(np.int32(np.int64(head << np.uint64(56 - 8 * k)) >> np.int64(56)))
            following = np.uint32((value ^ signed) * FNV_PRIME)
            value = following if k < length else value
        hashes[t] = value
    for t in range(n_tokens):
        if lengths[t] > 8:
            value = hashes[t]
            for i in range(base + starts[t] + 8, base + starts[t] + lengths[t]):
                value = np.uint32((value ^ np.uint32(np.int32(np.int8(data[i])))) * FNV_PRIME)
            hashes[t] = value
    return heads, hashes


@jit
def _find(
    data: NDArray[np.uint8],
    base: int,
    starts: NDArray[np.int32],
    lengths: NDArray[np.int32],
    heads: NDArray[np.uint64],
    hashes: NDArray[np.uint32],
    slots: NDArray[np.uint32],
    word_heads: NDArray[np.uint64],
    words: NDArray[np.uint8],
    word_offsets: NDArray[np.int64],
) -> NDArray[np.int32]:
    """Row of every token in the bank's word weights, 0 where it is no word of the bank."""
    mask = len(slots) - 1
    found = np.empty(len(heads), np.int32)
    for t in range(len(heads)):  # without a branch, so that the cache misses of many tokens overlap
        found[t] = slots[np.int64(hashes[t]) & mask]
    for t in range(len(heads)):
        word = np.int64(found[t])
        if word == 0 or (word_heads[word] == heads[t] and lengths[t] < 8):  # a shorter word is all in its head
            continue
        at, length = np.int64(hashes[t]) & mask, np.int64(lengths[t])
        while word != 0:
            there = word_offsets[word - 1]
            if word_heads[word] == heads[t] and word_offsets[word] - there == length:
                start, k = base + starts[t], 8
                while k < length and data[start + k] == words[there + k]:
                    k += 1
                if k >= length:
                    break
            at = (at + 1) & mask
            word = np.int64(slots[at])
        found[t] = word
    return found


@jit
def _buckets(hashes: NDArray[np.uint32], word_ngrams: int, n_buckets: int) -> NDArray[np.int32]:
    """Bucket of the n-gram of m + 2 tokens from each token on, int32 [word_ngrams - 1, tokens], across documents too."""
    n = len(hashes)
    buckets = np.empty((max(word_ngrams - 1, 0), n), np.int32)
    values = np.empty(n, np.uint64)
    for t in range(n):
        values[t] = np.uint64(np.int64(np.int32(hashes[t])))
    inverse, modulus = 1.0 / np.float64(n_buckets), np.int64(n_buckets)
    for m in range(word_ngrams - 1):
        for t in range(n - m - 1):
            value = values[t] * _NGRAM_FACTOR + np.uint64(np.int64(np.int32(hashes[t + m + 1])))
            values[t] = value
            # value % n_buckets by floating point, which vectorises: the half of it, in which the quotient is off by less
            # than 2^12 (53 bits of 63), what that leaves, exactly, and then the last bit.
            half = np.int64(value >> _1)
            rest = half - np.int64(np.float64(half) * inverse) * modulus
            rest -= np.int64(np.floor(np.float64(rest) * inverse)) * modulus
            rest += modulus if rest < 0 else 0
            rest -= modulus if rest >= modulus else 0
            rest = 2 * rest + np.int64(value & _1)
            buckets[m, t] = rest - modulus if rest >= modulus else rest
    return buckets


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
        total = 0.0
        for m in range(len(buckets)):  # the first column brings the rows into the cache; the others find them there
            for t in range(a, b - 1 - m):
                total += bucket_weights[buckets[m, t], 0]
        of_ngrams[0] = total
        if n_columns == 1:
            total, count = 0.0, n_ngrams
            for t in range(a, b):
                total += word_weights[words[t], 0]
                count += word_counts[words[t], 0]
            of_words[0], counts[0] = total, count
        else:
            for m in range(len(buckets)):
                for t in range(a, b - 1 - m):
                    bucket = buckets[m, t]
                    for k in range(1, n_columns):
                        of_ngrams[k] += bucket_weights[bucket, k]
            for t in range(a, b):
                word = words[t]
                for k in range(n_columns):
                    of_words[k] += word_weights[word, k]
                    counts[k] += word_counts[word, k]
        for k in range(n_columns):
            logits[document, k] = (of_words[k] + of_ngrams[k]) / counts[k] if counts[k] > 0 else 0.0
    return logits
