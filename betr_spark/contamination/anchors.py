"""Anchors: the words by which an n-gram of an item is found, and their bits in a Bloom filter.

The anchor of an n-gram is `length` consecutive words of it: the first ones, unless more than MAX_COPIES places of the items
have these, then the next ones that are rarer. So a phrase that thousands of items share does not cost thousands of comparisons,
and an item that begins with it is found by what follows. If all anchors of an n-gram are that common, its first MAX_COPIES
places are indexed. The others are left out, and found only as parts of a longer match.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from betr_spark.kernels.jit import jit
from betr_spark.kernels.shingle_tokens import token_marks
from betr_spark.kernels.shingles import SLICE_BYTES, ngram_hashes, token_hashes
from betr_spark.kernels.token_runs import end_of_slice, token_runs

MAX_COPIES = 16
FOLLOWS = np.uint8(
    0x80
)  # of a tag: the anchor one word earlier is indexed too; without meaning at the first word of a text
_ANCHORS_PER_BLOCK = 4
_1, _6, _24, _32, _LOW_6, _LOW_7 = (np.uint64(n) for n in (1, 6, 24, 32, 0x3F, 0x7F))


class Anchors(NamedTuple):
    """Anchors of some texts in the order of their hashes: hash, first byte of the first word, FOLLOWS or 0."""

    hashes: NDArray[np.uint64]
    words: NDArray[np.uint32]
    follows: NDArray[np.uint8]
    n_left_out: int


def choose_anchors(
    texts: NDArray[np.uint8], bounds: NDArray[np.int64], n_words: NDArray[np.int64], length: int, n_max: int
) -> Anchors:
    """Choose the anchors of `length` words of texts that have at least as many."""
    hashes, words = _windows(texts, bounds, n_words, length)
    order = np.argsort(hashes, kind="stable")
    sorted_hashes = hashes[order]
    firsts = np.flatnonzero(np.diff(sorted_hashes, prepend=~sorted_hashes[:1]))
    copies = np.diff(firsts, append=len(order))
    common, first_copies = np.empty(len(order), np.bool_), np.empty(len(order), np.bool_)
    common[order] = np.repeat(copies > MAX_COPIES, copies)
    first_copies[order] = np.arange(len(order)) - np.repeat(firsts, copies) < MAX_COPIES
    chosen, n_left_out = _choose(n_words, length, n_max, common, first_copies)
    follows = np.zeros(len(order), np.uint8)
    follows[1:][chosen[:-1]] = FOLLOWS
    order = order[chosen[order]]
    return Anchors(hashes[order], words[order], follows[order], int(n_left_out))


@jit
def _windows(
    texts: NDArray[np.uint8], bounds: NDArray[np.int64], n_words: NDArray[np.int64], length: int
) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:
    """Hash every `length` words of each text; also return the first byte of the first word."""
    n_windows = np.sum(n_words) - len(n_words) * (length - 1)
    hashes, words = np.empty(n_windows, np.uint64), np.empty(n_windows, np.uint32)
    a, at = 0, 0
    while a < len(n_words):
        b = end_of_slice(bounds, a, SLICE_BYTES)
        marks, breaks = token_marks(texts, bounds[a : b + 1])
        first, starts, lengths = token_runs(marks, breaks, bounds[a : b + 1], 0)
        windows = ngram_hashes(token_hashes(texts, bounds[a], starts, lengths), length, length)
        for text in range(b - a):
            for word in range(first[text], first[text + 1] - length + 1):
                hashes[at], words[at] = windows[word], bounds[a] + starts[word]
                at += 1
        a = b
    return hashes, words


@jit
def _choose(
    n_words: NDArray[np.int64],
    length: int,
    n_max: int,
    common: NDArray[np.bool_],
    first_copies: NDArray[np.bool_],
) -> tuple[NDArray[np.bool_], int]:
    """Mark the anchors to index among all windows of `length` words; also count the n-grams without one."""
    chosen, n_left_out, start = np.zeros(len(common), np.bool_), 0, 0
    for text in range(len(n_words)):
        n = min(n_words[text], n_max)
        for ngram in range(start, start + n_words[text] - n + 1):
            anchor = ngram
            while common[anchor] and anchor < ngram + n - length:
                anchor += 1
            if common[anchor]:
                anchor = ngram
            if not common[anchor] or first_copies[anchor]:
                chosen[anchor] = True
            else:
                n_left_out += 1
        start += n_words[text] - length + 1
    return chosen, n_left_out


@jit
def filter_of(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Build the Bloom filter of anchors: four bits in the block of each."""
    blocks = np.zeros(len(hashes) // _ANCHORS_PER_BLOCK + 1, np.uint64)
    for anchor in hashes:
        blocks[block_of(anchor, len(blocks))] |= filter_bits(anchor)
    return blocks


@jit
def block_of(anchor: Any, n_blocks: int) -> Any:
    """Return the block or bucket of an anchor or of an array of them: the upper half of the hash, scaled to `n_blocks`."""
    return ((anchor >> _32) * np.uint64(n_blocks)) >> _32


@jit
def filter_bits(anchor: np.uint64) -> np.uint64:
    """Return the four bits of an anchor in its block, from the lower 24 bits of its hash."""
    bits = _1 << (anchor & _LOW_6)
    for _ in range(3):
        anchor >>= _6
        bits |= _1 << (anchor & _LOW_6)
    return bits


@jit
def tag_of(anchor: Any) -> Any:
    """Return the seven bits that are in the tag of an anchor or of an array of them."""
    return (anchor >> _24) & _LOW_7
