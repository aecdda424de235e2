"""Logits of folded fastText models on raw UTF-8 bytes: tokenise once, then look up in bulk, table by table.

Gives what fastText gives for `corpus.text.prepare(text)` and a newline. Sums are float64 in the document's order.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from betr_spark.corpus.kernel import jit, separator_length
from betr_spark.scorer.table import END_OF_LINE, FNV_PRIME, FNV_START, NgramTable, fnv1a

_BYTES_AT_ONCE = 1 << 18  # so that the tokens still lie in the cache when the tables are looked up
_END_HASH = np.uint32(fnv1a(END_OF_LINE.encode()))
_NGRAM_FACTOR = np.uint64(116049371)
_INSIDE, _ALONE, _LEAD = 0, 1, 2  # what a byte may be: of a token; a separator; the first byte of a longer separator
_KIND = np.full(256, _INSIDE, np.uint8)
_KIND[[0x00, *range(0x09, 0x0E), *range(0x1C, 0x21)]] = _ALONE
_KIND[[0xC2, 0xE1, 0xE2, 0xE3]] = _LEAD
_32, _LOW_32 = np.uint64(32), np.uint64(0xFFFFFFFF)
_LABEL = np.frombuffer(b"__label__", np.uint8)


def score(
    data: NDArray[np.uint8], offsets: NDArray[np.int64], tables: Sequence[NgramTable]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Count words and score documents.

    Args:
        data: bytes of all documents, uint8.
        offsets: int64 [n + 1]; document i is data[offsets[i] : offsets[i + 1]].
        tables: K folded models.

    Returns:
        Words of each document, int32 [n], and logits, float32 [n, K], NaN for a document without a word. A document
        whose words are no feature of a model (unknown words, and a model of single words without `</s>`) has logit 0.
    """
    n = len(offsets) - 1
    n_words, logits = np.empty(n, np.int32), np.empty((len(tables), n), np.float32)
    hashes, starts, lengths = np.empty(0, np.uint32), np.empty(0, np.int64), np.empty(0, np.int32)
    a = 0
    while a < n:
        b = max(a + 1, int(np.searchsorted(offsets, offsets[a] + _BYTES_AT_ONCE, side="right")) - 1)
        most = (int(offsets[b] - offsets[a]) + b - a) // 2
        if most > len(hashes):
            hashes, starts, lengths = np.empty(most, np.uint32), np.empty(most, np.int64), np.empty(most, np.int32)
        first = _tokenise(data, offsets[a : b + 1], hashes, starts, lengths)
        n_words[a:b] = np.diff(first)
        for row, table in enumerate(tables):
            end = table.end_of_line_weight
            _logits(
                data, first, hashes, starts, lengths,
                table.words, table.word_offsets, table.slots, table.word_weights, table.bucket_weights,
                table.word_ngrams, end is not None, end or 0.0, logits[row, a:b],
            )  # fmt: skip
        a = b
    return n_words, np.ascontiguousarray(logits.T)


@jit
def _tokenise(
    data: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    hashes: NDArray[np.uint32],
    starts: NDArray[np.int64],
    lengths: NDArray[np.int32],
) -> NDArray[np.int64]:
    """Fill hash, start and length of every token; return the first token of each document, and the end."""
    n = len(offsets) - 1
    first = np.zeros(n + 1, np.int64)
    count = 0
    for document in range(n):
        i, end = offsets[document], offsets[document + 1]
        while i < end:
            kind = _KIND[data[i]]
            if kind != _INSIDE:
                gap = 1 if kind == _ALONE else separator_length(data, i, end)
                if gap > 0:
                    i += gap
                    continue
            start = i
            value = FNV_START
            while i < end:
                b = data[i]
                kind = _KIND[b]
                if kind != _INSIDE and (kind == _ALONE or separator_length(data, i, end) > 0):
                    break
                value = np.uint32((value ^ np.uint32(np.int32(np.int8(b)))) * FNV_PRIME)
                i += 1
            if data[start] == 0x5F or data[start] == 0x3C:  # '_' or '<'
                skipped = _markup(data, start, i)
                if skipped > 0:
                    start += skipped
                    value = _hash(data, start, i)
            hashes[count] = value
            starts[count] = start
            lengths[count] = i - start
            count += 1
        first[document + 1] = count
    return first


@jit
def _markup(data: NDArray[np.uint8], start: int, end: int) -> int:
    """Bytes that `prepare` takes from the front of a token: 2 for `__label__...` and for `</s>`, else 0."""
    if end - start == 4 and data[start] == 0x3C and data[start + 1] == 0x2F:
        return 2 if data[start + 2] == 0x73 and data[start + 3] == 0x3E else 0
    if end - start < len(_LABEL):
        return 0
    for k in range(len(_LABEL)):
        if data[start + k] != _LABEL[k]:
            return 0
    return 2


@jit
def _hash(data: NDArray[np.uint8], start: int, end: int) -> np.uint32:
    value = FNV_START
    for i in range(start, end):
        value = np.uint32((value ^ np.uint32(np.int32(np.int8(data[i])))) * FNV_PRIME)
    return value


@jit
def _logits(
    data: NDArray[np.uint8],
    first: NDArray[np.int64],
    hashes: NDArray[np.uint32],
    starts: NDArray[np.int64],
    lengths: NDArray[np.int32],
    words: NDArray[np.uint8],
    word_offsets: NDArray[np.int64],
    slots: NDArray[np.uint64],
    word_weights: NDArray[np.float32],
    bucket_weights: NDArray[np.float32],
    word_ngrams: int,
    has_end: bool,
    end_weight: float,
    out: NDArray[np.float32],
) -> None:
    """Fill the logits of the documents that `_tokenise` took apart.

    The loops call nothing: a call that takes arrays counts references to them, token by token, which costs more than
    the look-up itself.
    """
    mask = len(slots) - 1
    buckets = np.uint64(len(bucket_weights))
    probes = np.empty(first[-1], np.uint64)
    for t in range(len(probes)):  # without a branch, so that the cache misses of many tokens overlap
        probes[t] = slots[np.int64(hashes[t]) & mask]
    for document in range(len(first) - 1):
        a, b = first[document], first[document + 1]
        if a == b:
            out[document] = np.nan
            continue
        total, count = 0.0, 0
        for t in range(a, b):
            value = hashes[t]
            slot, at = probes[t], np.int64(value)
            while slot != 0:
                if np.uint32(slot >> _32) == value:
                    word = np.int64(slot & _LOW_32) - 1
                    there, length = word_offsets[word], np.int64(lengths[t])
                    if word_offsets[word + 1] - there == length:  # equal hashes are told apart by the bytes
                        start, k = starts[t], 0
                        while k < length and data[start + k] == words[there + k]:
                            k += 1
                        if k == length:
                            total += word_weights[word]
                            count += 1
                            break
                at += 1
                slot = slots[at & mask]
        if has_end:
            total += end_weight
            count += 1
        for t in range(a, b):
            value64 = np.uint64(np.int64(np.int32(hashes[t])))
            for u in range(t + 1, min(t + word_ngrams, b + 1)):
                following = hashes[u] if u < b else _END_HASH
                value64 = value64 * _NGRAM_FACTOR + np.uint64(np.int64(np.int32(following)))
                total += bucket_weights[np.int64(value64 % buckets)]
                count += 1
        out[document] = total / count if count > 0 else 0.0
