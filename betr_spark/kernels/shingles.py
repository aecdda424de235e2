"""Shingles of documents, on raw UTF-8 bytes: their hashes, and the true Jaccard similarity of their sets."""

import numpy as np
from numpy.typing import NDArray

from betr_spark.kernels.jit import jit
from betr_spark.kernels.shingle_tokens import token_marks
from betr_spark.kernels.token_runs import end_of_slice, first_eight, long_runs, mix, prefixes_of, token_runs

SLICE_BYTES = 1 << 17
_MOST_FOR_PLACES, _MOST_IN_PLACE = 1 << 16, 32  # hashes
STEP = np.uint64(0x9E3779B97F4A7C15)
_LOW_BITS, _TOP_BITS = np.uint64(0x7F7F7F7F7F7F7F7F), np.uint64(0x8080808080808080)
_FROM_A = np.uint64(0x01010101_01010101 * (0x80 - ord("A")))
_ABOVE_Z = np.uint64(0x01010101_01010101 * (0x80 - ord("Z") - 1))


@jit
def shingle_sets(
    data: NDArray[np.uint8], offsets: NDArray[np.int64], ngram: int, seed: int
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return the distinct shingles of each document.

    Args:
        data: bytes of all documents, uint8.
        offsets: int64 [n + 1].
        ngram: tokens in a shingle.
        seed: seed of the hash.

    Returns:
        Hashes, uint64, distinct and ascending within each document; and the position of each document's first hash, int64
        [n + 1].
    """
    n = len(offsets) - 1
    bounds = np.zeros(n + 1, np.int64)
    hashes = np.empty(offsets[n] - offsets[0], np.uint64)  # the maximum; entries that are not written to cost no memory
    a = 0
    while a < n:
        b = end_of_slice(offsets, a, SLICE_BYTES)
        first, shingles = document_shingles(data, offsets[a : b + 1], ngram, seed)
        for document in range(b - a):
            at = bounds[a + document]
            count = first[document + 1] - first[document] - ngram + 1
            if count > 0:
                distinct = _distinct(shingles[first[document] : first[document] + count])
                hashes[at : at + len(distinct)] = distinct
                at += len(distinct)
            bounds[a + document + 1] = at
        a = b
    return hashes[: bounds[n]].copy(), bounds


@jit
def _distinct(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Sort hashes and drop repeated ones.

    Hashes are uniform: their upper bits give most of them their place, and a pass of insertions does the rest. Where many share
    their upper bits, which takes repeated ones, and where the table would not stay in the processor's cache, a general sort is
    faster.
    """
    n = len(hashes)
    if n > _MOST_FOR_PLACES:
        return np.unique(hashes)
    n_bits = 1
    while 1 << n_bits < n:
        n_bits += 1
    shift = np.uint64(64 - n_bits)
    places = np.zeros((1 << n_bits) + 1, np.int32)
    for hash_ in hashes:
        places[(hash_ >> shift) + np.uint64(1)] += np.int32(1)
    if np.max(places) > _MOST_IN_PLACE:
        return np.unique(hashes)
    for place in range(1 << n_bits):
        places[place + 1] += places[place]
    in_order = np.empty(n, np.uint64)
    for hash_ in hashes:
        place = hash_ >> shift
        in_order[np.uint32(places[place])] = hash_
        places[place] += np.int32(1)
    for i in range(1, n):
        hash_, at = in_order[i], i
        while at > 0 and in_order[at - 1] > hash_:
            in_order[at] = in_order[at - 1]
            at -= 1
        in_order[at] = hash_
    n_distinct = np.int64(min(n, 1))
    for i in range(1, n):
        in_order[n_distinct] = in_order[i]
        n_distinct += np.int64(in_order[i] != in_order[n_distinct - 1])
    return in_order[:n_distinct]


@jit
def jaccard(
    left: NDArray[np.uint64],
    left_offsets: NDArray[np.int64],
    right: NDArray[np.uint64],
    right_offsets: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Compute the Jaccard similarity of n pairs of sets from `shingle_sets`, float64 [n]; 0 if both sets are empty."""
    n = len(left_offsets) - 1
    similarity = np.zeros(n, np.float64)
    for pair in range(n):
        i, i_end = left_offsets[pair], left_offsets[pair + 1]
        j, j_end = right_offsets[pair], right_offsets[pair + 1]
        size, common = (i_end - i) + (j_end - j), 0
        while i < i_end and j < j_end:
            left_hash, right_hash = left[i], right[j]
            common += left_hash == right_hash
            i += left_hash <= right_hash
            j += right_hash <= left_hash
        if size > 0:
            similarity[pair] = common / (size - common)
    return similarity


@jit
def document_shingles(
    data: NDArray[np.uint8], offsets: NDArray[np.int64], ngram: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Hash the shingles of a few documents.

    Returns:
        The position of each document's first token, int64 [n + 1]; and the hash of the `ngram` tokens from each token on,
        uint64 [n_tokens]. The hashes continue across documents: the last `ngram` - 1 tokens of a document begin no shingle.
    """
    marks, breaks = token_marks(data, offsets)
    first, starts, lengths = token_runs(marks, breaks, offsets, 0)
    return first, ngram_hashes(token_hashes(data, offsets[0], starts, lengths), ngram, seed)


@jit
def _lower(eight: np.uint64) -> np.uint64:
    """Convert the ASCII letters among eight bytes to lower case."""
    low = eight & _LOW_BITS
    upper = ((low + _FROM_A) ^ (low + _ABOVE_Z)) & ~eight & _TOP_BITS
    return eight | (upper >> np.uint64(2))


@jit
def token_hashes(
    data: NDArray[np.uint8], base: int, starts: NDArray[np.int32], lengths: NDArray[np.int32]
) -> NDArray[np.uint64]:
    """Hash each token, ASCII letters in lower case, uint64 [n_tokens]."""
    hashes = prefixes_of(data, base, starts, lengths)
    for t in range(len(hashes)):
        hashes[t] = mix(_lower(hashes[t]))
    long, tail_starts, tail_lengths = long_runs(starts, lengths)
    tails = prefixes_of(data, base, tail_starts, tail_lengths)
    for i in range(len(long)):
        value = mix((hashes[long[i]] + STEP) ^ _lower(tails[i]))
        for at in range(8, tail_lengths[i], 8):
            left = min(tail_lengths[i] - at, 8)
            value = mix((value + STEP) ^ _lower(first_eight(data, base + tail_starts[i] + at, left)))
        hashes[long[i]] = value
    return hashes


@jit
def ngram_hashes(hashes: NDArray[np.uint64], ngram: int, seed: int) -> NDArray[np.uint64]:
    """Hash the `ngram` tokens from each token on, given the hashes of the tokens, uint64 [n_tokens]."""
    n_tokens = len(hashes)
    # The sum of hashes[s + k] * STEP^k follows from that of the token before: STEP is odd, so it has an inverse modulo 2^64.
    shingles, inverse, highest, value = np.empty(n_tokens, np.uint64), STEP, np.uint64(1), np.uint64(0)
    for _ in range(5):
        inverse *= np.uint64(2) - STEP * inverse
    for k in range(min(ngram, n_tokens)):
        value += hashes[k] * highest
        highest *= STEP
    highest *= inverse
    key = mix(np.uint64(seed) * STEP + np.uint64(1))
    for s in range(n_tokens):
        shingles[s] = mix(value ^ key)
        value = (value - hashes[s]) * inverse
        if s + ngram < n_tokens:
            value += hashes[s + ngram] * highest
    return shingles
