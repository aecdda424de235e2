"""Links and rounds without Spark: grouping against plain Python, and rounds in memory against rounds of the caller."""

from collections import defaultdict
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from betr_spark.dedup.bucket_comparison import compare_in_buckets
from betr_spark.dedup.bucket_linker import Linked
from betr_spark.dedup.links import distinct_pairs, packed_links
from betr_spark.dedup.thresholds import Thresholds

N_VALUES = 24
Pair = tuple[int, int, bool, bool]


def keys(numbers: list[int]) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(n.to_bytes(20, "big") for n in numbers), np.uint8).reshape(-1, 20)


def number(key: NDArray[np.uint8]) -> int:
    return int.from_bytes(key.tobytes(), "big")


small_or_any = st.integers(0, 3) | st.integers(0, 2**160 - 1)


@given(
    st.lists(st.tuples(small_or_any, small_or_any, st.integers(-(2**63), 2**63 - 1)), max_size=80), st.integers(1, 5)
)
def test_links_of_a_document_are_in_one_part_and_become_distinct_pairs(
    rows: list[tuple[int, int, int]], n_parts: int
) -> None:
    """Documents with an even number are previously kept."""
    columns = list(zip(*rows, strict=True)) or [(), (), ()]
    earlier = [np.array([n % 2 == 0 for n in column], np.bool_) for column in columns[:2]]
    linked = Linked(np.array(columns[2], np.int64), earlier[0], keys([*columns[0]]), keys([*columns[1]]), earlier[1])
    parts = packed_links(linked, n_parts=n_parts)
    expected: dict[Pair, list[int]] = defaultdict(list)
    for document, first, bucket in rows:
        if document != first or document % 2 == 0:
            expected[document, first, document % 2 == 0, first % 2 == 0].append(bucket)
    found: dict[Pair, list[int]] = {}
    part_of: dict[int, int] = {}
    for i, part in enumerate(parts.parts.tolist()):
        pairs = distinct_pairs(parts.links[parts.bounds[i] : parts.bounds[i + 1]])
        for j, candidate in enumerate(pairs.candidate):
            flags = bool(pairs.previously_kept[j]), bool(pairs.keeper_previously_kept[j])
            pair = number(candidate), number(pairs.keeper[j]), *flags
            assert pair not in found
            assert part_of.setdefault(pair[0], part) == part
            found[pair] = sorted(pairs.buckets[pairs.bounds[j] : pairs.bounds[j + 1]].tolist())
    assert found == {pair: sorted(buckets) for pair, buckets in expected.items()}


def in_rounds(rows: list[dict[str, Any]], *, memory_bytes: int) -> tuple[set[tuple[Any, ...]], int]:
    """Compare until nothing is left; the pairs, and how often the caller sorted."""
    pairs: set[tuple[Any, ...]] = set()
    round_ = 0
    while rows:
        rows.sort(key=lambda row: (row["bucket"], not row["previously_kept"], row["rank_key"]))
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        arrays = [
            pa.array(columns["bucket"], pa.int64()),
            pa.array(columns["previously_kept"]),
            pa.array(columns["rank_key"], pa.binary()),
            pa.array(columns["signature"], pa.binary()),
        ]
        whole = pa.RecordBatch.from_arrays(arrays, ["bucket", "previously_kept", "rank_key", "signature"])
        batches = (whole.slice(start, 50) for start in range(0, len(rows), 50))
        limits = Thresholds(N_VALUES, 10, 18, N_VALUES)
        rows = []
        for batch in compare_in_buckets(batches, thresholds=limits, round_=round_, memory_bytes=memory_bytes):
            for row in batch.to_pylist():
                if row["keeper"] is None:
                    rows.append({name: row[name] for name in columns})
                else:
                    assert row["signature"] is None
                    names = ("keeper", "keeper_previously_kept", "rank_key", "equal")
                    pairs.add(tuple(row[name] for name in names))
        round_ += 1
    return pairs, round_


def test_rounds_in_memory_find_the_pairs_of_rounds_of_the_caller() -> None:
    """Three buckets of 400 documents in families of two or three; some were kept before."""
    pick = np.random.default_rng(5)
    rows = []
    for n in range(1200):
        family = pick.integers(0, 500)
        values = np.random.default_rng(family).integers(0, 6, N_VALUES).astype(np.uint8)
        values[:8] = 1  # two rounds do not split the buckets
        values[pick.integers(8, N_VALUES, 2)] = pick.integers(100, 200, 2)
        key = int(pick.integers(0, 2**62)).to_bytes(20, "little")
        kept = bool(pick.random() < 0.2)
        rows.append({"bucket": n % 3, "previously_kept": kept, "rank_key": key, "signature": values.tobytes()})
    pairs, n_rounds = in_rounds(list(rows), memory_bytes=0)
    assert n_rounds > 2
    assert len(pairs) > 500
    assert in_rounds(list(rows), memory_bytes=2**30) == (pairs, 1)
    some_in_memory, n_some = in_rounds(list(rows), memory_bytes=2**15)
    assert some_in_memory == pairs
    assert 1 < n_some <= n_rounds
