"""Limits for the number of equal values in two signatures."""

import math
from typing import NamedTuple, Self

import numpy as np
from scipy.special import bdtr, bdtrc

from betr_spark.kernels.minhash import equal_probability


class Thresholds(NamedTuple):
    """Limits for the number of equal values in two signatures.

    Attributes:
        n_values: values of a signature.
        least: pairs with fewer equal values are not similar.
        enough: pairs with this many equal values are similar by the estimate alone.
        sure: pairs with this many equal values are similar; between `least` and `sure` the true similarity decides.
    """

    n_values: int
    least: int
    enough: int
    sure: int

    @classmethod
    def of(cls, similarity: float, *, bands: int, rows: int) -> Self:
        """Choose the limits for a similarity.

        A pair of exactly this similarity has fewer than `least` equal values with P < 1e-3. It has `sure` or more equal values
        with P < 1e-5, given that one band is equal, because only pairs that share a bucket are compared.
        """
        n_values, probability = bands * rows, equal_probability(similarity)
        counts = np.arange(n_values + 1)
        least = int(np.max(counts[bdtr(counts - 1.0, n_values, probability) < 1e-3], initial=0))
        improbable = counts[bdtrc(counts - 1.0 - rows, n_values - rows, probability) < 1e-5]
        sure = int(np.min(improbable, initial=n_values + 1))
        return cls(n_values, least, math.ceil(probability * n_values), sure)
