"""The index of the items' n-grams: where the words of a document may be words of an item.

An item of L words has n-grams of n = min(L, n_max) words; a document is compared with it if they share one. An n-gram is found
by its anchor, some min(L, n_min) of its words: the first ones, unless more than MAX_COPIES places of the items have these, then
the next ones that are rarer. So a phrase that thousands of items share costs no look-up of thousands of places, and an item
that begins with it is found by what follows. If all anchors of an n-gram are that common, its first MAX_COPIES places are
indexed, and the others are counted in `Index.n_left_out`: they are found only as parts of a longer match.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from betr_spark.contamination.items import Item, Members, distinct_texts
from betr_spark.errors import DataError
from betr_spark.kernels.jit import jit
from betr_spark.kernels.shingle_tokens import token_marks
from betr_spark.kernels.shingles import SLICE_BYTES, ngram_hashes, token_hashes
from betr_spark.kernels.token_runs import end_of_slice, token_runs

N_MIN, N_MAX = 8, 13
MAX_COPIES = 16
FOLLOWS = np.uint8(0x80)  # of a tag: the anchor one word earlier in the item is indexed too
_MAX_BYTES = 2**32
_ANCHORS_PER_BLOCK, _ANCHORS_PER_BUCKET = 4, 2
_1, _6, _32, _LOW_32, _LOW_6 = (np.uint64(n) for n in (1, 6, 32, 0xFFFFFFFF, 63))
_24, _LOW_7 = np.uint64(24), np.uint64(0x7F)


class NgramIndex(NamedTuple):
    """The arrays that documents are compared with; anchors are grouped by their number of words.

    Attributes:
        texts: normalised texts of the items, uint8; each begins with a line break, and one more follows the last.
        bounds: position of each text's line break in `texts`, int64 [n + 1].
        n_words: words of each text, int32 [n].
        n_max: words of an n-gram of a text that has as many, int64 [1].
        lengths: words of the anchors of each group, ascending, int64 [groups].
        filter_bounds: the blocks of each group in `filter`, int64 [groups + 1].
        filter: Bloom filters of the anchors in blocks of 64 bits, uint64.
        buckets: position of each bucket's first anchor, uint32 [buckets + 1].
        words: first byte, in `texts`, of each anchor's first word, uint32 [anchors].
        tags: seven bits of each anchor's hash, and FOLLOWS, uint8 [anchors].
    """

    texts: NDArray[np.uint8]
    bounds: NDArray[np.int64]
    n_words: NDArray[np.int32]
    n_max: NDArray[np.int64]
    lengths: NDArray[np.int64]
    filter_bounds: NDArray[np.int64]
    filter: NDArray[np.uint64]
    buckets: NDArray[np.uint32]
    words: NDArray[np.uint32]
    tags: NDArray[np.uint8]

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays that look-ups read, so without `texts`, which are read where a document is like an item."""
        return sum(array.nbytes for array in self[1:])


class Index(NamedTuple):
    """The index of all items, and what it does not cover.

    Attributes:
        ngrams: the arrays of the n-grams.
        members: the items of each text.
        benchmarks: names of the benchmarks, sorted.
        n_ngrams: n-grams of the texts, repeated ones included.
        n_left_out: n-grams that are not indexed because they are too common.
        n_without_words: items that have no word.
        n_without_answer: items of fewer than `n_min` words without a question and an answer, which are not looked for.
    """

    ngrams: NgramIndex
    members: Members
    benchmarks: tuple[str, ...]
    n_ngrams: int
    n_left_out: int
    n_without_words: int
    n_without_answer: int


