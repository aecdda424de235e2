"""The law y = c + exp(t . p) from the weights p of a run to the loss y of a task, and its robust fit.

The fit works on another form of the law, b + (exp(a g . q) - 1) / a with q = p minus the runs' mean weights. It is the same
function for a > 0 (c = b - 1/a), but its parameters stay finite where the losses are nearly linear in the weights, where c
and t of the first form go to infinity together.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

DELTA = 0.01  # residual, in units of loss, from which the Huber loss is linear
_STARTS = (0.05, 0.3, 2.0, 20.0)  # distances of c below the smallest loss, relative to the range of the losses
_CURVATURE = 1e-3, 1e3  # bounds of a, in units of 1 / range of the losses
_LARGE = 60.0  # an exponent above it is cut off; only rejected steps get there
_OPTIONS = {"maxiter": 1_000, "maxfun": 3_000, "maxcor": 20, "ftol": 1e-11, "gtol": 1e-8}


class Law(NamedTuple):
    """y = c + exp(t . p). c: in units of loss. t: float64 [m]."""

    c: float
    t: NDArray[np.float64]

    def predict(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Losses of mixtures.

        Args:
            weights: float64 [n, m], or [m].

        Returns:
            float64 [n], or a scalar.
        """
        losses: NDArray[np.float64] = self.c + np.exp(weights @ self.t)
        return losses


def huber(residuals: NDArray[np.float64], delta: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Huber loss r^2 / 2, beyond delta delta (|r| - delta / 2), and its derivative; both of the shape of `residuals`."""
    clipped = np.clip(residuals, -delta, delta)
    return clipped * (residuals - clipped / 2), clipped


def fit_law(weights: NDArray[np.float64], losses: NDArray[np.float64], *, delta: float = DELTA) -> Law:
    """Fit the law of one task by the sum of Huber losses, with L-BFGS from four starts; the same input gives the same law.

    A start fixes c at a distance below the smallest loss and has the least-squares t of log(y - c). The best end counts. The
    curvature is bounded, so that nearly linear losses give a large but finite -c.

    Args:
        weights: of n runs on m groups, rows sum to 1, float64 [n, m].
        losses: float64 [n], not all equal.
        delta: in units of loss.
    """
    centre, low, span = weights.mean(axis=0), float(losses.min()), float(np.ptp(losses))
    offsets = weights - centre
    size = float(np.sqrt(np.mean(offsets**2))) or 1.0
    q, y = offsets / size, (losses - low) / span
    scaled_delta = delta / span

    def objective(x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        b, a, g = x[0], x[1], x[2:]
        slope = q @ g
        z = a * slope
        grown = np.expm1(np.minimum(z, _LARGE))
        values, derivative = huber(b + grown / a - y, scaled_delta)
        derivative /= scaled_delta**2
        steep = derivative * np.where(z < _LARGE, grown + 1, 0.0)
        by_curvature = float(steep @ slope) / a - float(derivative @ grown) / a**2
        gradient = np.concatenate([[derivative.sum(), by_curvature], q.T @ steep])
        return float(values.sum()) / scaled_delta**2 / len(y), gradient / len(y)

    bounds = [(None, None), _CURVATURE, *[(None, None)] * weights.shape[1]]
    with threadpool_limits(1, "blas"):  # the products are small; one thread also fixes the order of sums
        ends = [
            minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options=_OPTIONS)
            for start in _starts(q, y)
        ]
    b, a, *g = min(ends, key=lambda end: float(end.fun)).x  # the first of equals
    tilt = a * np.array(g) / size
    return Law(low + span * float(b - 1 / a), np.log(span / a) + tilt - float(tilt @ centre))


def _starts(q: NDArray[np.float64], y: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Starts (b, a, g) by least squares of log(y - c) on the weights for some c, y in [0, 1]."""
    design = np.column_stack([np.ones(len(y)), q])
    logs = np.log(y[:, None] + np.array(_STARTS))  # c = -start
    lines = np.linalg.lstsq(design, logs, rcond=None)[0]
    starts = []
    for below, (level, *tilt) in zip(_STARTS, lines.T, strict=True):
        scale = float(np.exp(level))
        starts.append(np.array([scale - below, np.clip(1 / scale, *_CURVATURE), *(scale * np.array(tilt))]))
    return starts
