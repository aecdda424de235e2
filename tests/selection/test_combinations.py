"""Combined scorers, the balance over benchmarks and controls, against plain Python."""

import math
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import functions as F

from betr_spark.config import Config, KeepConfig
from betr_spark.dedup.stage import Dedup
from betr_spark.errors import BetrSparkError, DataError
from betr_spark.features.stage import Features
from betr_spark.pipeline.check import problems_of_run
from betr_spark.pipeline.run import run_all
from betr_spark.pipeline.stage import RunContext
from betr_spark.schemas import CHOSEN_FOR, LOGIT
from betr_spark.scoring.combination import with_combined_logits
from betr_spark.selection.benchmark_balance import with_balanced_logit
from betr_spark.selection.budget import Budget, with_order, within_budget
from betr_spark.selection.equal_recall import equal_recall_weights, recalls, value
from betr_spark.selection.planner import outlooks
from betr_spark.selection.stage import Select
from betr_spark.storage import delta

VALUES = [0.0, -0.0, 1.5, -2.25, float("inf"), float("-inf"), 3.0, None]
SCHEMA = "doc_id string, n_tokens int, logit_a double, logit_b double"
Row = tuple[str, int, float | None, float | None]


def settings(**combination: Any) -> Config:
    scorers = {name: {"kind": "expression", "column": name} for name in ("a", "b")}
    best = {"kind": "combine", "of": {"a": 0.5, "b": 2.0}, **combination}
    values = {"input": {"path": "docs"}, "output": "out", "scorers": {**scorers, "best": best}, "selections": {}}
    return Config.model_validate(values)


def position(rows: list[Row], column: int, value: float | None) -> float:
    known = [(row[column], row[1]) for row in rows if row[column] is not None]
    assert value is not None
    higher = sum(tokens for score, tokens in known if score > value)
    return (higher + sum(tokens for score, tokens in known if score == value) / 2) / max(1, sum(t for _, t in known))


def drawn(pick: random.Random, n: int) -> list[Row]:
    return [(f"d{i}", pick.choice([0, 1, 5, 100]), pick.choice(VALUES), pick.choice(VALUES)) for i in range(n)]


@pytest.mark.parametrize("by", ["rank", "product", "best_rank"])
def test_percentiles_are_combined_by_their_formula(spark: Any, by: str) -> None:
    rows = drawn(random.Random(by), 60)
    frame = spark.createDataFrame(rows, SCHEMA).repartition(3)
    scored = with_combined_logits(frame, settings(by=by), ["a", "best"]).collect()
    assert len(scored) == len(rows)
    for row in scored:
        if row["logit_a"] is None or row["logit_b"] is None:
            assert row["logit_best"] is None
            continue
        a, b = (1 - position(rows, column, row[f"logit_{name}"]) for column, name in ((2, "a"), (3, "b")))
        expected = {"rank": 0.2 * a + 0.8 * b, "product": a**0.2 * b**0.8, "best_rank": max(1 - (1 - a) * 4, b)}[by]
        assert 1 / (1 + math.exp(-row["logit_best"])) == pytest.approx(expected, abs=1e-9)


def test_a_combination_names_scorers_with_a_logit() -> None:
    with pytest.raises(ValueError, match=r"scorers.best.of: 'random' is not a scorer with a logit; these are: a, b"):
        settings(of={"a": 1, "random": 1})
    with pytest.raises(ValueError, match=r"scorers.best.of: 'best' is not a scorer"):
        settings(of={"a": 1, "best": 1})


