"""Comparison in buckets against plain Python, for any cutting of the stream; thresholds against the binomial tail."""

import math
import tempfile
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from betr_spark.dedup.bucket_linker import BucketLinker
from betr_spark.dedup.bucket_representatives import MAX_REPRESENTATIVES, BucketRepresentatives, Compared, Members
from betr_spark.dedup.buckets import MEMBER, packed
from betr_spark.dedup.thresholds import Thresholds

N_VALUES = 12
LEAST, ENOUGH = 4, 8
# bucket, previously_kept, first value of the signature, and how many values differ from that
documents = st.lists(st.tuples(st.integers(-1, 1), st.booleans(), st.integers(0, 40), st.integers(0, 9)), max_size=60)


def members(rows: list[tuple[int, bool, int, int]]) -> Members:
    signatures = np.array([[value] * N_VALUES for _, _, value, _ in rows], np.uint8).reshape(-1, N_VALUES)
    for i, (_, _, _, different) in enumerate(rows):
        signatures[i, :different] = 100 + i
    rank_keys = np.zeros((len(rows), 20), np.uint8)
    rank_keys[:, 19] = np.arange(len(rows))
    buckets = np.array([row[0] for row in rows], np.int64)
    return Members(buckets, np.array([row[1] for row in rows], np.bool_), rank_keys, signatures)


def in_order(rows: list[tuple[int, bool, int, int]]) -> list[tuple[int, bool, int, int]]:
    return sorted(rows, key=lambda row: (row[0], not row[1]))


def plain(rows: Members, start: int = 0) -> tuple[list[tuple[int, int, int]], list[int]]:
    """Pairs (keeper, candidate, equal) and the remaining documents, document by document."""
    pairs, left = [], []
    representatives: dict[int, list[int]] = {}
    for i, bucket in enumerate(rows.buckets.tolist()):
        follows = False
        for representative in representatives.setdefault(bucket, []):
            if rows.previously_kept[i] and rows.previously_kept[representative]:
                continue
            equal = int(np.sum(rows.signatures[i] == rows.signatures[representative]))
            if equal >= LEAST:
                pairs.append((representative, i, equal))
            follows |= equal >= ENOUGH
        if not follows:
            (representatives[bucket] if len(representatives[bucket]) < MAX_REPRESENTATIVES else left).append(i)
    return pairs, left


@given(documents, st.data())
def test_comparing_equals_plain_python_for_any_cutting(
    drawn: list[tuple[int, bool, int, int]], data: st.DataObject
) -> None:
    rows = members(in_order(drawn))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(drawn)), max_size=4)))
    representatives = BucketRepresentatives(n_values=N_VALUES, least_equal=LEAST, enough_equal=ENOUGH, round_=1)
    pairs, left, keys = [], [], {}
    for start, end in zip([0, *cuts], [*cuts, len(drawn)], strict=True):
        compared: Compared = representatives.compare(Members(*(column[start:end] for column in rows)))
        pairs += [
            (int(b[19]), int(w) + start, int(e))
            for b, w, e in zip(compared.keeper, compared.candidate, compared.equal, strict=True)
        ]
        assert [bool(rows.previously_kept[b[19]]) for b in compared.keeper] == compared.keeper_previously_kept.tolist()
        left += [int(i) + start for i in compared.remaining]
        keys |= {int(i) + start: int(k) for i, k in zip(compared.remaining, compared.next_buckets, strict=True)}
    assert (pairs, left) == plain(rows)
    for i in left:  # those of one bucket with the same values 4 to 7 go to one bucket, and no others
        for j in left:
            together = rows.buckets[i] == rows.buckets[j] and (rows.signatures[i, 4:8] == rows.signatures[j, 4:8]).all()
            assert (keys[i] == keys[j]) == together


drawn_documents = st.lists(  # buckets, whether the document is new, rank key
    st.tuples(st.lists(st.integers(-2, 2), unique=True, max_size=3), st.booleans(), st.integers(0, 2**160 - 1)),
    max_size=60,
    unique_by=lambda row: row[2],
)
Row = tuple[list[int], bool, int]


