"""The mixture that minimises the predicted mean loss near the natural one, under limits of the weights.

The objective, mean over the k tasks of c + exp(t . p) + 0.1 KL(p || natural), is convex, so its minimum over the simplex under
upper limits is unique. With w = exp(t . p), one number for each task, the best p for given w has a closed form up to the
limits, and w maximises a concave function (the dual), which Newton's method finds in a few steps. The gap between both sides
bounds the distance to the minimum.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from betr_spark.mixture.law import Law

PENALTY = 0.1
_GAP = 1e-10  # relative to the loss above c
_STEPS = 500
_HALVINGS = 60
_SUFFICIENT = 1e-4  # growth of the dual in a step, relative to its slope
_TINY = float(np.finfo(float).tiny)


class Proposal(NamedTuple):
    """Proposed weights, float64 [m], in the limits and of sum 1.

    objective: mean predicted loss plus penalty. gap: the objective is at most this far above its minimum.
    """

    weights: NDArray[np.float64]
    objective: float
    gap: float


def divergence(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    """KL(p || q) in nats; all entries are above 0."""
    return float(p @ np.log(p / q))


def propose(
    laws: Sequence[Law],
    natural: NDArray[np.float64],
    *,
    limits: NDArray[np.float64] | None = None,
    penalty: float = PENALTY,
) -> Proposal:
    """Minimise the mean predicted loss + penalty * KL(p || natural) over p >= 0 of sum 1 and p <= limits.

    The same input gives the same weights.

    Args:
        laws: of k tasks.
        natural: shares > 0 of sum 1, float64 [m].
        limits: largest weights, in (0, 1] and of sum >= 1, float64 [m]; None for no limits.
        penalty: > 0.

    Raises:
        ValueError: the limits sum to less than 1.
    """
    most = np.ones(len(natural)) if limits is None else np.minimum(limits, 1.0)
    if most.sum() < 1 - 1e-9:
        raise ValueError(f"limits: sum {most.sum():.6g}; at least 1 is required")
    c, t = float(np.mean([law.c for law in laws])), np.stack([law.t for law in laws])
    dual = _Dual(t, natural, most, penalty)
    with np.errstate(over="ignore", invalid="ignore"):  # of steps that are then halved
        point = dual.at(t @ natural)
        for _ in range(_STEPS):
            if point.gap <= _GAP * (1 + abs(point.primal)):
                break
            point = dual.step(point)
    return Proposal(point.p, c + point.primal, max(0.0, point.gap))


class _Point(NamedTuple):
    """log_w: [k], p: the best weights for it [m]; values of both problems, the second one a lower bound of the minimum."""

    log_w: NDArray[np.float64]
    p: NDArray[np.float64]
    primal: float
    dual: float

    @property
    def gap(self) -> float:
        return self.primal - self.dual


class _Dual(NamedTuple):
    """max over w of mean(w - w log w) + min over p of (mean(w t . p) + penalty KL(p || natural)); t is [k, m]."""

    t: NDArray[np.float64]
    natural: NDArray[np.float64]
    most: NDArray[np.float64]
    penalty: float

    def at(self, log_w: NDArray[np.float64]) -> _Point:
        w = np.exp(log_w) / len(self.t)
        p = within_limits(np.log(self.natural) - (w @ self.t) / self.penalty, self.most)
        distance, exponents = self.penalty * divergence(p, self.natural), self.t @ p
        primal = float(np.mean(np.exp(exponents))) + distance
        return _Point(log_w, p, primal, float(w @ (1 - log_w + exponents)) + distance)

    def step(self, point: _Point) -> _Point:
        """Newton's step, halved until the dual grows."""
        w = np.exp(point.log_w) / len(self.t)
        residual = self.t @ point.p - point.log_w
        free = np.where(point.p < self.most, point.p, 0.0)  # weights at their limit do not move
        centred = self.t - (self.t @ free / max(free.sum(), _TINY))[:, None]
        covariance = (centred * free) @ centred.T
        direction = np.linalg.solve(np.eye(len(w)) + covariance * w / self.penalty, residual)
        growth, scale = float((w * residual) @ direction), 1.0
        for _ in range(_HALVINGS):
            after = self.at(point.log_w + scale * direction)
            if after.dual >= point.dual + _SUFFICIENT * scale * growth:
                break
            scale /= 2
        return after


def within_limits(log_weights: NDArray[np.float64], most: NDArray[np.float64]) -> NDArray[np.float64]:
    """The nearest weights by KL of sum 1 that no limit forbids: min(most, s w) with the s that makes the sum 1.

    Args:
        log_weights: log w up to a constant, float64 [m].
        most: limits, in (0, 1], of sum >= 1, float64 [m].

    Returns:
        float64 [m], each > 0.
    """
    to_limit = np.log(most) - log_weights
    order = np.argsort(to_limit, kind="stable")  # those that reach their limit first
    log_rest = np.logaddexp.accumulate(log_weights[order][::-1])[::-1]
    left = 1.0 - np.concatenate([[0.0], np.cumsum(most[order])[:-1]])
    scales = np.log(np.maximum(left, _TINY)) - log_rest  # log s if the limits before this one bind, and no other
    free = np.flatnonzero(scales <= to_limit[order])
    if not len(free):  # the limits sum to 1
        return most.copy()
    p = np.clip(np.exp(np.minimum(scales[free[0]] + log_weights, 0.0)), _TINY, most)
    is_free = p < most
    if is_free.any():  # logarithms of large numbers have lost digits
        p[is_free] *= (1.0 - p[~is_free].sum()) / p[is_free].sum()
    weights: NDArray[np.float64] = np.clip(p, _TINY, most)
    return weights
