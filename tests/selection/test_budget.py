"""Exact budgets and ranks against a brute-force sort, with masses of ties."""

import math
import os
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import functions as F

from betr_spark import ordering
from betr_spark.config import KeepConfig, SelectionConfig, TrainingConfig
from betr_spark.errors import DataError
from betr_spark.ordering import descending_key
from betr_spark.schemas import DOC_ID, RANK
from betr_spark.selection.budget import (
    Budget,
    fraction_of,
    short_of_budget,
    with_group_numbers,
    with_order,
    within_budget,
    within_maximum,
    within_shares,
)
from betr_spark.selection.keep_rate import keep_rate
from betr_spark.selection.ranks import with_rank

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


@pytest.mark.parametrize("distinct_logits", [1, pytest.param(3, marks=pytest.mark.slow), 100_000])
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
        kept = ranked(within_budget(ordered, Budget.of(KeepConfig(tokens=budget), n_tokens=total)))
        found = [row[DOC_ID] for row in kept.orderBy(RANK).collect()]
        assert found == wanted
    kept = ranked(within_budget(ordered, Budget.of(KeepConfig(documents=123), n_tokens=total))).orderBy(RANK).collect()
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
        assert sorted(row[DOC_ID] for row in within_budget(ordered, Budget.of(keep, n_tokens=3)).collect()) == list(
            wanted
        )


def test_an_empty_frame_gives_an_empty_selection(spark: Any) -> None:
    ordered = with_order(spark.createDataFrame([], SCHEMA))
    assert within_budget(ordered, Budget.of(KeepConfig(token_fraction=0.5), n_tokens=0)).count() == 0
    assert ranked(ordered).count() == 0


def test_a_negative_budget_is_refused(spark: Any) -> None:
    with pytest.raises(ValueError, match="-1 is negative"):
        ordering.longest_prefix(spark.createDataFrame([], SCHEMA), budget=-1)


GROUPED = "doc_id string, logit double, n_tokens int, group string"
LOGITS = [0.0, -0.0, 1.5, -2.25, float("inf"), float("-inf"), 3.0]


