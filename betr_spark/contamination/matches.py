"""Matches: where consecutive words of a document are words of a test item.

Look-ups by hash only propose places. Every word of a match is compared byte by byte with the item's normalised text.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from betr_spark.contamination.anchors import FOLLOWS, block_of, filter_bits, tag_of
from betr_spark.contamination.index import NgramIndex
from betr_spark.contamination.items import NEW_LINE, SPACE, Words, words_of_slice
from betr_spark.kernels.jit import jit
from betr_spark.kernels.minhash import MinHasher, MinHashes, fill_signatures
from betr_spark.kernels.shingles import SLICE_BYTES, ngram_hashes, token_hashes
from betr_spark.kernels.token_runs import end_of_slice

_N_COLUMNS, _N_RECENT = 7, 4096


class Matches(NamedTuple):
    """Maximal runs of equal words of documents and texts of the index, in order of document and position.

    Attributes:
        document: position of the document, int64 [n].
        word: first word of the run in the document, int64 [n].
        text: position of the text in the index, int64 [n].
        text_word: first word of the run in the text, int64 [n].
        n_words: words of the run, int64 [n].
        start: first byte of the run in the document, int64 [n].
        end: byte after the run in the document, int64 [n].
    """

    document: NDArray[np.int64]
    word: NDArray[np.int64]
    text: NDArray[np.int64]
    text_word: NDArray[np.int64]
    n_words: NDArray[np.int64]
    start: NDArray[np.int64]
    end: NDArray[np.int64]


def find_matches(data: NDArray[np.uint8], offsets: NDArray[np.int64], index: NgramIndex) -> Matches:
    """Find the runs that hold at least one whole n-gram of a text.

    A run does not cross the bounds of a document. If runs of a document begin at the same word of a text and overlap in the
    document, as where words repeat, only those that are longer than the runs before them are certain to be returned.

    Args:
        data: bytes of all documents, uint8.
        offsets: int64 [n + 1].
        index: the n-grams of the test items.
    """
    no_signatures, no_shingles = np.empty((0, 0), np.uint32), np.empty(0, np.int32)
    return _as_matches(_find(data, offsets, index, 0, 0, no_signatures, no_shingles))


def sketch_and_find_matches(
    data: NDArray[np.uint8], offsets: NDArray[np.int64], hasher: MinHasher, index: NgramIndex
) -> tuple[MinHashes, Matches]:
    """Return what `hasher` and `find_matches` return, at less cost: documents are divided into words once."""
    signatures, n_shingles = hasher.no_signatures(len(offsets) - 1), np.zeros(len(offsets) - 1, np.int32)
    rows = _find(data, offsets, index, hasher.ngram, hasher.seed, signatures, n_shingles)
    return MinHashes(signatures, n_shingles), _as_matches(rows)


def _as_matches(rows: NDArray[np.int64]) -> Matches:
    return Matches(*np.unique(rows, axis=0).T)


@jit
def _find(
    data: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    index: NgramIndex,
    shingle: int,
    seed: int,
    signatures: NDArray[np.uint32],
    n_shingles: NDArray[np.int32],
) -> NDArray[np.int64]:
    """Return the matches as rows, in no order; some may be repeated. Also sketch shingles of `shingle` words unless it is 0."""
    n, a, n_matches, matches = len(offsets) - 1, 0, 0, np.empty((64, _N_COLUMNS), np.int64)
    # The last match that begins at some word of a text: document, first byte in `texts`, word after it in the slice, words, and
    # first byte of the text's next word.
    recent = np.full((_N_RECENT, 5), -1, np.int64)
    while a < n:
        b = end_of_slice(offsets, a, SLICE_BYTES)
        words = words_of_slice(data, offsets[a : b + 1])
        hashes = token_hashes(words.folded, 0, words.starts, words.lengths)
        if shingle > 0:  # in shingles, characters that are not ASCII have their case
            of_text = token_hashes(data, offsets[a], words.starts, words.lengths) if words.changed else hashes
            shingles = ngram_hashes(of_text, shingle, seed)
            fill_signatures(words.first, shingles, shingle, signatures[a:b], n_shingles[a:b])
        for group in range(len(index.lengths)):
            for match in _of_slice(words, hashes, a, index, group, recent):
                if n_matches == len(matches):
                    matches = np.concatenate((matches, np.empty_like(matches)))
                matches[n_matches] = match
                n_matches += 1
        a = b
    return matches[:n_matches]


@jit
def _of_slice(
    words: Words, hashes: NDArray[np.uint64], a: int, index: NgramIndex, group: int, recent: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the matches of a slice, whose first document is document a, with the texts of a group of anchors."""
    length = index.lengths[group]
    anchors = ngram_hashes(hashes, length, length)
    blocks = index.filter[index.filter_bounds[group] : index.filter_bounds[group + 1]]
    document, n_matches, matches = 0, 0, np.empty((16, _N_COLUMNS), np.int64)
    for word in _in_filter(anchors, blocks):
        while words.first[document + 1] <= word:
            document += 1
        first, limit = words.first[document], words.first[document + 1]
        bucket, tag = block_of(anchors[word], len(index.buckets) - 1), tag_of(anchors[word])
        for entry in range(index.buckets[bucket], index.buckets[bucket + 1]):
            if index.tags[entry] & ~FOLLOWS != tag:
                continue
            place = np.int64(index.words[entry])
            end, after = _equal_after(words, word, min(word + length, limit), index.texts, place)
            if end - word < length:
                continue
            follows = index.tags[entry] & FOLLOWS != 0
            begin, place = _equal_before(words, word, max(first, word - 1) if follows else first, index.texts, place)
            if follows and begin < word:
                continue  # the match was found from the anchor one word earlier
            last = recent[place % _N_RECENT]
            if last[0] == a + document and last[1] == place and begin < last[2]:
                # Only with the word after those of the last match is this one longer. Without this test, a long repetition in a
                # text and in a document would cost the product of their lengths.
                ahead = begin + last[3]
                if index.texts[last[4] - 1] == NEW_LINE or ahead >= limit:
                    continue
                if _equal_after(words, ahead, ahead + 1, index.texts, last[4])[0] == ahead:
                    continue
            if index.texts[after - 1] == SPACE:
                end, after = _equal_after(words, end, limit, index.texts, after)
            text = np.searchsorted(index.bounds, place, side="right") - 1
            if end - begin < min(np.int64(index.n_words[text]), index.n_max[0]):
                continue
            if last[0] == a + document and last[1] == place and begin < last[2] and end - begin <= last[3]:
                continue
            last[0], last[1], last[2], last[3], last[4] = a + document, place, end, end - begin, after
            if n_matches == len(matches):
                matches = np.concatenate((matches, np.empty_like(matches)))
            match = matches[n_matches]
            match[0], match[1], match[2] = a + document, begin - first, text
            match[3], match[4] = np.sum(index.texts[index.bounds[text] : place] == SPACE), end - begin
            match[5] = words.starts[begin] - words.bounds[document]
            match[6] = words.starts[end - 1] + words.lengths[end - 1] - words.bounds[document]
            n_matches += 1
    return matches[:n_matches]