def test_a_balanced_prefix_has_the_same_part_of_each_benchmark(spark: Any) -> None:
    """Three benchmarks, one of them unlike the others: against the formula, and against one ranking for all."""
    targets = {name: {"path": name, "template": "{q}"} for name in ("one", "two", "odd")}
    selection = {"scorer": "betr", "keep": {"token_fraction": 0.1}, "balance": "benchmarks"}
    values = {"input": {"path": "docs"}, "output": "out", "targets": targets, "selections": {"s": selection}}
    config = Config.model_validate({**values, "scorers": {"betr": {"per_benchmark": True}}})
    pick = np.random.default_rng(4)
    n = 3_000
    shared = pick.normal(size=n)
    scores = np.stack([shared + pick.normal(size=n) / 2, shared + pick.normal(size=n) / 2, pick.normal(size=n)])
    scores[:, :50] = scores[:, :1]  # ties
    tokens = pick.integers(1, 40, n)
    rows = [(f"d{i}", int(tokens[i]), *map(float, scores[:, i])) for i in range(n)]
    schema = "doc_id string, n_tokens int, logit_betr_one double, logit_betr_two double, logit_betr_odd double"
    frame = spark.createDataFrame(rows, schema).repartition(3)
    keep = config.selections["s"].keep
    balanced = with_order(with_balanced_logit(frame, frame, config, "betr", keep)).persist()
    budget = Budget.of(keep, n_tokens=int(tokens.sum()))
    kept_ids = {row["doc_id"] for row in within_budget(balanced, budget, n_rows=n).collect()}
    kept = np.array([f"d{i}" in kept_ids for i in range(n)])
    assert budget.amount - 40 < tokens[kept].sum() <= budget.amount
    tuples = [(doc_id, count, *each) for doc_id, count, *each in rows]
    depth = np.array([[position(tuples, 2 + b, float(scores[b, i])) for b in range(3)] for i in range(n)]) / 0.1
    recall = recalls(kept, depth, tokens)
    assert recall.max() - recall.min() < 0.02
    weights = equal_recall_weights(depth * 0.1, tokens, fraction=0.1)
    parts = value(depth) * weights / weights.sum()
    for row in balanced.collect():
        part = parts[int(row["doc_id"][1:])]
        assert 1 / (1 + math.exp(-row[LOGIT])) == pytest.approx(
            part.sum(), abs=0.02
        )  # bins are interpolated, weights too
        of_row = depth[int(row["doc_id"][1:])]
        assert of_row[list(targets).index(row[CHOSEN_FOR])] == pytest.approx(of_row.min(), rel=1e-2)
    plain = np.zeros(n, bool)
    order = np.argsort(-scores.mean(axis=0))
    plain[order[np.cumsum(tokens[order]) <= budget.amount]] = True
    assert recalls(plain, depth, tokens).min() < recall.min() - 0.05
    again = with_balanced_logit(frame.repartition(7), frame.repartition(5), config, "betr", keep)
    assert {row["doc_id"]: row[LOGIT] for row in again.collect()} == {
        row["doc_id"]: row[LOGIT] for row in balanced.collect()
    }
    balanced.unpersist()