def draw_case(pick: random.Random) -> tuple[list[tuple[Any, ...]], int, dict[str, float], float]:
    """Rows with ties, infinities, nulls and giants, a budget from 0 to above the corpus, shares and a maximum."""
    groups = [*pick.sample(["web", "code", "books", "it's \"", ""], pick.randint(1, 5)), None]
    rows = [
        (f"d{i}", pick.choice([*LOGITS, None]), pick.choice([0, 1, 2, 7, 1_000]), pick.choice(groups))
        for i in range(pick.randint(0, 40))
    ]
    total = sum(row[2] for row in rows if row[1] is not None)
    shares = {name: pick.choice([0.0, 0.1, 0.3, 0.25]) for name in pick.sample(["web", "code", "books", "absent"], 2)}
    return rows, pick.choice([0, 1, total // 3, total, 2 * total + 1]), shares, pick.choice([0.05, 0.3, 0.5, 1.0])


def greedy_shares(rows: list[Any], budget: int, shares: dict[str, float], weight: Any) -> set[str]:
    """Visit the ranking once; a group ends at its first document that does not fit into its amount."""
    of = {name: fraction_of(budget, share) for name, share in shares.items()}
    have = {name: sum(weight(row) for row in rows if row["group"] == name) for name in shares}
    used = {name: min(of[name], have[name]) for name in shares}
    left: dict[Any, int] = {**used, None: budget - sum(used.values())}
    return greedy(rows, left, lambda row: row["group"] if row["group"] in shares else None, weight)


def greedy(rows: list[Any], left: dict[Any, int], group_of: Any, weight: Any) -> set[str]:
    kept, ended = set(), set()
    for row in rows:
        group = group_of(row)
        left[group] -= weight(row)
        if left[group] < 0:
            ended.add(group)
        if group not in ended:
            kept.add(row["doc_id"])
    return kept


def greedy_maximum(rows: list[Any], budget: int, maximum: float, weight: Any) -> set[str]:
    """Visit the ranking once; a group ends at its first document that is too much for it, all at one that is for the budget."""
    most: dict[Any, int] = {row["group"]: fraction_of(budget, maximum) for row in rows}
    allowed = greedy(rows, most, lambda row: row["group"], weight)
    return greedy([row for row in rows if row["doc_id"] in allowed], {None: budget}, lambda _: None, weight)


@pytest.mark.parametrize("small_driver", [False, True])
def test_budgets_shares_and_maxima_equal_a_greedy_pass_over_the_ranking(
    spark: Any, small_driver: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if small_driver:
        monkeypatch.setattr(ordering, "_ROWS_FOR_DRIVER", 0)
    pick = random.Random(11)
    for _ in range(int(os.environ.get("CASES", "2"))):
        cases, budget, shares, maximum = draw_case(pick)
        by_documents = pick.random() < 0.3
        keep = KeepConfig(documents=budget) if by_documents else KeepConfig(tokens=budget)
        ordered = with_order(spark.createDataFrame(cases, GROUPED).repartition(2)).persist()
        rows = sorted(ordered.collect(), key=lambda row: (row["order_key"], row["order_hash"], row["doc_id"]))
        options = {"n_rows": 10**9 if small_driver else len(rows)}
        weight = (lambda _: 1) if by_documents else (lambda row: row["n_tokens"])
        given = Budget.of(keep, n_tokens=0)
        score, total = (
            pick.choice([0.0, 0.2, 0.5, 1.0]),
            sum(row["n_tokens"] for row in rows if row["logit"] is not None),
        )
        scored = [row for row in rows if row["logit"] is not None]
        above = [row for row in scored if 1 / (1 + math.exp(-row["logit"])) >= score]
        of_all = KeepConfig(token_fraction=maximum)
        for plain, left, among, of in (
            (keep, budget, scored, weight),
            (of_all, fraction_of(total, maximum), scored, lambda row: row["n_tokens"]),
            (KeepConfig(min_score=score), len(above), above, lambda _: 1),
        ):
            kept = within_budget(ordered, Budget.of(plain, n_tokens=total)).collect()
            assert {row["doc_id"] for row in kept} == greedy(among, {None: left}, lambda _: None, of), (cases, plain)
        numbered = with_group_numbers(ordered, shares)
        kept = within_shares(numbered, given, shares, where="quota.group", **options).collect()
        assert {row["doc_id"] for row in kept} == greedy_shares(rows, budget, shares, weight), (cases, budget, shares)
        assert sum(weight(row) for row in kept) <= budget
        kept = within_maximum(ordered, given, maximum, **options).collect()
        assert {row["doc_id"] for row in kept} == greedy_maximum(rows, budget, maximum, weight), (
            cases,
            budget,
            maximum,
        )
        ordered.unpersist()


def test_too_many_groups_above_their_maximum_are_refused(spark: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordering, "_MAX_ENDS", 2)
    rows = [(f"d{i}", float(i), 5, f"g{i % 3}") for i in range(9)]
    ordered = with_order(spark.createDataFrame(rows, GROUPED))
    budget = Budget.of(KeepConfig(tokens=60), n_tokens=0)
    assert within_maximum(ordered, budget, 1.0, n_rows=10**9).count() == 9
    with pytest.raises(DataError, match="more than 2 groups are above their maximum"):
        within_maximum(ordered, budget, 0.1, n_rows=10**9)


def test_a_group_that_is_too_small_leaves_its_rest_to_others_and_says_so(spark: Any, caplog: Any) -> None:
    rows = [("a", 9.0, 3, "code"), ("b", 8.0, 5, "web"), ("c", 7.0, 5, "web"), ("d", 6.0, 5, None)]
    ordered = with_order(spark.createDataFrame(rows, GROUPED))
    budget = Budget.of(KeepConfig(tokens=13), n_tokens=0)
    numbered = with_group_numbers(ordered, ["code"])
    kept = within_shares(numbered, budget, {"code": 0.7}, n_rows=4, where="selections.s.quota.source").collect()
    assert sorted(row["doc_id"] for row in kept) == ["a", "b", "c"]
    assert "selections.s.quota.source: 'code' has only 3 of 9; other documents fill the rest" in caplog.text
    with pytest.raises(DataError, match=r"selections.s.quota.source: 20 in all, but the whole budget is 13"):
        within_shares(ordered, budget, {"code": 12.0, "web": 8.0}, n_rows=4, where="selections.s.quota.source")


@pytest.mark.parametrize(
    ("training", "per_cent", "in_range"),
    [
        ({"flops": 1e21}, 7.1, True),
        ({"flops": 1e21, "law": "dclm-refinedweb"}, 5.2, True),
        ({"flops": 1e23}, 22.5, False),
        ({"flops": 1e23, "law": "dclm-refinedweb"}, 10.0, False),
        ({"parameters": 7e9, "tokens": 140e9}, 11.1, True),
        ({"tokens": 1.4e12, "law": "fixed-6.6b"}, 9.8, False),
        ({"flops": 1e40}, 100.0, False),
    ],
)
def test_keep_rates_are_those_of_the_published_laws(training: dict[str, Any], per_cent: float, in_range: bool) -> None:
    rate = keep_rate(TrainingConfig(**training))
    assert 100 * rate.fraction == pytest.approx(per_cent, abs=0.07)
    assert rate.in_range == in_range


def test_rows_of_one_key_and_one_hash_are_told_apart_by_their_ids(spark: Any) -> None:
    schema = "group string, order_key bigint, order_hash bigint, doc_id string, weight bigint"
    rows = [("a", 1, 7, doc_id, 2) for doc_id in "dbca"] + [(None, 1, 7, "x", 9), (None, 1, 8, "y", 9)]
    frame = spark.createDataFrame(rows, schema)
    ends = ordering.ends_of_prefixes(frame, lambda _: F.when(F.col("group") == "a", 5).otherwise(9).cast("bigint"))
    assert sorted(ends, key=str) == [("a", 1, 7, "c"), (None, 1, 8, "")]
    assert sorted(row["doc_id"] for row in ordering.in_prefixes(frame, ends).collect()) == ["a", "b", "x"]


def test_groups_have_the_position_of_their_name(spark: Any) -> None:
    names = ["web", "it's \"", "", None, "code"]
    rows = spark.createDataFrame([(name,) for name in names], "group string")
    assert [row["group"] for row in with_group_numbers(rows, ["", "code", "it's \"", "absent"]).collect()] == [
        -1,
        2,
        0,
        -1,
        1,
    ]
    assert {row["group"] for row in with_group_numbers(rows, []).collect()} == {-1}


@pytest.mark.parametrize(
    ("keep", "more", "left", "expected"),
    [
        (
            {"tokens": 500},
            {},
            5,
            "300 of the 500 tokens that were asked for; the next document is longer than what is left",
        ),
        ({"token_fraction": 0.5}, {}, 0, "300 of the 500 tokens that were asked for"),
        ({"documents": 40}, {"quota": {"source": {"a": 0.5}}}, 5, "30 of the 40 documents that were asked for"),
        ({"tokens": 301}, {}, 5, None),
        ({"min_score": 0.5}, {}, 5, None),
        ({"tokens_of": "other"}, {}, 5, None),
    ],
)
def test_a_selection_that_is_short_of_its_budget_says_so(keep: Any, more: Any, left: int, expected: str | None) -> None:
    selection = SelectionConfig.model_validate({"scorer": "s", "keep": keep, **more})
    line = short_of_budget(selection, documents=30, tokens=300, eligible=1000, left=left)
    assert (line is None) == (expected is None)
    assert line is None or line.removeprefix("the selection has ").startswith(str(expected))
    assert line is None or ("longer" in line) == ("longer" in str(expected))
