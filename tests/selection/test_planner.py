"""Keep rates: what the planner says against the selection itself."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from betr_spark.cli.plan_command import _table
from betr_spark.config import Config
from betr_spark.pipeline.run import run_all
from betr_spark.pipeline.stage import RunContext
from betr_spark.selection.planner import laws, outlooks
from betr_spark.selection.score_histogram import Histogram, bin_numbers
from betr_spark.storage import delta


def test_the_planner_says_what_the_selection_keeps_and_reads_no_text(spark: Any, tmp_path: Path) -> None:
    pick, n = random.Random(2), 300
    (tmp_path / "docs").mkdir()
    columns = {
        "id": [f"d{i:03d}" for i in range(n)],
        "text": [f"document {i} " + "word " * pick.randint(1, 30) for i in range(n)],
        "quality": [pick.gauss(0, 3) for _ in range(n)],
        "site": [pick.choice(["a", "b", None]) for _ in range(n)],
    }
    pq.write_table(pa.table(columns), tmp_path / "docs/a.parquet")
    values = {
        "input": {"path": str(tmp_path / "docs"), "id": "id", "source": "site"},
        "output": str(tmp_path / "out"),
        "scorers": {"quality": {"kind": "expression", "column": "quality"}},
        "selections": {"s": {"scorer": "quality", "keep": {"token_fraction": 0.3}}},
    }
    config = Config.model_validate(values)
    assert outlooks(RunContext(spark, config)) == []  # before features
    run_all(spark, config)
    (tmp_path / "docs/a.parquet").unlink()  # the text is not there any more
    (outlook,) = outlooks(RunContext(spark, config), rates=(0.3, 1.0), train_tokens=10_000.0)
    selected = delta.read(spark, config.table("selected/s")).toPandas()
    survivors = outlook.documents
    assert outlook.scorer == "quality"
    assert outlook.tokens == pytest.approx(selected.n_tokens.sum() / 0.3, rel=0.02)
    cut, everything = outlook.cuts
    assert abs(cut.documents - len(selected)) <= 1
    assert cut.tokens - 35 < selected.n_tokens.sum() <= cut.tokens
    assert cut.score == cut.logit <= selected.logit.min()  # of an expression scorer, what min_score is compared with
    assert cut.epochs == pytest.approx(10_000 / cut.tokens)
    assert set(outlook.source_tokens) == {"a", "b", "(none)"}
    assert sum(outlook.source_tokens.values()) == outlook.tokens
    assert abs(sum(cut.source_tokens.values()) - cut.tokens) < 35
    assert (everything.documents, everything.tokens) == (survivors, outlook.tokens)
    lines = _table(outlook)
    assert lines[0] == "keep rates by quality (tokens: words)"
    assert lines[3].split()[:2] == ["30", "%"]


def test_documents_with_one_score_are_cut_in_proportion(spark: Any, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    texts = [f"document {i} has these five" for i in range(50)]
    pq.write_table(pa.table({"text": texts, "quality": [1.0] * 50}), tmp_path / "docs/a.parquet")
    values = {
        "input": {"path": str(tmp_path / "docs")},
        "output": str(tmp_path / "out"),
        "scorers": {"quality": {"kind": "expression", "column": "quality"}},
    }
    config = Config.model_validate(values)
    run_all(spark, config, "features")
    (outlook,) = outlooks(RunContext(spark, config), rates=(0.1,))
    assert [(cut.documents, cut.tokens, cut.logit) for cut in outlook.cuts] == [(5, 25, 1.0)]
    assert outlook.cuts[0].source_tokens == {"(none)": 25}  # of all documents at the cut, a part


def test_a_document_that_does_not_fit_is_in_no_cut() -> None:
    documents, tokens, none = np.array([2, 1]), np.array([20, 1000]), np.zeros(2, np.int64)
    bins = Histogram(np.array([1, 2]), documents, tokens, np.array([3.0, 2.0]), none, 0)
    cut = bins.cut(0.5, 510, 100.0, by_value=True)
    assert (cut.documents, cut.tokens, cut.logit, cut.epochs) == (2, 20, 3.0, 5.0)


def test_laws_that_apply() -> None:
    assert list(laws(1e21, None)) == ["nemotron-cc", "dclm-refinedweb"]
    assert list(laws(None, 1e12)) == ["fixed-6.6b"]
    assert laws(None, None) == {}


def test_bins_follow_the_logits_and_fine_ones_are_parts_of_coarse_ones() -> None:
    edges = [sign * 2.0**power for power in (-1074, -1022, -30, -1, 0, 1, 9, 1023) for sign in (-1, 1)]
    values = np.array([*edges, 0.0, -0.0, np.inf, -np.inf, *np.random.default_rng(1).normal(0, 5, 500)])
    values = np.unique(np.concatenate([values, np.nextafter(values, 0), np.nextafter(values, np.inf)]))
    coarse, fine = bin_numbers(values, 8), bin_numbers(values, 24)
    assert (np.diff(coarse) <= 0).all()
    assert (np.diff(fine) <= 0).all()
    assert len(np.unique(fine)) > 500
    assert (np.sign(coarse) * (np.abs(fine) >> 16) == coarse).all()
    floats = np.unique(np.random.default_rng(2).normal(0, 9, 500).astype(np.float32))
    floats = np.unique(np.concatenate([floats, np.nextafter(floats, np.float32(np.inf))]))
    assert len(np.unique(bin_numbers(floats.astype(np.float64), 24))) == len(floats)
