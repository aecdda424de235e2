"""Tokens of raw UTF-8 bytes as fastText sees them, and where their weights lie: tokenise once, then look up in bulk.

The loops call nothing that takes arrays: such a call counts references to them, token by token, which costs more than the
look-up itself.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from betr_spark.corpus.jit import jit
from betr_spark.corpus.kernel import (
    behind_eight,
    first_eight,
    heads_of,
    places,
    separator_length,
    slices,
    token_runs,
)
from betr_spark.scorer.table import END_OF_LINE, FNV_PRIME, FNV_START, LONGEST, Bank, Vocabulary

_BYTES_AT_ONCE = 1 << 17  # so that the tokens still lie in the cache when the vocabulary is looked up
_END_HEAD, _END_LENGTH = np.uint64(int.from_bytes(END_OF_LINE.encode(), "little")), len(END_OF_LINE)
_NGRAM_FACTOR = np.uint64(116049371)
_1, _32, _LOW_32 = np.uint64(1), np.uint64(32), np.uint64(0xFFFFFFFF)
_LABEL = np.frombuffer(b"__label__", np.uint8)


class Features(NamedTuple):
    """Where each document's tokens begin, int64 [n + 1], and of each bank the rows that its weights lie in.

    words: int32 [tokens]. buckets: int32 [word_ngrams - 1, tokens].
    """

    first: NDArray[np.int64]
    words: list[NDArray[np.int32]]
    buckets: list[NDArray[np.int32]]


class Tokens(NamedTuple):
    """Tokens of some documents, `</s>` at the end of each document that has a word.

    starts, lengths: in bytes, int32; of `</s>` the start means nothing. heads: first eight bytes, little-endian, uint64.
    long: the tokens of more than eight bytes, int32. tails: their next eight bytes, uint64. hashes: FNV, uint32.
    """

    starts: NDArray[np.int32]
    lengths: NDArray[np.int32]
    heads: NDArray[np.uint64]
    long: NDArray[np.int32]
    tails: NDArray[np.uint64]
    hashes: NDArray[np.uint32]


def tokenise(data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> tuple[NDArray[np.int64], Tokens]:
    """Cut documents into tokens; the first one of each document, and the end, int64 [n + 1]. Starts count from offsets[0]."""
    base = int(offsets[0])
    first, starts, lengths = token_runs(_marks(data, offsets), offsets, 1)
    heads = _heads(data, base, first, starts, lengths)
    long, tail_starts, tail_lengths = behind_eight(starts, lengths)
    tails = heads_of(data, base, tail_starts, tail_lengths)
    hashes = _hashes(data, base, starts, lengths, heads, long, tails, tail_lengths)
    return first, Tokens(starts, lengths, heads, long, tails, hashes)


def look_up(data: NDArray[np.uint8], offsets: NDArray[np.int64], banks: Sequence[Bank]) -> Features:
    """Tokenise documents and find their words and n-grams in each bank; see `kernel.score` for the arguments."""
    firsts: list[NDArray[np.int64]] = [np.zeros(1, np.int64)]
    found: list[list[NDArray[np.int32]]] = [[] for _ in banks]
    grams: list[list[NDArray[np.int32]]] = [[] for _ in banks]
    for a, b in slices(offsets, _BYTES_AT_ONCE):
        first, tokens = tokenise(data, offsets[a : b + 1])
        firsts.append(first[1:] + firsts[-1][-1])
        for k, bank in enumerate(banks):
            found[k].append(_find(data, int(offsets[a]), tokens, bank.vocabulary))
            grams[k].append(_buckets(tokens.hashes, bank.word_ngrams, max(1, len(bank.bucket_weights))))
    words, buckets = [np.concatenate(parts) for parts in found], [np.concatenate(parts, axis=1) for parts in grams]
    return Features(np.concatenate(firsts), words, buckets)


@jit
def _marks(data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> NDArray[np.uint8]:
    """1 for each byte of a word, 0 for each byte of a separator."""
    own = data[offsets[0] : offsets[-1]]
    marks, leads = np.empty(len(own), np.uint8), np.empty(len(own), np.uint8)
    for i in range(len(own)):  # without a branch
        b = own[i]
        marks[i] = np.uint8((b != 0) & ((b < 0x09) | (b > 0x0D)) & ((b < 0x1C) | (b > 0x20)))
        leads[i] = np.uint8((b == 0xC2) | ((b >= 0xE1) & (b <= 0xE3)))
    document = 0
    for i in places(leads):  # the longer separators begin with one of these
        while offsets[document + 1] - offsets[0] <= i:
            document += 1
        for k in range(separator_length(own, i, offsets[document + 1] - offsets[0])):
            marks[i + k] = 0
    return marks


@jit
def _heads(
    data: NDArray[np.uint8],
    base: int,
    first: NDArray[np.int64],
    starts: NDArray[np.int32],
    lengths: NDArray[np.int32],
) -> NDArray[np.uint64]:
    """First eight bytes of every token; `</s>` closes each document that has a word.

    Where `prepare` takes two bytes from the front of a token (`__label__...` and `</s>`), so does this.
    """
    heads = heads_of(data, base, starts, lengths)
    for t in range(len(heads)):
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
    return heads


@jit
def _hashes(
    data: NDArray[np.uint8],
    base: int,
    starts: NDArray[np.int32],
    lengths: NDArray[np.int32],
    heads: NDArray[np.uint64],
    long: NDArray[np.int32],
    tails: NDArray[np.uint64],
    tail_lengths: NDArray[np.int32],
) -> NDArray[np.uint32]:
    """FNV hash of every token."""
    hashes = np.full(len(heads), FNV_START, np.uint32)
    _continue(hashes, heads, lengths)
    of_long = np.empty(len(long), np.uint32)
    for i in range(len(long)):
        of_long[i] = hashes[np.uint32(long[i])]
    _continue(of_long, tails, tail_lengths)
    for i in range(len(long)):
        value, t = of_long[i], np.uint32(long[i])
        if tail_lengths[i] > 8:
            for k in range(base + starts[t] + 16, base + starts[t] + lengths[t]):
                value = np.uint32((value ^ np.uint32(np.int32(np.int8(data[k])))) * FNV_PRIME)
        hashes[t] = value
    return hashes


@jit
def _continue(hashes: NDArray[np.uint32], eights: NDArray[np.uint64], lengths: NDArray[np.int32]) -> None:
    """Take up to eight more bytes a token into its FNV hash."""
    fours = eights.view(np.int32)
    for t in range(len(hashes)):  # without a branch, in 32 bits, so that it vectorises over tokens
        value, length = hashes[t], lengths[t]
        for half in range(2):
            four = fours[2 * t + half]
            for k in range(4):
                signed = np.uint32(np.int32(four << np.int32(24 - 8 * k)) >> np.int32(24))
                following = np.uint32((value ^ signed) * FNV_PRIME)
                value = following if 4 * half + k < length else value
        hashes[t] = value


@jit
def _find(data: NDArray[np.uint8], base: int, tokens: Tokens, vocabulary: Vocabulary) -> NDArray[np.int32]:
    """Number + 1 of every token in a vocabulary, 0 where it is none of its words, int32."""
    starts, lengths, heads, long, tails, hashes = tokens
    words, word_offsets, word_heads, word_tails, word_lengths, slots = vocabulary
    n_tokens, mask = len(heads), np.uint64(len(slots) - 1)
    found = np.empty(n_tokens, np.int32)
    rest, n_rest = np.empty(n_tokens + len(long) + 1, np.int32), np.uint64(0)
    for t in range(n_tokens):  # without a branch, so that the cache misses of many tokens overlap
        word = slots[np.uint64(hashes[t]) & mask]
        found[t] = word
        rest[n_rest] = t
        n_rest += np.uint64(
            (word != 0) & ((word_heads[word] != heads[t]) | (word_lengths[word] != min(lengths[t], LONGEST)))
        )
    for i in range(len(long)):
        t = long[i]
        word = np.uint32(found[t])
        rest[n_rest] = t
        n_rest += np.uint64((word != 0) & ((word_tails[word] != tails[i]) | (lengths[t] > 16)))
    for r in range(np.int64(n_rest)):
        t = rest[r]
        at, length, start = np.uint64(hashes[t]) & mask, np.int64(lengths[t]), base + starts[t]
        word = slots[at]
        while word != 0:
            there, k = word_offsets[word - 1], 8
            if word_heads[word] == heads[t] and word_offsets[word] - there == length:
                while k < length and data[start + k] == words[there + k]:
                    k += 1
                if k >= length:
                    break
            at = (at + _1) & mask
            word = slots[at]
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
