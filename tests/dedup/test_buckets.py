"""Comparison in buckets against plain Python, for any cutting of the stream; thresholds against the binomial tail."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from betr_spark.dedup.bucket_representatives import MAX_REPRESENTATIVES, BucketRepresentatives, Compared, Members
from betr_spark.dedup.buckets import GONE, MEMBER, NEW, PREVIOUSLY_KEPT, parted, with_first
from betr_spark.dedup.candidates import Thresholds

N_VALUES = 12
LEAST, ENOUGH = 4, 8
# bucket, previously_kept, first value of the signature, and how many values differ from that
documents = st.lists(st.tuples(st.integers(-1, 1), st.booleans(), st.integers(0, 40), st.integers(0, 9)), max_size=60)


def members(rows: list[tuple[int, bool, int, int]]) -> Members:
    signatures = np.array([[value] * N_VALUES for _, _, value, _ in rows], np.uint32).reshape(-1, N_VALUES)
    for i, (_, _, _, different) in enumerate(rows):
        signatures[i, :different] = 100 + i
    rank_keys = np.zeros((len(rows), 16), np.uint8)
    rank_keys[:, 15] = np.arange(len(rows))
    buckets = np.array([row[0] for row in rows], np.int64)
    return Members(buckets, np.array([row[1] for row in rows], np.bool_), rank_keys, signatures)


def in_order(rows: list[tuple[int, bool, int, int]]) -> list[tuple[int, bool, int, int]]:
    return sorted(rows, key=lambda row: (row[0], not row[1]))


def plain(rows: Members, start: int = 0) -> tuple[list[tuple[int, int, int]], list[int]]:
    """Pairs (keeper, candidate, equal) and the documents left, one after the other."""
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
        found: Compared = representatives.compare(Members(*(column[start:end] for column in rows)))
        pairs += [
            (int(b[15]), int(w) + start, int(e))
            for b, w, e in zip(found.keeper, found.candidate, found.equal, strict=True)
        ]
        assert [bool(rows.previously_kept[b[15]]) for b in found.keeper] == found.keeper_previously_kept.tolist()
        left += [int(i) + start for i in found.left]
        keys |= {int(i) + start: int(k) for i, k in zip(found.left, found.left_buckets, strict=True)}
    assert (pairs, left) == plain(rows)
    for i in left:  # those of one bucket with the same values 4 to 7 go to one bucket, and no others
        for j in left:
            together = rows.buckets[i] == rows.buckets[j] and (rows.signatures[i, 4:8] == rows.signatures[j, 4:8]).all()
            assert (keys[i] == keys[j]) == together


@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(-2, 2), unique=True, max_size=3),
            st.integers(0, 2),
            st.integers(0, 9),
            st.integers(0, 2**70),
        ),
        max_size=60,
        unique_by=lambda row: row[3],
    ),
    st.integers(1, 4),
    st.integers(1, 20),
)
def test_documents_are_linked_to_the_first_of_their_bucket_for_any_parts_and_batches(
    drawn: list[tuple[list[int], int, int, int]], n_parts: int, n_batch: int
) -> None:
    """Equal content is represented by one, and not at all where that is gone; no bucket of one or of previously_kept ones alone."""
    by_content = {content: keys for keys, _, content, _ in drawn}  # equal content has equal bands
    rows = [
        ([key << 32 for key in by_content[content]], state, content, rank_key) for _, state, content, rank_key in drawn
    ]
    parts: dict[int, list[NDArray[np.void]]] = {}
    for start in range(0, len(rows), n_batch):
        some = rows[start : start + n_batch]
        wide = [
            np.frombuffer(b"".join(value.to_bytes(16, "big") for value in values), np.uint8).reshape(-1, 16)
            for values in ([row[2] << 64 for row in some], [row[3] for row in some])
        ]
        keys = np.array([key for row in some for key in row[0]], np.int64)
        sizes, states = np.array([len(row[0]) for row in some], np.int64), np.array([row[1] for row in some], np.uint8)
        found = parted(keys, sizes, *wide, states, n_parts=n_parts)
        for part, a, b in zip(found.parts.tolist(), found.bounds, found.bounds[1:], strict=False):
            parts.setdefault(part, []).append(found.rows[a:b])
    seen = []
    for pieces in parts.values():
        linked = with_first(np.concatenate(pieces))
        rank_keys, first = (
            [int.from_bytes(row.tobytes(), "big") for row in side] for side in (linked.rank_keys, linked.first)
        )
        seen += zip(
            linked.buckets.tolist(),
            linked.previously_kept.tolist(),
            rank_keys,
            first,
            linked.first_previously_kept.tolist(),
            strict=True,
        )
    wanted = []
    for key in {key for row in rows for key in row[0]}:
        chosen: dict[int, tuple[int, int]] = {}
        for keys_, state, content, rank_key in sorted(rows, key=lambda row: (row[1], row[3])):
            if key in keys_:
                chosen.setdefault(content, (state, rank_key))
        members = sorted(member for member in chosen.values() if member[0] != GONE)
        if len(members) > 1 and members[-1][0] == NEW:
            lead = members[0]
            wanted += [(key, s == PREVIOUSLY_KEPT, p, lead[1], lead[0] == PREVIOUSLY_KEPT) for s, p in members]
    assert sorted(seen) == sorted(wanted)
    assert len(with_first(np.empty(0, MEMBER)).buckets) == 0


@pytest.mark.parametrize("similarity", [0.5, 0.75, 0.9])
def test_thresholds_leave_few_pairs_of_exactly_the_similarity_outside(similarity: float) -> None:
    found = Thresholds.of(similarity, bands=14, rows=8)

    def at_least(k: int, n: int) -> float:
        return sum(math.comb(n, i) * similarity**i * (1 - similarity) ** (n - i) for i in range(max(0, k), n + 1))

    assert 1 - at_least(found.least, 112) < 1e-3 <= 1 - at_least(found.least + 1, 112)
    assert at_least(found.sure - 8, 104) < 1e-5 <= at_least(found.sure - 9, 104)
    assert found.least < found.enough == math.ceil(112 * similarity) < found.sure


def test_equal_signatures_are_never_enough_for_similarity_one() -> None:
    found = Thresholds.of(1.0, bands=14, rows=8)
    assert (found.least, found.enough, found.sure) == (112, 112, 113)
