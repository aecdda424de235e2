"""Shares with their 95 % intervals."""

import math
from typing import NamedTuple, Self

_Z = 1.96


class Rate(NamedTuple):
    """A share of counts, and its 95 % interval (Wilson).

    Attributes:
        n: those that have it.
        of: all.
        share: n / of; NaN if there are none.
        low: lower bound; 0 if there are none.
        high: upper bound; 1 if there are none.
    """

    n: int
    of: int
    share: float
    low: float
    high: float

    @classmethod
    def of_counts(cls, n: int, of: int) -> Self:
        """Return the share of `n` of `of` with its interval."""
        if not of:
            return cls(n, of, math.nan, 0.0, 1.0)
        share = n / of
        middle = share + _Z * _Z / (2 * of)
        spread = _Z * math.sqrt(share * (1 - share) / of + _Z * _Z / (4 * of * of))
        scale = 1 + _Z * _Z / of
        return cls(n, of, share, max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale))

    def __str__(self) -> str:
        """Give the counts, the share and the interval."""
        figure = f"= {self.share:.4f}, 95 % in [{self.low:.4f}, {self.high:.4f}]" if self.of else "(none drawn)"
        return f"{self.n} of {self.of} {figure}"
