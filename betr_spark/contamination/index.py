"""The index of the items' n-grams: where the words of a document may be words of an item.

An item of L words has n-grams of n = min(L, n_max) words; a document is compared with it if they share one. An n-gram is found
by an anchor of n_min words (`anchors`). The question of a short item may have fewer words than n_min; its anchor has the
largest power of two of words that it has, because each length of anchors costs a look-up for each word of the documents.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from betr_spark.contamination.anchors import block_of, choose_anchors, filter_of, tag_of
from betr_spark.contamination.items import Item, Members, distinct_texts
from betr_spark.errors import DataError

N_MIN, N_MAX = 8, 13
_MAX_BYTES = 2**32
_ANCHORS_PER_BUCKET = 2


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
    powers = 2 ** np.floor(np.log2(distinct.n_words)).astype(np.int64)
    by_length = np.where(distinct.n_words < n_min, powers, n_min)
    lengths = np.unique(by_length)
    filters, hashes, words, follows, n_left_out = [], [], [], [], 0
    for length in lengths:
        a, b = np.searchsorted(by_length, [length, length + 1])
        group = choose_anchors(distinct.texts, distinct.bounds[a : b + 1], distinct.n_words[a:b], int(length), n_max)
        filters.append(filter_of(group.hashes))
        hashes.append(group.hashes)
        words.append(group.words)
        follows.append(group.follows)
        n_left_out += group.n_left_out
    all_hashes = np.concatenate([np.empty(0, np.uint64), *hashes])
    n_buckets = len(all_hashes) // _ANCHORS_PER_BUCKET + 1
    buckets = block_of(all_hashes, n_buckets)
    order = np.argsort(buckets, kind="stable")
    tags = tag_of(all_hashes).astype(np.uint8) | np.concatenate([np.empty(0, np.uint8), *follows])
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
    for array in ngrams:  # as those of a mapped file are: Numba compiles for arrays that can be written to apart
        array.flags.writeable = False
    n_ngrams = int((distinct.n_words - np.minimum(distinct.n_words, n_max) + 1).sum())
    return Index(
        ngrams, distinct.members, benchmarks, n_ngrams, n_left_out, distinct.n_without_words, distinct.n_without_answer
    )
