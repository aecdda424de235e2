"""Repeats with a soft cap: the document with the highest value is drawn, its value falls by a penalty, and so on; pure NumPy.

The value of a document is its position in the ranking, 1 for the best. After k draws it is x * penalty^k. In the end no value
is above a threshold, so a document was drawn once for each k with x * penalty^k >= threshold. This is a curve of steps.
"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from betr_spark.errors import DataError


@dataclass(frozen=True, kw_only=True)
class SoftCapCurve:
    """f(x) = number of the steps that are at most x; see `selection.repetition_curve.Curve`.

    steps: ascending positions, float64 [cap]: threshold / penalty^k. Those of 1 and above count for nothing.
    """

    steps: NDArray[np.float64]

    def expected(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Repeats at positions in [0, 1]."""
        return np.searchsorted(self.steps, np.asarray(x, np.float64), side="right").astype(np.float64)

    def integral(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Integral of `expected` from 0."""
        position = np.asarray(x, np.float64)
        below = np.concatenate([[0.0], np.cumsum(self.steps)])
        count = np.searchsorted(self.steps, position, side="right")
        total: NDArray[np.float64] = count * position - below[count]
        return total


def solve_soft_cap(available: int, target: int, *, penalty: float, cap: int, where: str = "target") -> SoftCapCurve:
    """The curve whose total is `target`; its threshold is found by bisection.

    Args:
        available: tokens of all documents, >= 0.
        target: tokens after repetition, >= 0.
        penalty: by which a draw multiplies the value, in (0, 1).
        cap: most draws of a document, >= 1.
        where: key of the configuration, for messages.

    Raises:
        DataError: the target is more than `cap` times the available tokens.
        ValueError: another argument is out of its range.
    """
    if available < 0 or target < 0 or not (0 < penalty < 1 and cap >= 1):
        raise ValueError("available, target, penalty or cap: out of range")
    if target > cap * available:
        raise DataError(f"{where}: {target:,} tokens; at most {cap * available:,} are possible: {cap} repeats")
    mean = float(Fraction(target, available)) if available else 0.0
    powers = penalty ** -np.arange(cap, dtype=np.float64)
    low, high = 0.0, 1.0  # the total falls as the threshold rises
    while low < (middle := (low + high) / 2) < high:
        if float(SoftCapCurve(steps=middle * powers).integral(np.array(1.0))) > mean:
            low = middle
        else:
            high = middle
    return SoftCapCurve(steps=high * powers)
