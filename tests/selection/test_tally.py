"""Sums over groups of documents, compared with those of a loop, read by the driver and by Python workers."""

import math
from collections import defaultdict
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from betr_spark.selection import tally
from betr_spark.selection.tally import (
    ALL,
    DROPPED,
    KEPT,
    LOGITS,
    LONGEST,
    LOWEST,
    TOKENS,
    Groups,
    Part,
    Populations,
    Scored,
)

_SUMS = (tally.DOCUMENTS, TOKENS, LOWEST, LONGEST, LOGITS, tally.SQUARES)
_SCHEMA = "n_tokens int, a double, b float"


def _by_sign(scored: Scored) -> Groups:
    return Groups({"sign": np.sign(scored.logit).astype(np.int64)})


def _odd(scored: Scored) -> Groups:
    is_odd = scored.tokens % 2 == 1
    return Groups({"sign": scored.tokens[is_odd]}, is_odd)


def _documents(n: int) -> list[tuple[int, float | None, float | None]]:
    values = np.random.default_rng(5).integers(-3, 4, (n, 3))
    return [(int(t) + 4, None if a == 3 else float(a), None if b == -3 else float(b) / 2) for t, a, b in values]


def _expected(rows: list[Any], dropped: list[Any], kept: list[Any], column: int, group: Any) -> dict[int, list[float]]:
    found: dict[int, list[float]] = defaultdict(lambda: [0, 0, math.inf, 0, 0.0, 0.0, 0, 0])
    for sign, part in ((1, rows), (-1, dropped), (0, kept)):
        for row in part:
            if row[column] is None or (key := group(row, row[column])) is None:
                continue
            sums, tokens, logit = found[key], row[0], row[column]
            sums[0] += sign
            sums[1] += sign * tokens
            sums[2], sums[3] = min(sums[2], logit), max(sums[3], tokens)
            sums[4] += sign * logit
            sums[5] += sign * logit * logit
            sums[6] += sign == 0
            sums[7] += tokens * (sign == 0)
    return dict(found)


@pytest.mark.parametrize("in_memory", [True, False])
def test_sums_are_those_of_a_loop(spark: Any, in_memory: bool) -> None:
    rows = _documents(200)
    dropped, kept = rows[:20], rows[50:90]
    frames = [spark.createDataFrame(part, _SCHEMA).repartition(3) for part in (rows, dropped, kept)]
    parts = [Part(role, frame, {"x": "a", "y": "b"}) for role, frame in zip((ALL, DROPPED), frames, strict=False)]
    parts.append(Part(KEPT, frames[2].select("n_tokens", "a"), {"x": "a"}))
    with Populations(parts, in_memory=in_memory) as populations:
        found = populations.tally({"y": _odd, "x": _by_sign}, _SUMS)
        alone = populations.tally({"y": _by_sign}, (tally.DOCUMENTS,))
        assert populations.tally({}, _SUMS) == {}
    expected = {
        "x": _expected(rows, dropped, kept, 1, lambda _, logit: (logit > 0) - (logit < 0)),
        "y": _expected(rows, dropped, [], 2, lambda row, _: row[0] if row[0] % 2 else None),
    }
    names = ["sign", *_SUMS, tally.kept_name(tally.DOCUMENTS), tally.kept_name(TOKENS)]
    for name, table in found.items():
        columns = [table.column(column).to_pylist() for column in names]
        assert {row[0]: list(row[1:]) for row in zip(*columns, strict=True)} == expected[name]
    assert sum(alone["y"].column("documents").to_pylist()) == sum(r[2] is not None for r in rows) - sum(
        r[2] is not None for r in dropped
    )


def test_sums_of_a_task_do_not_depend_on_how_many_rows_are_packed_together(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = _documents(100)
    table = pa.table({"n_tokens": [row[0] for row in rows], "a": pa.array([row[1] for row in rows], pa.float64())})
    sum_up = partial(tally._summed, role=ALL, logits={0: "a"}, keys=[_by_sign], sums=_SUMS)
    found = []
    for at_once, pending in ((1 << 18, 1 << 20), (7, 3)):
        monkeypatch.setattr(tally, "_AT_ONCE", at_once)
        monkeypatch.setattr(tally, "_MAX_PENDING", pending)
        packed = list(tally._pack(iter(table.to_batches(max_chunksize=3))))
        numbered = [batch.append_column("part", pa.array([0])) for batch in packed]
        other = [batch.append_column("part", pa.array([1])) for batch in packed]
        sums = pa.Table.from_batches(tally._in_task(iter([*numbered, *other]), sum_ups={0: sum_up}))
        found.append(sums.sort_by("sign").to_pylist())
        assert len(packed) == (1 if at_once > 100 else 12)
    assert found[0] == found[1]
    assert sum(row["documents"] for row in found[0]) == sum(row[1] is not None for row in rows)


def test_populations_without_documents_have_no_group(spark: Any) -> None:
    nothing = spark.createDataFrame([], _SCHEMA)
    for in_memory in (True, False):
        with Populations([Part(ALL, nothing, {"x": "a"})], in_memory=in_memory) as populations:
            assert populations.tally({"x": _by_sign}, _SUMS)["x"].num_rows == 0
