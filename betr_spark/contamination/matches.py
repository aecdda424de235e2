"""Matches: where consecutive words of a document are words of a test item.

Look-ups by hash only propose places. Every word of a match is compared byte by byte with the item's normalised text.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from betr_spark.contamination.anchors import FOLLOWS, block_of, filter_bits, tag_of
from betr_spark.contamination.index import NgramIndex
from betr_spark.contamination.items import NEW_LINE, SPACE
from betr_spark.kernels.case_folding import fold_case
from betr_spark.kernels.jit import jit
from betr_spark.kernels.shingle_tokens import token_marks
from betr_spark.kernels.shingles import SLICE_BYTES, ngram_hashes, token_hashes
from betr_spark.kernels.token_runs import end_of_slice, token_runs

_N_RECENT = 4096


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
    if len(index.n_words) == 0:
        return Matches(*np.empty((len(Matches._fields), 0), np.int64))
    return Matches(*np.unique(_find(data, offsets, index), axis=0).T)


@jit
def _find(data: NDArray[np.uint8], offsets: NDArray[np.int64], index: NgramIndex) -> NDArray[np.int64]:
    """Return the matches as rows, in no order; some may be repeated."""
    n, n_matches, a = len(offsets) - 1, 0, 0
    matches = np.empty((64, 7), np.int64)
    # The last match that begins at some word of a text: document, first byte in `texts`, word after it in the document, words.
    recent = np.full((_N_RECENT, 4), -1, np.int64)
    while a < n:
        b = end_of_slice(offsets, a, SLICE_BYTES)
        folded, part = fold_case(data[offsets[a] : offsets[b]]), offsets[a : b + 1] - offsets[a]
        marks, breaks = token_marks(folded, part)
        first, starts, lengths = token_runs(marks, breaks, part, 0)
        hashes = token_hashes(folded, 0, starts, lengths)
        for group in range(len(index.lengths)):
            length = index.lengths[group]
            anchors = ngram_hashes(hashes, length, length)
            blocks = index.filter[index.filter_bounds[group] : index.filter_bounds[group + 1]]
            document = 0
            for word in _in_filter(anchors, blocks):
                while first[document + 1] <= word:
                    document += 1
                bucket, tag = block_of(anchors[word], len(index.buckets) - 1), tag_of(anchors[word])
                for entry in range(index.buckets[bucket], index.buckets[bucket + 1]):
                    if index.tags[entry] & ~FOLLOWS != tag:
                        continue
                    place = np.int64(index.words[entry])
                    limit: Any = first[document + 1]
                    end, after = _equal_after(
                        folded, starts, lengths, word, min(word + length, limit), index.texts, place
                    )
                    if end - word < length:
                        continue
                    follows = index.tags[entry] & FOLLOWS != 0
                    lowest = max(first[document], word - 1) if follows else first[document]
                    begin, place = _equal_before(folded, starts, lengths, word, lowest, index.texts, place)
                    if follows and begin < word:
                        continue  # the match was found from the anchor one word earlier
                    if index.texts[after - 1] == SPACE:
                        end, _ = _equal_after(folded, starts, lengths, end, limit, index.texts, after)
                    text = np.searchsorted(index.bounds, place, side="right") - 1
                    if end - begin < min(np.int64(index.n_words[text]), index.n_max[0]):
                        continue
                    last = recent[place % _N_RECENT]
                    if last[0] == a + document and last[1] == place and begin < last[2] and end - begin <= last[3]:
                        continue
                    last[0], last[1], last[2], last[3] = a + document, place, end, end - begin
                    if n_matches == len(matches):
                        matches = np.concatenate((matches, np.empty_like(matches)))
                    match = matches[n_matches]
                    match[0], match[1], match[2] = a + document, begin - first[document], text
                    match[3], match[4] = np.sum(index.texts[index.bounds[text] : place] == SPACE), end - begin
                    match[5] = starts[begin] - part[document]
                    match[6] = starts[end - 1] + lengths[end - 1] - part[document]
                    n_matches += 1
        a = b
    return matches[:n_matches]


@jit
def _in_filter(anchors: NDArray[np.uint64], blocks: NDArray[np.uint64]) -> NDArray[np.int32]:
    """Return the positions of the anchors that the Bloom filter does not exclude."""
    positions, n, n_blocks = np.empty(len(anchors) + 1, np.int32), np.uint64(0), len(blocks)
    block_bits = np.empty(len(anchors), np.uint64)
    for word in range(len(anchors)):  # in a loop of its own, so that the cache misses of many anchors overlap
        block_bits[word] = blocks[block_of(anchors[word], n_blocks)]
    for word in range(len(anchors)):  # without a branch; surplus entries are overwritten
        bits = filter_bits(anchors[word])
        positions[n] = word
        n += np.uint64(block_bits[word] & bits == bits)
    return positions[: np.int64(n)]


@jit
def _equal_after(
    folded: NDArray[np.uint8],
    starts: NDArray[np.int32],
    lengths: NDArray[np.int32],
    word: int,
    end: int,
    texts: NDArray[np.uint8],
    place: Any,
) -> tuple[int, Any]:
    """Return the word after the words from `word` on that equal those of a text from byte `place` on; and that word's place."""
    while word < end:
        length, start = np.int64(lengths[word]), np.int64(starts[word])
        after = place + length
        if after >= len(texts) or texts[after] > SPACE:
            break
        k = 0
        while k < length and texts[place + k] == folded[start + k]:
            k += 1
        if k < length:
            break
        word, place = word + 1, after + 1
        if texts[after] == NEW_LINE:
            break
    return word, place


@jit
def _equal_before(
    folded: NDArray[np.uint8],
    starts: NDArray[np.int32],
    lengths: NDArray[np.int32],
    word: int,
    limit: int,
    texts: NDArray[np.uint8],
    place: Any,
) -> tuple[int, Any]:
    """Return the first of the words before `word`, from `limit` on, that equal those of a text before `place`; its place."""
    while word > limit and texts[place - 1] == SPACE:
        length, start = np.int64(lengths[word - 1]), np.int64(starts[word - 1])
        before = place - 1 - length
        if before < 1 or texts[before - 1] > SPACE:
            break
        k = 0
        while k < length and texts[before + k] == folded[start + k]:
            k += 1
        if k < length:
            break
        word, place = word - 1, before
    return word, place
