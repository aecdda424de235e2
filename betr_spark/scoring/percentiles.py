"""Percentiles of scores, weighted by tokens: what scores of different kinds have in common."""

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from betr_spark.ordering import descending_key

# Low bits of a key that bins leave out; the first bins are 1,024ths of a power of two. At most 1,024 bins of a level are split.
SHIFTS = (42, 32, 22, 12, 0)
_FINEST_SHARE = 1024  # a bin of more than one in so many tokens is split
_SIGN = np.uint64(1 << 63)


class Bins(NamedTuple):
    """A histogram of a score over the tokens; b bins that have documents.

    Attributes:
        number: int64 [b].
        tokens: int64 [b].
        first: int64 [b], key of its highest score; keys are those of `ordering.descending_key`.
        last: int64 [b], key of its lowest score.
    """

    number: NDArray[np.int64]
    tokens: NDArray[np.int64]
    first: NDArray[np.int64]
    last: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        scores: NDArray[np.float64],
        n_tokens: NDArray[np.int64],
        *,
        level: int = 0,
        within: NDArray[np.int64] | None = None,
    ) -> Self:
        """Count the tokens of documents.

        Args:
            scores: float64 [n]; documents with NaN do not count.
            n_tokens: int64 [n].
            level: of SHIFTS.
            within: numbers of bins of the level before; only their documents count.
        """
        counts = ~np.isnan(scores)
        keys = descending_key(np.where(counts, scores, 0.0))
        if within is not None:
            counts &= np.isin(_numbers(keys, SHIFTS[level - 1]), within)
        number, row = np.unique(_numbers(keys[counts], SHIFTS[level]), return_inverse=True)
        tokens = np.zeros(len(number), np.int64)
        first, last = np.full(len(number), 2**63 - 1, np.int64), np.full(len(number), -(2**63), np.int64)
        np.add.at(tokens, row, n_tokens[counts])
        np.minimum.at(first, row, keys[counts])
        np.maximum.at(last, row, keys[counts])
        return cls(number, tokens, first, last)

    @classmethod
    def joined(cls, levels: Sequence["Bins"]) -> "Bins":
        """Put histograms of the same documents together whose heavy bins were split, and sort the bins, the best first."""
        columns = [np.concatenate(parts) for parts in zip(*levels, strict=True)]
        order = np.argsort(columns[2])
        return cls(*(column[order] for column in columns))

    def is_heavy(self, n_tokens: int) -> NDArray[np.bool_]:
        """Which bins have to be split: of several scores, and more than 1/1024 of all tokens."""
        heavy: NDArray[np.bool_] = (self.tokens > n_tokens // _FINEST_SHARE) & (self.first < self.last)
        return heavy


class Percentiles:
    """Positions of documents by a score: the share of the tokens that have a higher score."""

    def __init__(self, bins: Bins) -> None:
        """Sum up a histogram.

        Args:
            bins: the best first; none has much of the tokens and several scores.
        """
        _, self._tokens, self._first, self._last = bins
        self._before = np.concatenate([[0], np.cumsum(self._tokens)]).astype(np.int64)

    def positions(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Position of each score: 0 is the best one, 1 the worst.

        Equal scores have the position of their middle. Positions are interpolated between different scores of one bin, which
        has at most 1/1024 of the tokens. A higher score has a lower position, or the same where float64 cannot tell.

        Args:
            scores: float64 [n], of any documents; NaN where a document has no score.

        Returns:
            float64 [n], in [0, 1]; NaN where the score is.
        """
        has_score = ~np.isnan(scores)
        if not len(self._first):
            return np.where(has_score, 0.0, np.nan)
        keys = descending_key(np.where(has_score, scores, 0.0))
        at = np.maximum(np.searchsorted(self._first, keys, side="right") - 1, 0)
        first, last = self._first[at], self._last[at]
        part = np.where(first == last, 0.5, (keys - first + 0.5) / (last - first + 1))
        part = np.where(keys > last, 1.0, np.where(keys < first, 0.0, np.clip(part, 0.0, 1.0)))
        positions = (self._before[at] + part * self._tokens[at]) / max(1, int(self._before[-1]))
        return np.where(has_score, positions, np.nan)


def _numbers(keys: NDArray[np.int64], shift: int) -> NDArray[np.int64]:
    numbers: NDArray[np.int64] = ((keys.view(np.uint64) ^ _SIGN) >> np.uint64(shift)).view(np.int64)
    return numbers