@jit
def _in_filter(anchors: NDArray[np.uint64], blocks: NDArray[np.uint64]) -> NDArray[np.int32]:
    """Return the positions of the anchors that the Bloom filter does not exclude."""
    positions, n, n_blocks = np.empty(len(anchors), np.int32), 0, len(blocks)
    bits = np.empty(len(anchors), np.uint64)
    for word in range(len(anchors)):  # in a loop of its own, so that the cache misses of many anchors overlap
        bits[word] = blocks[block_of(anchors[word], n_blocks)]
    for word in range(len(anchors)):  # the compiler vectorises this loop
        bits[word] = filter_bits(anchors[word]) & ~bits[word]
    for word in range(len(anchors)):
        if bits[word] == 0:
            positions[n] = word
            n += 1
    return positions[:n]


@jit
def _equal_after(words: Words, word: int, limit: int, texts: NDArray[np.uint8], place: Any) -> tuple[int, Any]:
    """Compare the words from `word` to `limit` with those of a text from byte `place` on.

    Returns:
        The first word that differs, or whose word in the text does not exist; and the byte after the equal words and a space.
    """
    while word < limit:
        length, start = np.int64(words.lengths[word]), np.int64(words.starts[word])
        after = place + length
        if after >= len(texts) or texts[after] > SPACE:
            break
        k = 0
        while k < length and texts[place + k] == words.folded[start + k]:
            k += 1
        if k < length:
            break
        word, place = word + 1, after + 1
        if texts[after] == NEW_LINE:
            break
    return word, place


@jit
def _equal_before(words: Words, word: int, first: int, texts: NDArray[np.uint8], place: Any) -> tuple[int, Any]:
    """Compare the words before `word`, down to `first`, with those of a text before byte `place`.

    Returns:
        The first of the equal words, and its first byte in the text.
    """
    while word > first and texts[place - 1] == SPACE:
        length, start = np.int64(words.lengths[word - 1]), np.int64(words.starts[word - 1])
        before = place - 1 - length
        if before < 1 or texts[before - 1] > SPACE:
            break
        k = 0
        while k < length and texts[before + k] == words.folded[start + k]:
            k += 1
        if k < length:
            break
        word, place = word - 1, before
    return word, place
