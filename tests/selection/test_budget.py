"""Exact budgets and ranks against a brute-force sort, with masses of ties."""

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from betr_spark import ordering
from betr_spark.config import KeepConfig
from betr_spark.ordering import descending_key, with_rank
from betr_spark.schemas import DOC_ID, RANK
from betr_spark.selection.budget import fraction_of, with_order, within_budget

SCHEMA = "doc_id string, logit float, n_tokens int"


@given(
    st.lists(st.floats(allow_nan=False), min_size=2, max_size=20),
    st.sampled_from([np.float32, np.float64]),
)
@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")
def test_keys_order_as_logits_do(values: list[float], kind: Any) -> None:
    logits = np.array(values, kind)
    keys = descending_key(logits)
    for i in range(len(values)):
        assert np.array_equal(keys[i] < keys, logits[i] > logits)
        assert np.array_equal(keys[i] == keys, logits[i] == logits)


def test_a_fraction_is_taken_as_it_is_written() -> None:
    assert fraction_of(70, 0.1) == 7
    assert fraction_of(10**18, 0.3) == 3 * 10**17
    assert fraction_of(29, 1.0) == 29
    assert fraction_of(0, 0.5) == 0


def ranked(kept: Any) -> Any:
    return with_rank(kept, n_rows=kept.count(), materialise=lambda frame: frame.localCheckpoint())


def brute_force(rows: list[tuple[str, float, int, int]], budget: int, *, tokens: bool) -> list[str]:
    """Sort by logit down, hash, id; keep the longest prefix within the budget."""
    kept, total = [], 0
    for doc_id, _, n_tokens, _ in sorted(rows, key=lambda r: (-r[1], r[3], r[0])):
        total += n_tokens if tokens else 1
        if total > budget:
            break
        kept.append(doc_id)
    return kept


@pytest.mark.parametrize("distinct_logits", [1, 3, 100_000])
@pytest.mark.parametrize("small_driver", [False, True])
def test_prefix_and_ranks_equal_a_sort(
    spark: Any, distinct_logits: int, small_driver: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if small_driver:  # forces every level of 16 bits
        monkeypatch.setattr(ordering, "_ROWS_FOR_DRIVER", 1)
    pick = random.Random(distinct_logits)
    rows = [
        (f"d{i}", float(np.float32(pick.randrange(distinct_logits) / 7 - 3)), pick.choice([0, 1, 5, 100]))
        for i in range(700)
    ]
    ordered = with_order(spark.createDataFrame(rows, SCHEMA).repartition(3)).persist()
    full = [(r["doc_id"], r["logit"], r["n_tokens"], r["order_hash"]) for r in ordered.collect()]
    total = sum(row[2] for row in rows)
    for budget in (0, total // 3, total - 1, total):
        wanted = brute_force(full, budget, tokens=True)
        kept = ranked(within_budget(ordered, KeepConfig(tokens=budget), n_tokens=total))
        found = [row[DOC_ID] for row in kept.orderBy(RANK).collect()]
        assert found == wanted
    kept = ranked(within_budget(ordered, KeepConfig(documents=123), n_tokens=total)).orderBy(RANK).collect()
    assert [row[DOC_ID] for row in kept] == brute_force(full, 123, tokens=False)
    assert [row[RANK] for row in kept] == list(range(1, 124))
    ordered.unpersist()


def test_min_score_is_inclusive_and_null_logits_never_pass(spark: Any) -> None:
    rows = [("a", 0.0, 1), ("b", -0.001, 1), ("c", None, 1), ("d", 5.0, 1)]
    ordered = with_order(spark.createDataFrame(rows, SCHEMA))
    for keep, wanted in (
        (KeepConfig(min_score=0.5), "ad"),
        (KeepConfig(tokens=9), "abd"),
        (KeepConfig(min_score=0.0), "abd"),
    ):
        assert sorted(row[DOC_ID] for row in within_budget(ordered, keep, n_tokens=3).collect()) == list(wanted)


def test_an_empty_frame_gives_an_empty_selection(spark: Any) -> None:
    ordered = with_order(spark.createDataFrame([], SCHEMA))
    assert within_budget(ordered, KeepConfig(token_fraction=0.5), n_tokens=0).count() == 0
    assert ranked(ordered).count() == 0


def test_a_negative_budget_is_refused(spark: Any) -> None:
    with pytest.raises(ValueError, match="-1 is negative"):
        ordering.longest_prefix(spark.createDataFrame([], SCHEMA), budget=-1)
