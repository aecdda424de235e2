"""Comparison of signatures within LSH buckets, in one pass over documents sorted by bucket and ranking."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from betr_spark.dedup.buckets import RANK_KEY_BYTES
from betr_spark.kernels.jit import jit
from betr_spark.kernels.token_runs import mix

MAX_REPRESENTATIVES = 16
_VALUES_A_ROUND = 4  # of the signature, that split what is left of a bucket


class Members(NamedTuple):
    """Documents in buckets.

    `buckets` int64 [n], `previously_kept` bool [n], `rank_keys` uint8 [n, 16], `signatures` uint32 [n, P].
    """

    buckets: NDArray[np.int64]
    previously_kept: NDArray[np.bool_]
    rank_keys: NDArray[np.uint8]
    signatures: NDArray[np.uint32]


class Compared(NamedTuple):
    """What comparing a batch of n documents gives.

    Pairs: `keeper` uint8 [m, 16] (rank_keys), `keeper_previously_kept` bool [m], `candidate` int32 [m] (rows of the
    batch), `equal` int32
    [m] (equal values of the signatures). Documents left for another round: `left` int32 [k] (rows), `left_buckets` int64 [k].
    """

    keeper: NDArray[np.uint8]
    keeper_previously_kept: NDArray[np.bool_]
    candidate: NDArray[np.int32]
    equal: NDArray[np.int32]
    left: NDArray[np.int32]
    left_buckets: NDArray[np.int64]


class BucketRepresentatives:
    """Goes through buckets and compares each document with the bucket's representatives: work linear in the bucket.

    A document that none of the representatives is similar to becomes a representative itself. Beyond
    `MAX_REPRESENTATIVES` it is left for the next
    round, in a smaller bucket of those that agree in some more values of the signature: documents unlike each other part,
    similar ones seldom, and equal signatures never, so that rounds end. No bucket is skipped, whatever its size.

    A previously kept document is not compared with previously kept ones.
    """

    def __init__(self, *, n_values: int, least_equal: int, enough_equal: int, round_: int) -> None:
        """Begin before the first bucket.

        Args:
            n_values: values of a signature, P.
            least_equal: equal values of a pair that is given back.
            enough_equal: equal values from which on a document follows the representative and is none itself.
            round_: from 0; chooses the values that split what is left.
        """
        self._thresholds = (least_equal, enough_equal, round_ * _VALUES_A_ROUND)
        self._n = np.zeros(1, np.int64)  # representatives of the bucket at hand, which is that of all rows below
        self._representatives = Members(
            np.zeros(MAX_REPRESENTATIVES, np.int64), np.zeros(MAX_REPRESENTATIVES, np.bool_),
            np.zeros((MAX_REPRESENTATIVES, RANK_KEY_BYTES), np.uint8), np.zeros((MAX_REPRESENTATIVES, n_values), np.uint32),
        )  # fmt: skip

    def compare(self, members: Members) -> Compared:
        """Compare the next documents of a stream sorted by bucket, previously_kept first, rank_key."""
        return Compared(*_compare(members, self._representatives, self._n, *self._thresholds))


@jit
def _compare(
    members: Members,
    representatives: Members,
    n_representatives: NDArray[np.int64],
    least_equal: int,
    enough_equal: int,
    first_value: int,
) -> tuple[
    NDArray[np.uint8], NDArray[np.bool_], NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]
]:
    n, n_values, most = len(members.buckets), members.signatures.shape[1], len(representatives.buckets)
    keeper, keeper_previously_kept = np.empty((n * most, RANK_KEY_BYTES), np.uint8), np.empty(n * most, np.bool_)
    candidate, equal = np.empty(n * most, np.int32), np.empty(n * most, np.int32)
    left, left_buckets = np.empty(n, np.int32), np.empty(n, np.int64)
    n_pairs, n_left = 0, 0
    for i in range(n):
        bucket, previously_kept, own = members.buckets[i], members.previously_kept[i], members.signatures[i]
        if bucket != representatives.buckets[0]:
            representatives.buckets[:], n_representatives[0] = bucket, 0
        follows = False
        for representative in range(n_representatives[0]):
            if previously_kept and representatives.previously_kept[representative]:
                continue
            count = np.int32(0)
            for value in range(n_values):
                count += np.int32(own[value] == representatives.signatures[representative, value])
            if count >= least_equal:
                keeper[n_pairs], keeper_previously_kept[n_pairs] = (
                    representatives.rank_keys[representative],
                    representatives.previously_kept[representative],
                )
                candidate[n_pairs], equal[n_pairs] = i, count
                n_pairs += 1
            if count >= enough_equal:
                follows = True
        if follows:
            continue
        if n_representatives[0] < most:
            representatives.previously_kept[n_representatives[0]] = previously_kept
            representatives.rank_keys[n_representatives[0]], representatives.signatures[n_representatives[0]] = (
                members.rank_keys[i],
                own,
            )
            n_representatives[0] += 1
        else:
            key = mix(np.uint64(bucket) + np.uint64(1))
            for step in range(_VALUES_A_ROUND):
                key = mix(key ^ np.uint64(own[(first_value + step) % n_values]))
            left[n_left], left_buckets[n_left] = i, np.int64(key)
            n_left += 1
    return (
        keeper[:n_pairs].copy(), keeper_previously_kept[:n_pairs].copy(), candidate[:n_pairs].copy(), equal[:n_pairs].copy(),
        left[:n_left].copy(), left_buckets[:n_left].copy(),
    )  # fmt: skip
