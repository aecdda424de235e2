"""Comparison in buckets against plain Python, for any cutting of the stream; thresholds against the binomial tail."""

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from betr_spark.dedup.buckets import MOST_LEADERS, Compared, Leaders, Members
from betr_spark.dedup.candidates import Thresholds, _link

N_VALUES = 12
LEAST, ENOUGH = 4, 8
# bucket, published, first value of the signature, and how many values differ from that
documents = st.lists(st.tuples(st.integers(-1, 1), st.booleans(), st.integers(0, 40), st.integers(0, 9)), max_size=60)


def members(rows: list[tuple[int, bool, int, int]]) -> Members:
    signatures = np.array([[value] * N_VALUES for _, _, value, _ in rows], np.uint32).reshape(-1, N_VALUES)
    for i, (_, _, _, different) in enumerate(rows):
        signatures[i, :different] = 100 + i
    places = np.zeros((len(rows), 16), np.uint8)
    places[:, 15] = np.arange(len(rows))
    buckets = np.array([row[0] for row in rows], np.int64)
    return Members(buckets, np.array([row[1] for row in rows], np.bool_), places, signatures)


def in_order(rows: list[tuple[int, bool, int, int]]) -> list[tuple[int, bool, int, int]]:
    return sorted(rows, key=lambda row: (row[0], not row[1]))


def plain(rows: Members, start: int = 0) -> tuple[list[tuple[int, int, int]], list[int]]:
    """Pairs (better, worse, equal) and the documents left, one after the other."""
    pairs, left = [], []
    leaders: dict[int, list[int]] = {}
    for i, bucket in enumerate(rows.buckets.tolist()):
        follows = False
        for leader in leaders.setdefault(bucket, []):
            if rows.published[i] and rows.published[leader]:
                continue
            equal = int(np.sum(rows.signatures[i] == rows.signatures[leader]))
            if equal >= LEAST:
                pairs.append((leader, i, equal))
            follows |= equal >= ENOUGH
        if not follows:
            (leaders[bucket] if len(leaders[bucket]) < MOST_LEADERS else left).append(i)
    return pairs, left


@given(documents, st.data())
def test_comparing_equals_plain_python_for_any_cutting(
    drawn: list[tuple[int, bool, int, int]], data: st.DataObject
) -> None:
    rows = members(in_order(drawn))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(drawn)), max_size=4)))
    leaders = Leaders(n_values=N_VALUES, least_equal=LEAST, enough_equal=ENOUGH, round_=1)
    pairs, left, keys = [], [], {}
    for start, end in zip([0, *cuts], [*cuts, len(drawn)], strict=True):
        found: Compared = leaders.compare(Members(*(column[start:end] for column in rows)))
        pairs += [
            (int(b[15]), int(w) + start, int(e)) for b, w, e in zip(found.better, found.worse, found.equal, strict=True)
        ]
        assert [bool(rows.published[b[15]]) for b in found.better] == found.better_published.tolist()
        left += [int(i) + start for i in found.left]
        keys |= {int(i) + start: int(k) for i, k in zip(found.left, found.left_buckets, strict=True)}
    assert (pairs, left) == plain(rows)
    for i in left:  # those of one bucket with the same values 4 to 7 go to one bucket, and no others
        for j in left:
            together = rows.buckets[i] == rows.buckets[j] and (rows.signatures[i, 4:8] == rows.signatures[j, 4:8]).all()
            assert (keys[i] == keys[j]) == together


@given(documents, st.data())
def test_each_document_is_linked_to_the_first_of_its_bucket_for_any_cutting(
    drawn: list[tuple[int, bool, int, int]], data: st.DataObject
) -> None:
    rows = [(bucket, published, bytes([i])) for i, (bucket, published, _, _) in enumerate(in_order(drawn))]
    columns = [list(column) for column in zip(*rows, strict=True)] or [[], [], []]
    types = (pa.int64(), pa.bool_(), pa.binary())
    table = pa.RecordBatch.from_arrays(
        [pa.array(column, kind) for column, kind in zip(columns, types, strict=True)], ["bucket", "published", "place"]
    )
    cuts = [0, *sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=6))), len(rows)]
    parts = [table.slice(a, b - a) for a, b in zip(cuts, cuts[1:], strict=False)]
    found = [tuple(row.values()) for part in _link(iter(parts)) for row in part.to_pylist()]
    sizes = {bucket: [row for row in rows if row[0] == bucket] for bucket, _, _ in rows}
    firsts = {bucket: members[0] for bucket, members in sizes.items()}
    assert found == [(*row, firsts[row[0]][2], firsts[row[0]][1]) for row in rows if len(sizes[row[0]]) > 1]


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
