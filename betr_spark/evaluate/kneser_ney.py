"""Interpolated modified Kneser-Ney n-gram model (Chen and Goodman 1998, TR-10-98, section 3) on arrays of token ids.

An n-gram is one uint64 with 16 bits for each token, so it has up to four tokens, and the vocabulary up to 65,536. N-grams are
counted by a sort. A document is BOUNDARY, its tokens, BOUNDARY; n-grams do not cross documents. Lower orders count distinct
predecessors. N-grams that begin with BOUNDARY have no predecessor, so their occurrences are counted (as in KenLM).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BOUNDARY = 0
MAX_ORDER = 4
_BITS = np.uint64(16)
_NO_EVIDENCE = 0.5  # discount if there are too few n-grams for an estimate


class _Order(NamedTuple):
    """N-grams of one length: ascending keys with discounted counts; contexts with their sum of counts and left-over mass."""

    grams: NDArray[np.uint64]
    discounted: NDArray[np.float64]
    contexts: NDArray[np.uint64]
    totals: NDArray[np.float64]
    left_over: NDArray[np.float64]


class KneserNey:
    """The n-gram model; `log2_probabilities` evaluates documents with it."""

    def __init__(self, documents: Sequence[NDArray[np.uint16]], *, order: int, n_vocabulary: int) -> None:
        """Count the n-grams of the documents.

        Args:
            documents: token ids of each, without BOUNDARY, all below n_vocabulary.
            order: length of the longest n-gram, 1 to 4.
            n_vocabulary: number of token ids, BOUNDARY included; each has a probability above 0.

        Raises:
            ValueError: `order` is not in 1 to 4.
        """
        if not 1 <= order <= MAX_ORDER:
            raise ValueError(f"order: an integer from 1 to {MAX_ORDER} is required, found {order}")
        self._n_vocabulary = n_vocabulary
        stream, first = _joined(documents)
        self._orders: list[_Order] = []
        grams, counts = np.unique(_windows(stream, first, order), return_counts=True)
        counts_by_length = [(grams, counts)]
        for length in range(order - 1, 0, -1):
            suffixes = grams & _mask(length)
            starting = _windows(stream, first, length)
            starting = (
                starting[(starting >> (_BITS * np.uint64(length - 1))) == BOUNDARY] if length > 1 else starting[:0]
            )
            grams, counts = np.unique(np.concatenate([suffixes, starting]), return_counts=True)
            counts_by_length.append((grams, counts))
        for grams, counts in reversed(counts_by_length):
            if len(grams):  # empty if every document is shorter
                self._orders.append(_order(grams, counts))

    def log2_probabilities(self, documents: Sequence[NDArray[np.uint16]]) -> list[NDArray[np.float64]]:
        """Base-2 logarithms of the probability of each document's tokens, without its closing BOUNDARY."""
        stream, first = _joined(documents)
        document = np.repeat(np.arange(len(documents)), np.diff(first))
        at = np.arange(len(stream)) - first[document]
        probability = np.full(len(stream), 1 / self._n_vocabulary)
        for length, ngrams in enumerate(self._orders, start=1):
            reached = np.flatnonzero(at >= length - 1) if length > 1 else np.arange(len(stream))
            key = np.zeros(len(reached), np.uint64)
            for back in range(length - 1, -1, -1):
                key = (key << _BITS) | stream[reached - back].astype(np.uint64)
            context, known = _find(ngrams.contexts, key >> _BITS)
            gram, seen = _find(ngrams.grams, key)
            lower = probability[reached]
            mass = (
                np.where(seen, ngrams.discounted[gram], 0.0) / ngrams.totals[context]
                + ngrams.left_over[context] * lower
            )
            probability[reached] = np.where(known, mass, lower)
        logarithms = np.log2(probability)
        return [logarithms[a + 1 : b - 1] for a, b in zip(first[:-1], first[1:], strict=True)]


def _joined(documents: Sequence[NDArray[np.uint16]]) -> tuple[NDArray[np.uint16], NDArray[np.int64]]:
    """Concatenate documents with a BOUNDARY before and after each; also return the start of each, [n + 1]."""
    edge = np.full(1, BOUNDARY, np.uint16)
    parts = [part for document in documents for part in (edge, document, edge)]
    first = np.cumsum([0, *(len(document) + 2 for document in documents)])
    return np.concatenate([np.empty(0, np.uint16), *parts]), first.astype(np.int64)


def _windows(stream: NDArray[np.uint16], first: NDArray[np.int64], length: int) -> NDArray[np.uint64]:
    """All n-grams of a length, except the opening BOUNDARY alone, which is never predicted."""
    key = np.zeros(max(0, len(stream) - length + 1), np.uint64)
    for position in range(length):
        key = (key << _BITS) | stream[position : position + len(key)].astype(np.uint64)
    whole = np.ones(len(key), bool)
    for back in range(length - 1):  # windows that begin less than `length` tokens before the end of their document
        ends = first[1:] - 1 - back
        whole[ends[(ends >= 0) & (ends < len(key))]] = False
    if length == 1:
        whole[first[:-1]] = False
    return key[whole]


def _mask(length: int) -> np.uint64:
    return np.uint64((1 << (16 * length)) - 1)


def _order(grams: NDArray[np.uint64], counts: NDArray[np.int64]) -> _Order:
    discount = np.append(0.0, _discounts(counts))
    class_ = np.minimum(counts, 3)
    contexts, start = np.unique(grams >> _BITS, return_index=True)
    discounts = discount[class_]
    totals = np.add.reduceat(counts, start).astype(np.float64)
    left_over = np.add.reduceat(discounts, start) / totals
    return _Order(grams, counts - discounts, contexts, totals, left_over)


def _discounts(counts: NDArray[np.int64]) -> list[float]:
    """Discounts of n-grams seen once, twice, and three times or more."""
    n = [int((counts == seen).sum()) for seen in range(1, 5)]
    if not n[0] or not n[1]:
        return [_NO_EVIDENCE] * 3
    share = n[0] / (n[0] + 2 * n[1])
    estimates = [
        seen - (seen + 1) * share * n[seen] / n[seen - 1] if n[seen - 1] else _NO_EVIDENCE for seen in (1, 2, 3)
    ]
    return [value if 0 < value <= seen else _NO_EVIDENCE for seen, value in zip((1, 2, 3), estimates, strict=True)]


def _find(keys: NDArray[np.uint64], queries: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Position of each query in the sorted keys, and whether the keys contain it."""
    position = np.minimum(np.searchsorted(keys, queries), len(keys) - 1)
    return position, keys[position] == queries