def build_index(items: Sequence[Item], *, n_min: int = N_MIN, n_max: int = N_MAX) -> Index:
    """Index the n-grams of test items. Equal items in equal order give equal arrays on every machine.

    Args:
        items: test items of all benchmarks.
        n_min: an item of fewer words is short: it is found by its whole question and answer.
        n_max: words of the longest n-gram.

    Raises:
        ValueError: not 1 <= n_min <= n_max.
        DataError: the normalised texts have 4 GiB or more.
    """
    if not 1 <= n_min <= n_max:
        raise ValueError(f"n_min, n_max: found {n_min}, {n_max}; 1 <= n_min <= n_max is required")
    benchmarks = tuple(sorted({item.benchmark for item in items}))
    distinct = distinct_texts(items, benchmarks, n_min=n_min)
    if len(distinct.texts) >= _MAX_BYTES:
        raise DataError(
            f"test items: found {len(distinct.texts):,} bytes of words; fewer than {_MAX_BYTES:,} are required"
        )
    by_length = np.minimum(distinct.n_words, n_min)
    lengths = np.unique(by_length)
    filters, hashes, words, follows, n_left_out = [], [], [], [], 0
    for length in lengths:
        a, b = np.searchsorted(by_length, [length, length + 1])
        group = _anchors(distinct.texts, distinct.bounds[a : b + 1], distinct.n_words[a:b], int(length), n_max)
        filters.append(_filter_of(group.hashes))
        hashes.append(group.hashes)
        words.append(group.words)
        follows.append(group.follows)
        n_left_out += group.n_left_out
    all_hashes = np.concatenate([np.empty(0, np.uint64), *hashes])
    n_buckets = len(all_hashes) // _ANCHORS_PER_BUCKET + 1
    buckets = ((all_hashes >> _32) * np.uint64(n_buckets)) >> _32
    order = np.argsort(buckets, kind="stable")
    tags = ((all_hashes >> _24) & _LOW_7).astype(np.uint8) | np.concatenate([np.empty(0, np.uint8), *follows])
    counts = np.bincount(buckets.astype(np.int64), minlength=n_buckets)
    ngrams = NgramIndex(
        distinct.texts,
        distinct.bounds,
        distinct.n_words.astype(np.int32),
        np.array([n_max], np.int64),
        lengths,
        np.cumsum([0, *map(len, filters)]).astype(np.int64),
        np.concatenate([np.empty(0, np.uint64), *filters]),
        np.concatenate([[0], np.cumsum(counts)]).astype(np.uint32),
        np.concatenate([np.empty(0, np.uint32), *words])[order],
        tags[order],
    )
    n_ngrams = int((distinct.n_words - np.minimum(distinct.n_words, n_max) + 1).sum())
    return Index(
        ngrams, distinct.members, benchmarks, n_ngrams, n_left_out, distinct.n_without_words, distinct.n_without_answer
    )


class _Anchors(NamedTuple):
    """Anchors of some texts in the order of their hashes: hash, first byte of the first word, FOLLOWS or 0."""

    hashes: NDArray[np.uint64]
    words: NDArray[np.uint32]
    follows: NDArray[np.uint8]
    n_left_out: int


def _anchors(
    texts: NDArray[np.uint8], bounds: NDArray[np.int64], n_words: NDArray[np.int64], length: int, n_max: int
) -> _Anchors:
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
    follows[np.cumsum(n_words - length + 1)[:-1]] = 0  # the first word of the next text
    order = order[chosen[order]]
    return _Anchors(hashes[order], words[order], follows[order], int(n_left_out))


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
def _filter_of(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Build the Bloom filter of anchors: four bits in the block of each."""
    blocks = np.zeros(len(hashes) // _ANCHORS_PER_BLOCK + 1, np.uint64)
    for anchor in hashes:
        blocks[block_of(anchor, len(blocks))] |= filter_bits(anchor)
    return blocks


@jit
def block_of(anchor: np.uint64, n_blocks: int) -> np.uint64:
    """Return the block of an anchor: the upper half of its hash, scaled to the number of blocks. Also for buckets."""
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
def tag_of(anchor: np.uint64) -> np.uint8:
    """Return the seven bits of an anchor's hash that are in its tag."""
    return np.uint8((anchor >> _24) & _LOW_7)
