"""Repeats of documents on Spark: exact totals, order and cap, and the same counts for any partitions."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from betr_spark.config import Config, CurveConfig, SigmoidConfig, SoftCapConfig
from betr_spark.errors import DataError
from betr_spark.pipeline.run import run_all
from betr_spark.report.figures import selection_figures
from betr_spark.selection.budget import with_order
from betr_spark.selection.repetition import with_repeats
from betr_spark.selection.repetition_curve import expected_repeats, solve_power_curve
from betr_spark.storage import delta

SCHEMA = "doc_id string, logit double, n_tokens int"


@pytest.fixture
def materialise() -> Callable[[Any], Any]:
    return lambda frame: frame.localCheckpoint()


def corpus(logits: np.ndarray, tokens: np.ndarray) -> list[tuple[str, float, int]]:
    return [(f"d{n}", float(logit), int(size)) for n, (logit, size) in enumerate(zip(logits, tokens, strict=True))]


def repeated(
    spark: Any, rows: list[Any], target: int, materialise: Any, parts: int = 2, kind: Any = CurveConfig, **curve: Any
) -> dict[str, int]:
    ordered = with_order(spark.createDataFrame(rows, SCHEMA).repartition(parts)).persist()
    available = sum(row[2] for row in rows)
    settings = kind.model_validate(curve)
    kept = with_repeats(ordered, settings, available=available, target=target, where="s", materialise=materialise)
    counts = {row["doc_id"]: row["repeat_count"] for row in kept.select("doc_id", "repeat_count").collect()}
    ordered.unpersist()
    return counts


CORPORA = {
    "normal": lambda rng, n: rng.normal(-3, 1, n),
    "times": lambda rng, n: 1_700_000_000 + rng.permutation(n).astype(float),  # all in one coarse bin
    "grades": lambda rng, n: rng.integers(0, 3, n).astype(float),
    "equal": lambda rng, n: np.zeros(n),
}


def test_a_sigmoid_repeats_between_floor_and_cap_for_an_exact_total(spark: Any, materialise: Any) -> None:
    rng = np.random.default_rng(3)
    logits, tokens = rng.normal(0, 1, 1000), rng.integers(1, 50, 1000)
    rows, target = corpus(logits, tokens), 2 * int(tokens.sum())
    counts = repeated(spark, rows, target, materialise, kind=SigmoidConfig, temperature=0.05, floor=1, cap=4)
    total = sum(counts.get(doc_id, 0) * size for doc_id, _, size in rows)
    assert target - tokens.max() < total <= target
    given = np.array([counts.get(doc_id, 0) for doc_id, *_ in rows])[np.argsort(logits)]
    assert given.min() >= 0
    assert given.max() <= 5
    assert np.mean(given[:300]) == pytest.approx(1.0, abs=0.1)
    assert np.mean(given[-100:]) == pytest.approx(4.0, abs=0.2)
    soft = repeated(spark, rows, target, materialise, kind=SoftCapConfig, penalty=0.4, cap=3)
    total = sum(soft.get(doc_id, 0) * size for doc_id, _, size in rows)
    assert target - tokens.max() < total <= target
    given = np.array([soft.get(doc_id, 0) for doc_id, *_ in rows])[np.argsort(logits)]
    assert (given.max(), np.mean(given[-300:])) == (3, 3.0)
    assert np.mean(given[:50]) < 1
    with pytest.raises(DataError, match=r"s: \d+,?\d* tokens; [\d,]+ to [\d,]+ are possible: 1 to 4 repeats"):
        repeated(spark, rows, target // 3, materialise, kind=SigmoidConfig, floor=1, cap=4)


@pytest.mark.parametrize("kind", CORPORA)
@pytest.mark.parametrize("seed", [pytest.param(0, marks=pytest.mark.slow), pytest.param(1, marks=pytest.mark.slow), 2])
def test_the_total_is_exact_to_one_document(spark: Any, materialise: Any, kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 2000
    logits, tokens = CORPORA[kind](rng, n), rng.lognormal(5, 1, n).astype(int) + 1
    target = int(tokens.sum() * [0.3, 1.0, 2.0][seed])
    rows = corpus(logits, tokens)
    counts = repeated(spark, rows, target, materialise, drop=0.4, cap=7, seed=seed)
    total = sum(counts.get(doc_id, 0) * size for doc_id, _, size in rows)
    assert target - tokens.max() < total <= target
    assert min(counts.values()) >= 1

    order = np.argsort(logits, kind="stable")  # the worst first
    curve = solve_power_curve(int(tokens.sum()), target, drop=0.4, cap=7)
    exact = np.empty(n)
    for value in np.unique(logits):  # documents of equal score share their mean
        tied = logits[order] == value
        mean = expected_repeats(curve, tokens[order])[tied] @ tokens[order][tied] / tokens[order][tied].sum()
        exact[order[tied]] = mean
    given = np.array([counts.get(doc_id, 0) for doc_id, *_ in rows])
    assert (np.abs(given - exact) < 1 + 0.1 + 1).all()  # rounding, the bin, and one more or less for the total
    assert np.mean(np.abs(given - exact) < 1 + 0.1) > 0.95


def test_counts_do_not_depend_on_partitions_and_do_on_the_seed(spark: Any, materialise: Any) -> None:
    rng = np.random.default_rng(3)
    rows = corpus(rng.normal(size=500), rng.integers(1, 100, 500))
    target = sum(row[2] for row in rows)
    first = repeated(spark, rows, target, materialise, parts=1)
    assert first == repeated(spark, rows[::-1], target, materialise, parts=7)
    assert first != repeated(spark, rows, target, materialise, seed=1)


def test_drop_leaves_the_worst_out_and_equal_repeats_are_exact(spark: Any, materialise: Any) -> None:
    rows = corpus(np.arange(10.0), np.full(10, 5))
    counts = repeated(spark, rows, 60, materialise, drop=0.4, cap=7, max_exponent=0)
    assert counts == {f"d{n}": 2 for n in range(4, 10)}


def test_one_huge_document(spark: Any, materialise: Any) -> None:
    rows = [("huge", 1.0, 1000), ("small", 2.0, 10)]
    counts = repeated(spark, rows, 1500, materialise, drop=0.0)
    assert counts["huge"] == 1
    assert counts["huge"] * 1000 + counts.get("small", 0) * 10 <= 1500


def test_nothing_is_kept_of_nothing_and_for_nothing(spark: Any, materialise: Any) -> None:
    assert repeated(spark, [], 0, materialise) == {}
    assert repeated(spark, corpus(np.arange(5.0), np.full(5, 10)), 0, materialise) == {}


def test_a_total_above_the_cap_is_one_line(spark: Any, materialise: Any) -> None:
    rows = corpus(np.arange(10.0), np.full(10, 10))
    assert sum(repeated(spark, rows, 420, materialise).values()) == 42
    with pytest.raises(DataError, match=r"^s: 421 tokens; at most 420 are possible: 7 times 0.6 of 100 tokens$"):
        repeated(spark, rows, 421, materialise)


def settings(folder: Path, **selection: Any) -> Config:
    return Config.model_validate(
        {
            "input": {"path": str(folder / "docs"), "id": "id", "source": "source"},
            "output": str(folder / "out"),
            "scorers": {"v": {"kind": "expression", "column": "v"}},
            "selections": {"s": {"scorer": "v", **selection}},
        }
    )


def test_a_selection_has_the_column_and_its_figures_count_repeats(spark: Any, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    texts = [f"document number {n} is about item {n * 7} only" for n in range(40)]  # 8 tokens each
    table = {"id": [f"d{n:02d}" for n in range(40)], "text": texts, "v": range(40), "source": ["a", "b"] * 20}
    pq.write_table(pa.table(table), tmp_path / "docs/a.parquet")
    config = settings(tmp_path, keep={"tokens": 323}, sample={"curve": {"drop": 0.5, "cap": 4}})
    (*_, done) = run_all(spark, config)
    rows = delta.read(spark, config.table("selected/s")).orderBy("rank").collect()
    assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
    assert rows[0]["doc_id"] == "d39"
    assert rows[0]["repeat_count"] > rows[-1]["repeat_count"] >= 1
    assert all(row["doc_id"] >= "d20" for row in rows)
    assert sum(row["repeat_count"] * row["n_tokens"] for row in rows) == 320
    assert (done.metrics["repeated_tokens"], done.metrics["kept_tokens"]) == (320, 8 * len(rows))
    figures = selection_figures(spark, config, ["s"])["s"]
    assert (figures.n_documents, figures.n_tokens) == (len(rows), 320)
    of_a = sum(row["repeat_count"] for row in rows if row["source"] == "a") * 8 / 320
    assert {share.source: share.after for share in figures.shares}["a"] == pytest.approx(of_a)

    plain = settings(tmp_path, keep={"tokens": 16})
    (*_, done) = run_all(spark, plain)
    assert (
        "sample" not in json.loads(done.config)["selection"]
    )  # the key is that of earlier versions: no selection reruns
    assert "repeat_count" not in delta.read(spark, plain.table("selected/s")).columns


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"keep": {"documents": 5}}, "sample: keep.tokens is required"),
        ({"quota": {"source": {"a": 0.5}}}, "sample: cannot be given with quota or max_fraction"),
        ({"max_fraction": {"source": 0.5}}, "sample: cannot be given with quota or max_fraction"),
        ({"sample": {}}, "exactly one of curve, sigmoid and soft_cap"),
        ({"sample": {"curve": {}, "sigmoid": {}}}, "exactly one of curve, sigmoid and soft_cap"),
        ({"sample": {"sigmoid": {"floor": 2, "cap": 2}}}, "floor: 2 is not below cap"),
        ({"sample": {"curve": {"drop": 1.0}}}, "drop"),
        ({"sample": {"curve": {"cap": 0}}}, "cap"),
    ],
)
def test_invalid_settings(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        settings(tmp_path, **{"keep": {"tokens": 5}, "sample": {"curve": {}}, **changes})
