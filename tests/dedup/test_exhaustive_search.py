"""Similarity of a stream with many sets, against plain Python sets."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from betr_spark.dedup.exhaustive_search import Index, exhaustive_search

sets = st.lists(st.sets(st.integers(0, 12).map(lambda n: n * 0x9E3779B97F4A7C15 % 2**64), max_size=8), max_size=8)


def flat(drawn: list[set[int]]) -> tuple[np.ndarray, np.ndarray]:
    hashes = np.array([value for values in drawn for value in sorted(values)], np.uint64)
    return hashes, np.cumsum([0, *map(len, drawn)]).astype(np.int64)


@given(sets, sets, st.sampled_from([0.2, 0.5, 1.0]))
def test_exhaustive_search_equals_plain_python(known: list[set[int]], stream: list[set[int]], least: float) -> None:
    matches = exhaustive_search(*flat(stream), Index.of(*flat(known)), least=least)
    pairs = {(int(r), int(s)): float(v) for r, s, v in zip(matches.rows, matches.sets, matches.similarity, strict=True)}
    expected = {
        (i, j): len(left & right) / len(left | right)
        for i, left in enumerate(stream)
        for j, right in enumerate(known)
        if left & right and len(left & right) / len(left | right) >= least
    }
    assert pairs == expected
    assert len(pairs) == len(matches.rows)