def as_parts(rows: list[Row], *, n_parts: int, n_batch: int) -> dict[int, list[NDArray[np.void]]]:
    """Pack batch after batch; the pieces of each part."""
    parts: dict[int, list[NDArray[np.void]]] = {}
    for start in range(0, len(rows), n_batch):
        batch = rows[start : start + n_batch]
        buckets = np.array([bucket << 32 for row in batch for bucket in row[0]], np.int64)
        sizes = np.array([len(row[0]) for row in batch], np.int64)
        keys = np.frombuffer(b"".join(row[2].to_bytes(20, "big") for row in batch), np.uint8).reshape(-1, 20)
        pieces = packed(buckets, sizes, keys, np.array([row[1] for row in batch], np.bool_), n_parts=n_parts)
        for part, a, b in zip(pieces.parts.tolist(), pieces.bounds, pieces.bounds[1:], strict=False):
            parts.setdefault(part, []).append(pieces.members[a:b])
    return parts


@given(drawn_documents, st.integers(1, 4), st.integers(1, 20), st.integers(1, 8), st.integers(0, 30))
def test_members_are_linked_to_the_first_of_their_bucket_for_any_parts_batches_chunks_and_memory(
    rows: list[Row], n_parts: int, n_batch: int, chunk: int, memory: int
) -> None:
    linked, largest = [], 0
    for pieces in as_parts(rows, n_parts=n_parts, n_batch=n_batch).values():
        with tempfile.TemporaryFile() as spill:
            linker = BucketLinker(spill, chunk_bytes=chunk * MEMBER.itemsize, memory_bytes=memory * MEMBER.itemsize)
            for piece in pieces:
                linker.add(piece)
            for batch in linker.linked():
                keys, first = ([int.from_bytes(row.tobytes(), "big") for row in side] for side in (batch[2], batch[3]))
                columns = (batch.buckets.tolist(), batch.previously_kept.tolist(), keys, first)
                linked += zip(*columns, batch.first_previously_kept.tolist(), strict=True)
            largest = max(largest, linker.largest_bucket)
            n_members = sum(map(len, pieces))
            assert linker.spilled_bytes % MEMBER.itemsize == 0
            assert n_members - linker.spilled_bytes // MEMBER.itemsize <= memory
    expected: list[tuple[int, bool, int, int, bool]] = []
    sizes = [0]
    for bucket in range(-2, 3):
        members = sorted((new, key) for buckets, new, key in rows if bucket in buckets)  # previously kept ones first
        if len(members) > 1 and members[-1][0]:
            is_new, first_key = members[0]
            expected += [(bucket << 32, not new, key, first_key, not is_new) for new, key in members]
            sizes.append(len(members))
    assert sorted(linked) == sorted(expected)
    assert largest == max(sizes)


def test_the_memory_of_linking_does_not_grow_with_the_bucket() -> None:
    """Peak of all NumPy allocations for one bucket of 20,000 and of 400,000 members: 580 kB and 11.6 MB."""
    peaks, pick = [], np.random.default_rng(0)
    for n in (20_000, 400_000):
        with tempfile.TemporaryFile() as spill:
            linker = BucketLinker(spill, chunk_bytes=2**15, memory_bytes=2**16)
            n_linked = 0
            tracemalloc.start()
            for _ in range(0, n, 1000):
                keys = pick.integers(0, 256, (1000, 20)).astype(np.uint8)
                sizes = np.ones(1000, np.int64)
                linker.add(packed(np.full(1000, 7), sizes, keys, np.ones(1000, np.bool_), n_parts=1).members)
            for batch in linker.linked():
                n_linked += len(batch.buckets)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
            assert (n_linked, linker.largest_bucket) == (n, n)
            assert n * MEMBER.itemsize - 2**16 <= linker.spilled_bytes < n * MEMBER.itemsize
    assert peaks[1] < 2**20
    assert peaks[1] < 1.5 * peaks[0]


@pytest.mark.parametrize("similarity", [0.5, 0.75, 0.9])
def test_thresholds_leave_few_pairs_of_exactly_the_similarity_outside(similarity: float) -> None:
    limits, p = Thresholds.of(similarity, bands=14, rows=8), similarity + (1 - similarity) / 256

    def at_least(k: int, n: int) -> float:
        return sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(max(0, k), n + 1))

    assert 1 - at_least(limits.least, 112) < 1e-3 <= 1 - at_least(limits.least + 1, 112)
    assert at_least(limits.sure - 8, 104) < 1e-5 <= at_least(limits.sure - 9, 104)
    assert limits.least < limits.enough == math.ceil(112 * p) < limits.sure


def test_equal_signatures_are_never_enough_for_similarity_one() -> None:
    limits = Thresholds.of(1.0, bands=14, rows=8)
    assert (limits.least, limits.enough, limits.sure) == (112, 112, 113)
