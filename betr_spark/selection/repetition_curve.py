"""How often a document is repeated, as a function of its position in the ranking; pure NumPy.

A position x in [0, 1] is token-weighted: the share of the tokens that belongs to worse documents; 0 is the worst, 1 the best. A
curve f gives the expected number of repeats, and its integral over [0, 1] is the required number of tokens divided by
the available one. A document (or a bin of documents) covers an interval of positions and is expected to be repeated as often as
the mean of f over it, so that the expected total is exact for documents of any length. It is repeated floor of that many
times, and once more with the probability of the fractional part.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from betr_spark.errors import DataError

CAP, MAX_EXPONENT, BUCKET = 7.0, 8.0, 0.05
_NARROW = 1e-5  # an interval whose mean is the value in its middle: differences of integrals lose digits there
_FAR = 800.0  # exp(-800) is 0


class Curve(Protocol):
    """A curve of expected repeats; both functions take and give arrays of the same shape, positions are in [0, 1]."""

    def expected(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Expected repeats at positions; does not decrease."""
        ...

    def integral(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Integral of `expected` from 0."""
        ...


@dataclass(frozen=True, kw_only=True)
class RepetitionCurve:
    """f(x) = C (x - drop)^exponent for x >= drop, else 0.

    mean: integral of f over [0, 1]. drop: in [0, 1). exponent: >= 0.
    """

    mean: float
    drop: float
    exponent: float

    @property
    def scale(self) -> float:
        """C = (exponent + 1) mean / (1 - drop)^(exponent + 1)."""
        return float((self.exponent + 1) * self.mean / (1 - self.drop) ** (self.exponent + 1))

    def expected(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Expected repeats at positions in [0, 1]."""
        height = (self.exponent + 1) * self.mean / (1 - self.drop)
        return np.where(np.asarray(x) >= self.drop, height * self._kept(x) ** self.exponent, 0.0)

    def integral(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Integral of `expected` from 0."""
        return self.mean * self._kept(x) ** (self.exponent + 1)

    def _kept(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Position among what is not dropped, in [0, 1]; powers of it do not underflow for a drop close to 1."""
        return np.clip((np.asarray(x, np.float64) - self.drop) / (1 - self.drop), 0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class SigmoidCurve:
    """f(x) = floor + (cap - floor) / (1 + exp(-(x - middle) / temperature)), as in QuaDMix (arXiv 2504.16511).

    The paper samples by a sigmoid of the rank with a floor for the rest. Ours ends at `cap` instead of free parameters, so that
    `middle` alone decides the total.
    """

    floor: float
    cap: float
    middle: float
    temperature: float

    def expected(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Expected repeats at positions in [0, 1]."""
        z = (np.asarray(x, np.float64) - self.middle) / self.temperature
        return self.floor + (self.cap - self.floor) * np.exp(-np.logaddexp(0.0, -z))

    def integral(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Integral of `expected` from 0."""
        z, start = (np.asarray(x, np.float64) - self.middle) / self.temperature, -self.middle / self.temperature
        risen = self.temperature * (np.logaddexp(0.0, z) - np.logaddexp(0.0, start))
        total: NDArray[np.float64] = self.floor * np.asarray(x) + (self.cap - self.floor) * risen
        return total


def solve_power_curve(
    available: int,
    target: int,
    *,
    drop: float,
    cap: float = CAP,
    max_exponent: float = MAX_EXPONENT,
    bucket: float = BUCKET,
    where: str = "target",
) -> RepetitionCurve:
    """The steepest curve C (x - drop)^exponent whose total is `target` and whose best bucket is within the cap.

    The curve does not decrease, so the best bucket has the highest mean of all. That mean has a closed form that grows with
    the exponent, and so has the exponent at which it meets the cap. Where it stays below the cap, the exponent is
    `max_exponent`. Where less than a bucket is kept, the bucket is what is kept, so that the cap holds for that.

    Args:
        available: tokens of all documents, >= 0.
        target: tokens after repetition, >= 0.
        drop: fraction of the tokens that is not used, the worst, in [0, 1).
        cap: largest mean of the curve over a bucket, > 0.
        max_exponent: >= 0; 0 repeats all that is kept equally often.
        bucket: fraction of the tokens, in (0, 1].
        where: key of the configuration, for messages.

    Raises:
        DataError: the target cannot be met; says the largest total, cap * (1 - drop) * available.
        ValueError: another argument is out of its range.
    """
    for name, valid in {
        "available": available >= 0, "target": target >= 0, "drop": 0 <= drop < 1, "cap": cap > 0,
        "max_exponent": max_exponent >= 0, "bucket": 0 < bucket <= 1,
    }.items():  # fmt: skip
        if not valid:
            raise ValueError(f"{name}: out of range")
    kept = 1 - Fraction(str(drop))
    largest = int(Fraction(str(cap)) * kept * available)
    if target > largest:
        reason = f"{cap:g} times {float(kept):g} of {available:,} tokens"
        raise DataError(f"{where}: {target:,} tokens; at most {largest:,} are possible: {reason}")
    mean = target / available if available else 0.0
    width = min(bucket, float(kept))
    part = width / float(kept)  # of what is kept

    def best_bucket(exponent: float) -> float:
        return -mean * float(np.expm1((exponent + 1) * np.log1p(-part))) / width

    exponent = max_exponent
    if part < 1 and mean > cap * width:
        exponent = min(max_exponent, max(0.0, float(np.log1p(-cap * width / mean) / np.log1p(-part)) - 1))
        while exponent > 0 and best_bucket(exponent) > cap:  # by a rounding
            exponent = max(0.0, exponent - 1e-13 * (1 + exponent))
    return RepetitionCurve(mean=mean, drop=float(drop), exponent=float(exponent))


def solve_sigmoid_curve(
    available: int, target: int, *, temperature: float, floor: float = 0.0, cap: float = CAP, where: str = "target"
) -> SigmoidCurve:
    """The sigmoid from `floor` to `cap` whose total is `target`; its middle is found by bisection.

    Args:
        available: tokens of all documents, >= 0.
        target: tokens after repetition.
        temperature: in units of position, > 0; a lower one is closer to a cut.
        floor: repeats that the worst documents tend to, in [0, cap).
        cap: repeats that the best documents tend to.
        where: key of the configuration, for messages.

    Raises:
        DataError: the target is not between floor and cap times the available tokens.
        ValueError: another argument is out of its range.
    """
    if available < 0 or not (temperature > 0 and 0 <= floor < cap):
        raise ValueError("available, temperature, floor or cap: out of range")
    least, most = (int(Fraction(str(bound)) * available) for bound in (floor, cap))
    if not least <= target <= most:
        raise DataError(f"{where}: {target:,} tokens; {least:,} to {most:,} are possible: {floor:g} to {cap:g} repeats")
    mean = target / available if available else floor
    low, high = -_FAR * temperature, 1 + _FAR * temperature  # the total falls as the middle rises
    while low < (middle := (low + high) / 2) < high:
        curve = SigmoidCurve(floor=floor, cap=cap, middle=middle, temperature=temperature)
        if float(curve.integral(np.array(1.0))) > mean:
            low = middle
        else:
            high = middle
    return SigmoidCurve(floor=floor, cap=cap, middle=middle, temperature=temperature)


def positions_of(tokens: NDArray[np.int64]) -> NDArray[np.float64]:
    """Positions of the edges between bins, from 0 to 1.

    Args:
        tokens: of each bin (or document), the worst first, >= 0 and not all 0, int64 [n].

    Returns:
        float64 [n + 1].
    """
    total = np.concatenate([[0], np.cumsum(tokens, dtype=np.int64)])
    edges: NDArray[np.float64] = total / total[-1]
    return edges


def expected_repeats(curve: Curve, tokens: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean of a curve over the interval of each bin; a bin without tokens gets the value at its position.

    Args:
        curve: any.
        tokens: of each bin (or document), the worst first, int64 [n].

    Returns:
        float64 [n], does not decrease. Its sum weighted by `tokens` is the curve's total, up to rounding.
    """
    if not np.any(tokens):
        return np.zeros(len(tokens))
    edges = positions_of(tokens)
    lower, upper, width = edges[:-1], edges[1:], np.diff(edges)
    middle = curve.expected((lower + upper) / 2)
    integral = np.diff(curve.integral(edges))
    means = np.where(width > _NARROW, integral / np.maximum(width, _NARROW), middle)
    return np.clip(means, curve.expected(lower), curve.expected(upper))


def repeat_counts(expected: NDArray[np.float64], uniform: NDArray[np.float64]) -> NDArray[np.int64]:
    """Round expected repeats at random: down, or up with the probability of the fractional part.

    Args:
        expected: >= 0, float64 [n].
        uniform: in [0, 1), float64 [n].

    Returns:
        int64 [n].
    """
    whole = np.floor(expected)
    counts: NDArray[np.int64] = whole.astype(np.int64) + (uniform < expected - whole)
    return counts


def realised_total(curve: Curve, tokens: NDArray[np.int64], uniform: NDArray[np.float64]) -> int:
    """Tokens after repetition of documents.

    Args:
        curve: any.
        tokens: of each document, the worst first, int64 [n].
        uniform: in [0, 1), float64 [n].
    """
    return int(repeat_counts(expected_repeats(curve, tokens), uniform) @ tokens)


def total_deviation(expected: NDArray[np.float64], tokens: NDArray[np.int64]) -> float:
    """Standard deviation of the total after `repeat_counts`, in tokens: each document's fractional part is one draw."""
    part = expected - np.floor(expected)
    return float(np.sqrt(np.sum(np.square(tokens.astype(np.float64)) * part * (1 - part))))
