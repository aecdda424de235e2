"""The order-preserving integer of a float32 logit."""

import numpy as np
from numpy.typing import NDArray

_ALL = np.uint32(0xFFFFFFFF)
_SIGN = np.uint32(0x80000000)


def descending_key(logits: NDArray[np.float32]) -> NDArray[np.int64]:
    """Map logits to [0, 2^32) so that a higher logit has a lower key and equal logits (0.0 and -0.0 too) the same.

    The bits of a float, sign flipped (all bits where negative), order as the float does; inverted for descending order.
    """
    bits = (np.asarray(logits, np.float32) + np.float32(0.0)).view(np.uint32)
    ascending = np.where(bits & _SIGN, ~bits, bits | _SIGN)
    return (_ALL - ascending).astype(np.int64)
