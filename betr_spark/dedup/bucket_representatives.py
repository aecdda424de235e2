"""Comparison of signatures within LSH buckets, in one pass over documents sorted by bucket and ranking."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from betr_spark.dedup.buckets import PLACE_BYTES
from betr_spark.kernels.jit import jit
from betr_spark.kernels.token_runs import mix

MOST_LEADERS = 16
_VALUES_A_ROUND = 4  # of the signature, that split what is left of a bucket


class Members(NamedTuple):
    """Documents in buckets: `buckets` int64 [n], `published` bool [n], `places` uint8 [n, 16], `signatures` uint32 [n, P]."""

    buckets: NDArray[np.int64]
    published: NDArray[np.bool_]
    places: NDArray[np.uint8]
    signatures: NDArray[np.uint32]


class Compared(NamedTuple):
    """What comparing a batch of n documents gives.

    Pairs: `better` uint8 [m, 16] (places), `better_published` bool [m], `worse` int32 [m] (rows of the batch), `equal` int32
    [m] (equal values of the signatures). Documents left for another round: `left` int32 [k] (rows), `left_buckets` int64 [k].
    """

    better: NDArray[np.uint8]
    better_published: NDArray[np.bool_]
    worse: NDArray[np.int32]
    equal: NDArray[np.int32]
    left: NDArray[np.int32]
    left_buckets: NDArray[np.int64]


class Leaders:
    """Goes through buckets and compares each document with the bucket's leaders: work linear in the bucket.

    A document that none of the leaders is similar to becomes a leader itself. Beyond `MOST_LEADERS` it is left for the next
    round, in a smaller bucket of those that agree in some more values of the signature: documents unlike each other part,
    similar ones seldom, and equal signatures never, so that rounds end. No bucket is skipped, whatever its size.

    A published document is not compared with published ones.
    """

    def __init__(self, *, n_values: int, least_equal: int, enough_equal: int, round_: int) -> None:
        """Begin before the first bucket.

        Args:
            n_values: values of a signature, P.
            least_equal: equal values of a pair that is given back.
            enough_equal: equal values from which on a document follows the leader and is none itself.
            round_: from 0; chooses the values that split what is left.
        """
        self._thresholds = (least_equal, enough_equal, round_ * _VALUES_A_ROUND)
        self._n = np.zeros(1, np.int64)  # leaders of the bucket at hand, which is that of all rows below
        self._leaders = Members(
            np.zeros(MOST_LEADERS, np.int64), np.zeros(MOST_LEADERS, np.bool_),
            np.zeros((MOST_LEADERS, PLACE_BYTES), np.uint8), np.zeros((MOST_LEADERS, n_values), np.uint32),
        )  # fmt: skip

    def compare(self, members: Members) -> Compared:
        """Compare the next documents of a stream sorted by bucket, published first, place."""
        return Compared(*_compare(members, self._leaders, self._n, *self._thresholds))


@jit
def _compare(
    members: Members,
    leaders: Members,
    n_leaders: NDArray[np.int64],
    least_equal: int,
    enough_equal: int,
    first_value: int,
) -> tuple[
    NDArray[np.uint8], NDArray[np.bool_], NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]
]:
    n, n_values, most = len(members.buckets), members.signatures.shape[1], len(leaders.buckets)
    better, better_published = np.empty((n * most, PLACE_BYTES), np.uint8), np.empty(n * most, np.bool_)
    worse, equal = np.empty(n * most, np.int32), np.empty(n * most, np.int32)
    left, left_buckets = np.empty(n, np.int32), np.empty(n, np.int64)
    n_pairs, n_left = 0, 0
    for i in range(n):
        bucket, published, own = members.buckets[i], members.published[i], members.signatures[i]
        if bucket != leaders.buckets[0]:
            leaders.buckets[:], n_leaders[0] = bucket, 0
        follows = False
        for leader in range(n_leaders[0]):
            if published and leaders.published[leader]:
                continue
            count = np.int32(0)
            for value in range(n_values):
                count += np.int32(own[value] == leaders.signatures[leader, value])
            if count >= least_equal:
                better[n_pairs], better_published[n_pairs] = leaders.places[leader], leaders.published[leader]
                worse[n_pairs], equal[n_pairs] = i, count
                n_pairs += 1
            if count >= enough_equal:
                follows = True
        if follows:
            continue
        if n_leaders[0] < most:
            leaders.published[n_leaders[0]] = published
            leaders.places[n_leaders[0]], leaders.signatures[n_leaders[0]] = members.places[i], own
            n_leaders[0] += 1
        else:
            key = mix(np.uint64(bucket) + np.uint64(1))
            for step in range(_VALUES_A_ROUND):
                key = mix(key ^ np.uint64(own[(first_value + step) % n_values]))
            left[n_left], left_buckets[n_left] = i, np.int64(key)
            n_left += 1
    return (
        better[:n_pairs].copy(), better_published[:n_pairs].copy(), worse[:n_pairs].copy(), equal[:n_pairs].copy(),
        left[:n_left].copy(), left_buckets[:n_left].copy(),
    )  # fmt: skip