def test_a_balance_equals_its_formula_on_random_cases(spark: Any) -> None:
    """Ties, infinities, both zeros, documents without tokens, one larger than the budget, no document.

    Each document with tokens has more than 1/1024 of them, so each score has a bin of its own.
    """
    pick = random.Random(5)
    names = ["one", "two", "odd"]
    config = Config.model_validate({
        "input": {"path": "docs"}, "output": "out", "selections": {},
        "targets": {name: {"path": name, "template": "{q}"} for name in names},
        "scorers": {"betr": {"per_benchmark": True}},
    })  # fmt: skip
    schema = ", ".join(["doc_id string", "n_tokens int", *[f"logit_betr_{name} double" for name in names]])
    for _ in range(int(os.environ.get("CASES", "2"))):
        n, scores = pick.choice([0, 1, pick.randint(2, 60)]), [score for score in VALUES if score is not None]
        if pick.random() < 0.5:
            scores = [pick.gauss(0, 1) for _ in range(200)]
        rows = [(f"d{i}", pick.choice([0, 40, 100, 400]), *[pick.choice(scores) for _ in names]) for i in range(n)]
        eligible = [row for row in rows if pick.random() < 0.8] if pick.random() < 0.5 else rows
        total = sum(row[1] for row in eligible)
        rule, amount = pick.choice(
            [("tokens", total // 3), ("tokens", 0), ("tokens", 2 * total), ("documents", n // 2)]
        )
        keep = KeepConfig.model_validate({rule: amount})
        frame, population = (spark.createDataFrame(part, schema).repartition(2) for part in (rows, eligible))
        balanced = with_balanced_logit(frame, population, config, "betr", keep).collect()
        order = [F.xxhash64(F.lit("balance"), "doc_id"), F.col("doc_id")]
        sampled = [tuple(row) for row in population.orderBy(*order).collect()]
        fraction = max(1e-9, min(1.0, amount / max(1, total if rule == "tokens" else len(eligible))))
        at = {row[0]: np.array([position(eligible, 2 + b, row[2 + b]) for b in range(3)]) for row in eligible}
        depths = np.array([at[row[0]] for row in sampled]).reshape(-1, 3)
        n_tokens = np.array([row[1] for row in sampled], np.int64)
        weights = equal_recall_weights(depths, n_tokens, fraction=fraction)
        assert len(balanced) == n
        for row in balanced:
            if row["doc_id"] in at:
                values = value(at[row["doc_id"]] / fraction) * weights / weights.sum()
                logit = math.log(max(values.sum(), 1e-300)) - math.log(max(1 - values.sum(), 1e-300))
                assert row[LOGIT] == pytest.approx(logit, abs=1e-6, rel=1e-6) or values.sum() > 1 - 1e-9, (rows, keep)
                assert row[CHOSEN_FOR] == names[int(np.argmin(at[row["doc_id"]].round(12)))], (rows, keep)


@pytest.mark.parametrize("keep", [{"documents": 0}, {"tokens": 10**12}, {"documents": 3}, {"token_fraction": 1.0}])
def test_a_balance_at_the_ends_of_the_budget(spark: Any, keep: dict[str, Any]) -> None:
    config = Config.model_validate({
        "input": {"path": "docs"}, "output": "out", "targets": {"one": {"path": "t", "template": "{q}"}},
        "scorers": {"betr": {"per_benchmark": True}},
        "selections": {"s": {"scorer": "betr", "keep": keep, "balance": "benchmarks"}},
    })  # fmt: skip
    frame = spark.createDataFrame(
        [(f"d{i}", i, float(i % 3)) for i in range(5)], "doc_id string, n_tokens int, logit_betr_one double"
    )
    for rows in (frame, frame.limit(0)):
        balanced = with_order(with_balanced_logit(rows, rows, config, "betr", config.selections["s"].keep))
        budget = Budget.of(config.selections["s"].keep, n_tokens=10)
        assert within_budget(balanced, budget).count() == min(rows.count(), keep.get("documents", 5))


@pytest.fixture(scope="module")
def scored(spark: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """40 documents of three sources, one of them null; `a` is best for the first ones, `b` for the last ones."""
    folder = tmp_path_factory.mktemp("combinations")
    (folder / "docs").mkdir()
    n = 40
    columns = {
        "id": [f"d{i:02d}" for i in range(n)],
        "text": [f"document {i} about item {i * 7}" for i in range(n)],
        "a": [float(n - i) for i in range(n)],
        "b": [float(i) for i in range(n)],
        "site": [None if i % 8 == 7 else "web" if i % 4 else "books" for i in range(n)],
    }
    pq.write_table(pa.table(columns), folder / "docs/a.parquet")
    values = {
        "input": {"path": str(folder / "docs"), "id": "id", "source": "site"},
        "output": str(folder / "out"),
        "scorers": {
            **{name: {"kind": "expression", "column": name} for name in ("a", "b")},
            "draw": {"kind": "random", "seed": 3},
            "ends": {"kind": "combine", "of": {"a": 1, "b": 1}, "by": "best_rank"},
        },
        "selections": {
            "zz-control": {"scorer": "draw", "keep": {"tokens_of": "best"}},
            "stratified": {"scorer": "random", "keep": {"tokens_of": "best"}, "stratified": True},
            "best": {"scorer": "ends", "keep": {"documents": 10}},
            "curriculum": {
                "scorer": "a",
                "keep": {"documents": 20},
                "phases": [{"name": "broad", "tokens": 130}, {"name": "final", "tokens": 50, "keep": {"documents": 5}}],
            },
            "as-often": {"scorer": "draw", "keep": {"tokens_of": "curriculum"}},
        },
    }
    run_all(spark, Config.model_validate(values))
    return values


def kept(spark: Any, values: dict[str, Any], name: str) -> list[Any]:
    rows: list[Any] = delta.read(spark, f"{values['output']}/selected/{name}").orderBy("rank").collect()
    return rows


def test_a_combination_is_selected_by_planned_and_picks_survivors(spark: Any, scored: dict[str, Any]) -> None:
    rows = kept(spark, scored, "best")
    assert {row["doc_id"] for row in rows} == {f"d{i:02d}" for i in [*range(5), *range(35, 40)]}
    assert [row["logit"] for row in rows] == sorted((row["logit"] for row in rows), reverse=True)
    outlook = {outlook.scorer: outlook for outlook in outlooks(RunContext(spark, Config.model_validate(scored)))}[
        "ends"
    ]
    assert outlook.documents == 40
    changed = {**scored, "dedup": {"survivor": "ends"}, "selections": {}}
    runs = {run.stage: run for run in run_all(spark, Config.model_validate(changed))}
    assert (runs["features"].skipped, runs["dedup"].skipped) == (True, False)


def test_other_weights_are_another_key_and_read_no_text(spark: Any, scored: dict[str, Any]) -> None:
    values = {**scored, "dedup": {"survivor": "ends"}}
    ends = {"kind": "combine", "of": {"a": 2, "b": 1}}
    other = {**values, "scorers": {**scored["scorers"], "ends": ends}}
    before, after = (RunContext(spark, Config.model_validate(each)) for each in (values, other))
    for stage, same in ((Features(), True), (Dedup(), False), (Select("best"), False), (Select("zz-control"), False)):
        assert (stage.key(before).key == stage.key(after).key) == same, stage.name


def test_a_part_s_settings_are_in_the_keys(spark: Any, scored: dict[str, Any], tmp_path: Path) -> None:
    targets = {"t": {"path": "none", "template": "{q}"}}
    keys = []
    for dsir in ({"kind": "dsir"}, {"kind": "dsir", "noise": True, "seed": 1}):
        scorers = {**scored["scorers"], "dsir": dsir, "ends": {"kind": "combine", "of": {"a": 1, "dsir": 1}}}
        values = {**scored, "scorers": scorers, "targets": targets, "dedup": {"survivor": "ends"}}
        context = RunContext(spark, Config.model_validate(values))
        keys.append([stage.key(context).key for stage in (Dedup(), Select("best"), Select("curriculum"))])
    assert [one == other for one, other in zip(*keys, strict=True)] == [False, False, True]


def test_conditions_do_not_see_a_combination(spark: Any, scored: dict[str, Any]) -> None:
    selections = {**scored["selections"], "other": {"scorer": "a", "keep": {"documents": 1}, "where": "logit_ends > 0"}}
    config = Config.model_validate({**scored, "selections": selections})
    with pytest.raises(BetrSparkError, match="logit_ends"):
        run_all(spark, config, "select")
    assert any("logit_ends" in line for line in problems_of_run(RunContext(spark, config)))


def test_a_missing_logit_is_named(spark: Any, scored: dict[str, Any]) -> None:
    scorers = {**scored["scorers"], "c": {"kind": "expression", "column": "a"}}
    scorers["ends"] = {"kind": "combine", "of": {"a": 1, "c": 1}}
    with pytest.raises(DataError, match="no column 'logit_c'; add it with `betr-spark features`"):
        run_all(spark, Config.model_validate({**scored, "scorers": scorers}), "select")


def test_duplicates_stay_removed_when_files_are_added(spark: Any, tmp_path: Path) -> None:
    def write(name: str, first: int, copies: int) -> None:
        words = [" ".join(f"w{(i * 31 + k * k) % 211}" for k in range(80)) for i in range(first, first + 8)]
        texts = [text if c == 0 else f"{text} end{c}" for c in range(copies) for text in words]
        ids = [f"{name}{i:02d}" for i in range(len(texts))]
        values = {
            "id": ids,
            "text": texts,
            "a": [float(i) for i in range(len(ids))],
            "b": [-float(i) for i in range(len(ids))],
        }
        pq.write_table(pa.table(values), tmp_path / f"docs/{name}.parquet")

    (tmp_path / "docs").mkdir()
    write("one", 0, 2)
    scorers = {name: {"kind": "expression", "column": name} for name in ("a", "b")}
    scorers["ends"] = {"kind": "combine", "of": {"a": 2, "b": 1}}
    values = {"input": {"path": str(tmp_path / "docs"), "id": "id"}, "output": str(tmp_path / "out"), "selections": {}}
    config = Config.model_validate({**values, "scorers": scorers, "dedup": {"survivor": "ends"}})
    run_all(spark, config)
    assert delta.read(spark, config.table("duplicates")).count() == 8
    write("two", 50, 1)
    run_all(spark, config)
    assert delta.read(spark, config.table("duplicates")).count() == 8


def test_controls_have_the_tokens_of_the_selection_and_its_sources(spark: Any, scored: dict[str, Any]) -> None:
    best, control, stratified = (kept(spark, scored, name) for name in ("best", "zz-control", "stratified"))
    tokens = sum(row["n_tokens"] for row in best)
    assert sum(row["n_tokens"] for row in control) == tokens
    assert {row["doc_id"] for row in control} != {row["doc_id"] for row in best}

    def by_source(rows: list[Any]) -> dict[Any, int]:
        return {s: sum(r["n_tokens"] for r in rows if r["source"] == s) for s in {r["source"] for r in rows}}

    assert by_source(stratified) == by_source(best)
    assert by_source(control) != by_source(best)


def test_phases_are_written_as_one_table(spark: Any, scored: dict[str, Any]) -> None:
    runs = delta.read(spark, f"{scored['output']}/runs").where("stage = 'select/curriculum'").collect()
    run = next(row for row in runs if row["metrics"]["repeated_tokens"] == 180)
    assert (run["rows_out"], run["dropped"]["below_cut"], run["metrics"]["kept_tokens"]) == (25, 20, 100)
    rows = kept(spark, scored, "curriculum")
    assert [row["rank"] for row in rows] == list(range(1, 26))
    assert [row["phase"] for row in rows] == ["broad"] * 20 + ["final"] * 5
    assert [row["doc_id"] for row in rows if row["phase"] == "final"] == [f"d{i:02d}" for i in range(5)]
    assert {row["repeat_count"] for row in rows if row["phase"] == "final"} == {2}
    assert sum(row["n_tokens"] * row["repeat_count"] for row in rows if row["phase"] == "broad") == 130
    assert all(
        row["text"] == f"document {int(row['doc_id'][1:])} about item {int(row['doc_id'][1:]) * 7}" for row in rows
    )
    assert sum(row["n_tokens"] for row in kept(spark, scored, "as-often")) == 180


def test_a_control_follows_its_selection(spark: Any, scored: dict[str, Any]) -> None:
    values = {**scored, "selections": {**scored["selections"], "best": {"scorer": "a", "keep": {"documents": 3}}}}
    runs = {run.stage: run for run in run_all(spark, Config.model_validate(values), "select")}
    assert not runs["select/zz-control"].skipped
    assert len(kept(spark, scored, "zz-control")) == 3
    one = {**values, "selections": {name: values["selections"][name] for name in ("best", "stratified")}}
    one["selections"]["stratified"] = {**one["selections"]["stratified"], "where": "logit_a < 100"}
    runs = {run.stage: run for run in run_all(spark, Config.model_validate(one), "select")}
    assert (runs["select/best"].skipped, runs["select/stratified"].skipped) == (True, False)
    assert len(kept(spark, scored, "stratified")) == 3


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ({"keep": {"tokens_of": "nothing"}}, "selections.s.keep.tokens_of: 'nothing' is not a selection with a budget"),
        ({"keep": {"tokens_of": "s"}}, "selections.s.keep.tokens_of: 's' is not a selection with a budget"),
        ({"keep": {"documents": 3}, "stratified": True}, "stratified: keep.tokens_of is required"),
        ({"keep": {"documents": 3}, "balance": "benchmarks"}, "selections.s.balance: benchmark scorers are required"),
    ],
)
def test_wrong_settings_are_named(selection: dict[str, Any], message: str) -> None:
    values = {
        "input": {"path": "docs"}, "output": "out", "scorers": {"a": {"kind": "expression", "column": "a"}},
        "selections": {"s": {"scorer": "a", **selection}, "t": {"scorer": "a", "keep": {"documents": 1}}},
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        Config.model_validate(values)
