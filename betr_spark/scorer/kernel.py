"""Logits of folded fastText models on raw UTF-8 bytes: tokenise once, then look up in bulk, table by table.

Gives what fastText gives for `corpus.text.prepare(text)` and a newline. Sums are float64 in the document's order.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from betr_spark.corpus.kernel import jit, separator_length
from betr_spark.scorer.table import END_OF_LINE, NgramTable, fnv1a

_END_HASH = np.uint32(fnv1a(END_OF_LINE.encode()))
_FNV_PRIME = np.uint32(16777619)
_FNV_START = np.uint32(2166136261)
_SIGN_EXTENSION = np.uint32(0xFFFFFF00)
_NGRAM_FACTOR = np.uint64(116049371)
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
        Words of each document, int32 [n], and logits, float32 [n, K], NaN for a document without a word.
    """
    n = len(offsets) - 1
    most = int(offsets[-1] - offsets[0]) // 2 + n + 1
    hashes, starts, lengths = np.empty(most, np.uint32), np.empty(most, np.int64), np.empty(most, np.int32)
    first = _tokenise(data, offsets, hashes, starts, lengths)
    logits = np.empty((n, len(tables)), np.float32)
    for column, table in enumerate(tables):
        end = table.end_of_line_weight
        logits[:, column] = _logits(
            data, first, hashes, starts, lengths,
            table.words, table.word_offsets, table.word_hashes, table.slots, table.word_weights, table.bucket_weights,
            table.word_ngrams, end is not None, end or 0.0,
        )  # fmt: skip
    return np.diff(first).astype(np.int32), logits


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
            gap = separator_length(data, i, end)
            if gap > 0:
                i += gap
                continue
            start = i
            value = _FNV_START
            while i < end:
                b = data[i]
                if (b <= 0x20 or b >= 0xC2) and separator_length(data, i, end) > 0:
                    break
                wide = np.uint32(b) | _SIGN_EXTENSION if b >= 0x80 else np.uint32(b)
                value = np.uint32((value ^ wide) * _FNV_PRIME)
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
    value = _FNV_START
    for i in range(start, end):
        b = data[i]
        wide = np.uint32(b) | _SIGN_EXTENSION if b >= 0x80 else np.uint32(b)
        value = np.uint32((value ^ wide) * _FNV_PRIME)
    return value


@jit
def _find(
    data: NDArray[np.uint8],
    start: int,
    length: int,
    value: np.uint32,
    words: NDArray[np.uint8],
    word_offsets: NDArray[np.int64],
    word_hashes: NDArray[np.uint32],
    slots: NDArray[np.int32],
) -> int:
    """Return the word's number, -1 where it is not in the vocabulary; equal hashes are told apart by the bytes."""
    mask = len(slots) - 1
    at = np.int64(value) & mask
    while slots[at] >= 0:
        word = slots[at]
        if word_hashes[word] == value and word_offsets[word + 1] - word_offsets[word] == length:
            same = True
            for k in range(length):
                if data[start + k] != words[word_offsets[word] + k]:
                    same = False
                    break
            if same:
                return int(word)
        at = (at + 1) & mask
    return -1


@jit
def _logits(
    data: NDArray[np.uint8],
    first: NDArray[np.int64],
    hashes: NDArray[np.uint32],
    starts: NDArray[np.int64],
    lengths: NDArray[np.int32],
    words: NDArray[np.uint8],
    word_offsets: NDArray[np.int64],
    word_hashes: NDArray[np.uint32],
    slots: NDArray[np.int32],
    word_weights: NDArray[np.float32],
    bucket_weights: NDArray[np.float32],
    word_ngrams: int,
    has_end: bool,
    end_weight: float,
) -> NDArray[np.float32]:
    n = len(first) - 1
    out = np.empty(n, np.float32)
    buckets = np.uint64(len(bucket_weights))
    for document in range(n):
        a, b = first[document], first[document + 1]
        if a == b:
            out[document] = np.nan
            continue
        total, count = 0.0, 0
        for t in range(a, b):
            word = _find(data, starts[t], lengths[t], hashes[t], words, word_offsets, word_hashes, slots)
            if word >= 0:
                total += word_weights[word]
                count += 1
        if has_end:
            total += end_weight
            count += 1
        for t in range(a, b):
            value = np.uint64(np.int64(np.int32(hashes[t])))
            for u in range(t + 1, min(t + word_ngrams, b + 1)):
                following = hashes[u] if u < b else _END_HASH
                value = value * _NGRAM_FACTOR + np.uint64(np.int64(np.int32(following)))
                total += bucket_weights[value % buckets]
                count += 1
        out[document] = total / count if count > 0 else 0.0
    return out
