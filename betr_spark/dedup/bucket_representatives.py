"""Comparison of signatures within LSH buckets, in one pass over documents sorted by bucket and rank key."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from betr_spark.dedup.buckets import RANK_KEY_BYTES
from betr_spark.kernels.jit import jit
from betr_spark.kernels.token_runs import mix

MAX_REPRESENTATIVES = 16
_VALUES_PER_ROUND = 4  # values of the signature that split the remaining documents of a bucket


class Members(NamedTuple):
    """Documents in buckets.

    Attributes:
        buckets: int64 [n].
        previously_kept: bool [n].
        rank_keys: uint8 [n, 20].
        signatures: uint8 [n, P].
    """

    buckets: NDArray[np.int64]
    previously_kept: NDArray[np.bool_]
    rank_keys: NDArray[np.uint8]
    signatures: NDArray[np.uint8]


class Compared(NamedTuple):
    """Result for one batch: m pairs, and k documents that remain for the next round.

    Attributes:
        keeper: uint8 [m, 20], rank keys.
        keeper_previously_kept: bool [m].
        candidate: int32 [m], rows of the batch.
        equal: int32 [m], equal values of the two signatures.
        remaining: int32 [k], rows of the batch.
        next_buckets: int64 [k], the buckets of the remaining documents in the next round.
    """

    keeper: NDArray[np.uint8]
    keeper_previously_kept: NDArray[np.bool_]
    candidate: NDArray[np.int32]
    equal: NDArray[np.int32]
    remaining: NDArray[np.int32]
    next_buckets: NDArray[np.int64]


class BucketRepresentatives:
    """Compares each document of a bucket with the bucket's representatives; the work is linear in the size of the bucket.

    A document that is similar to no representative becomes a representative. When a bucket has `MAX_REPRESENTATIVES`, such a
    document remains for the next round, in a smaller bucket of documents that have some more equal values. So dissimilar
    documents get different buckets, similar ones seldom do, and equal signatures never do; the rounds end. No bucket is
    skipped, whatever its size. Two previously kept documents are not compared.

    Memory: 16 representatives and, for a batch of n documents, at most 16 n pairs of 29 bytes; it does not grow with the size
    of a bucket.
    """

    def __init__(self, *, n_values: int, least_equal: int, enough_equal: int, round_: int) -> None:
        """Start before the first bucket.

        Args:
            n_values: values of a signature, P.
            least_equal: pairs with fewer equal values are not returned.
            enough_equal: a document with this many equal values is similar to the representative.
            round_: number of the round, from 0; selects the values that split the remaining documents.
        """
        self._thresholds = (least_equal, enough_equal, round_ * _VALUES_PER_ROUND)
        self._n = np.zeros(1, np.int64)  # representatives of the current bucket, which is the bucket of all rows below
        self._representatives = Members(
            np.zeros(MAX_REPRESENTATIVES, np.int64), np.zeros(MAX_REPRESENTATIVES, np.bool_),
            np.zeros((MAX_REPRESENTATIVES, RANK_KEY_BYTES), np.uint8), np.zeros((MAX_REPRESENTATIVES, n_values), np.uint8),
        )  # fmt: skip

    def compare(self, members: Members) -> Compared:
        """Compare the next documents of a stream that is sorted by bucket, previously kept documents first, rank key."""
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
    remaining, next_buckets = np.empty(n, np.int32), np.empty(n, np.int64)
    n_pairs, n_remaining = 0, 0
    for i in range(n):
        bucket, previously_kept, signature = members.buckets[i], members.previously_kept[i], members.signatures[i]
        if bucket != representatives.buckets[0]:
            representatives.buckets[:], n_representatives[0] = bucket, 0
        is_similar = False
        for representative in range(n_representatives[0]):
            if previously_kept and representatives.previously_kept[representative]:
                continue
            count = np.int32(0)
            for value in range(n_values):
                count += np.int32(signature[value] == representatives.signatures[representative, value])
            if count >= least_equal:
                keeper[n_pairs] = representatives.rank_keys[representative]
                keeper_previously_kept[n_pairs] = representatives.previously_kept[representative]
                candidate[n_pairs], equal[n_pairs] = i, count
                n_pairs += 1
            if count >= enough_equal:
                is_similar = True
        if is_similar:
            continue
        if n_representatives[0] < most:
            representatives.previously_kept[n_representatives[0]] = previously_kept
            representatives.rank_keys[n_representatives[0]] = members.rank_keys[i]
            representatives.signatures[n_representatives[0]] = signature
            n_representatives[0] += 1
        else:
            key = mix(np.uint64(bucket) + np.uint64(1))
            for step in range(_VALUES_PER_ROUND):
                key = mix(key ^ np.uint64(signature[(first_value + step) % n_values]))
            remaining[n_remaining], next_buckets[n_remaining] = i, np.int64(key)
            n_remaining += 1
    return (
        keeper[:n_pairs].copy(), keeper_previously_kept[:n_pairs].copy(), candidate[:n_pairs].copy(), equal[:n_pairs].copy(),
        remaining[:n_remaining].copy(), next_buckets[:n_remaining].copy(),
    )  # fmt: skip
