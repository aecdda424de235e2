"""Percentiles of scores, weighted by tokens: what scores of different kinds have in common."""

from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from betr_spark.ordering import descending_key

_LOW_BITS = 42  # of a key, that a bin leaves out; a bin is a 1,024th of a power of two
_SIGN = np.uint64(1 << 63)


class Bins(NamedTuple):
    """A histogram of a score over the tokens, the highest scores first; b bins that have documents.

    Attributes:
        number: int64 [b].
        tokens: int64 [b].
        low: int64 [b], position in the bin of its highest score, in [0, 2**42).
        high: int64 [b], of its lowest score.
    """

    number: NDArray[np.int64]
    tokens: NDArray[np.int64]
    low: NDArray[np.int64]
    high: NDArray[np.int64]

    @classmethod
    def of(cls, scores: NDArray[np.float64], n_tokens: NDArray[np.int64]) -> Self:
        """Count the tokens of documents.

        Args:
            scores: float64 [n]; documents with NaN do not count.
            n_tokens: int64 [n].
        """
        has_score = ~np.isnan(scores)
        all_numbers, low = _bin_and_position(scores[has_score])
        number, row = np.unique(all_numbers, return_inverse=True)
        tokens, first, last = (np.zeros(len(number), np.int64) for _ in range(3))
        first += 1 << _LOW_BITS
        np.add.at(tokens, row, n_tokens[has_score])
        np.minimum.at(first, row, low)
        np.maximum.at(last, row, low)
        return cls(number, tokens, first, last)


class Percentiles:
    """Positions of documents by a score: the share of the tokens that have a higher score."""

    def __init__(self, bins: Bins) -> None:
        """Sum up a histogram, whose bins may have any order."""
        order = np.argsort(bins.number)
        self._bins = Bins(*(column[order] for column in bins))
        self._before = np.concatenate([[0], np.cumsum(self._bins.tokens)]).astype(np.int64)

    def positions(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Position of each score: 0 is the best one, 1 the worst.

        Equal scores have the position of their middle. Of different scores in one bin the positions are interpolated, so a
        higher score has a lower position, or the same one where float64 cannot tell them apart.

        Args:
            scores: float64 [n], of any documents; NaN where a document has no score.

        Returns:
            float64 [n], in [0, 1]; NaN where the score is.
        """
        has_score = ~np.isnan(scores)
        number, low = _bin_and_position(np.where(has_score, scores, 0.0))
        bins = Bins(*(np.append(column, 0) for column in self._bins))  # one more for scores below all bins
        at = np.searchsorted(self._bins.number, number)
        in_bin = np.where(bins.number[at] == number, bins.tokens[at], 0)
        part = (low - bins.low[at] + 0.5) / (bins.high[at] - bins.low[at] + 1)
        positions = (self._before[at] + np.clip(part, 0.0, 1.0) * in_bin) / max(1, int(self._before[-1]))
        return np.where(has_score, positions, np.nan)


def _bin_and_position(scores: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    keys = descending_key(scores).view(np.uint64) ^ _SIGN
    low = keys & np.uint64((1 << _LOW_BITS) - 1)
    return (keys >> np.uint64(_LOW_BITS)).astype(np.int64), low.astype(np.int64)
