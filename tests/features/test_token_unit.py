"""The unit of budgets through the stages: a tokenizer, a column, an estimate; keys and problems."""

import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import write_config
from small_tokenizers import AWKWARD, CONTENT, expected

from betr_spark.config import Config, load_config
from betr_spark.errors import DataError
from betr_spark.features.stage import Features
from betr_spark.features.token_counter import in_sample
from betr_spark.pipeline.check import missing_requirements, problems_of_run
from betr_spark.pipeline.run import run_all, stages_of
from betr_spark.pipeline.stage import RunContext
from betr_spark.selection.planner import outlooks
from betr_spark.storage import delta

WORDS = ["tide", "anchor", "漢字かな", "abababab", "of", "👩‍👩‍👧‍👦"]
N = 60


def write(folder: Path, **columns: Any) -> list[str]:
    pick = random.Random(3)
    texts = [f"{n} " + " ".join(pick.choices(WORDS, k=pick.randint(1, 40))) for n in range(N - len(AWKWARD))] + AWKWARD
    (folder / "docs").mkdir(parents=True)
    table = {"id": [f"d{n:02d}" for n in range(N)], "text": texts, "v": [float(n % 50) for n in range(N)], **columns}
    pq.write_table(pa.table(table), folder / "docs/a.parquet")
    return texts


def settings(folder: Path, tokens: dict[str, Any], keep: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "input": {"path": str(folder / "docs"), "id": "id", "tokens": tokens},
        "output": str(folder / "out"),
        "scorers": {"v": {"kind": "expression", "column": "v"}},
        "selections": {"s": {"scorer": "v", "keep": keep or {"token_fraction": 0.4}}},
    }


def rows(spark: Any, config: Config, table: str) -> list[Any]:
    found: list[Any] = delta.read(spark, config.table(table)).collect()
    return found


def test_a_budget_counts_the_tokens_of_the_tokenizer_exactly(spark: Any, tmp_path: Path, run_command: Any) -> None:
    texts, file = write(tmp_path), tmp_path / "mine.json"
    file.write_bytes(CONTENT["byte_level"])
    path = write_config(tmp_path / "c.yaml", settings(tmp_path, {"tokenizer": str(file)}))
    config = load_config(path)
    tokens = [expected(CONTENT["byte_level"], text) for text in texts]
    code, out, errors = run_command("run", "--config", str(path))
    assert (code, errors) == (0, [])
    features = {row["doc_id"]: row for row in rows(spark, config, "features")}
    assert [features[f"d{n:02d}"]["n_lm_tokens"] for n in range(N)] == tokens
    assert all(row["n_tokens"] == row["n_words"] for row in features.values())
    selected = sorted(rows(spark, config, "selected/s"), key=lambda row: row["rank"])
    removed = {row["doc_id"] for row in rows(spark, config, "duplicates")}
    eligible = [n for n in range(N) if f"d{n:02d}" not in removed and features[f"d{n:02d}"]["logit_v"] is not None]
    budget, kept = int(0.4 * sum(tokens[n] for n in eligible)), sum(row["n_tokens"] for row in selected)
    assert [row["n_tokens"] for row in selected] == [tokens[int(row["doc_id"][1:])] for row in selected]
    left = [n for n in eligible if f"d{n:02d}" not in {row["doc_id"] for row in selected}]
    assert max(n % 50 for n in left) <= min(row["logit"] for row in selected)
    assert kept <= budget < kept + max(tokens[n] for n in left if n % 50 == max(n % 50 for n in left))
    assert f"; {kept} tokens (tokens of mine.json)\n" in out
    _, out, _ = run_command("report", "--config", str(path), "--no-page")
    assert f"{kept} tokens (tokens of mine.json), ranked by v" in out
    (found,) = outlooks(RunContext(spark, config), rates=(0.4,))
    assert (found.unit, found.tokens) == ("tokens of mine.json", sum(tokens[n] for n in eligible))

    def changed(tokens: dict[str, Any]) -> RunContext:
        return RunContext(spark, Config.model_validate(settings(tmp_path, tokens)))

    key = Features().key(RunContext(spark, config)).key
    assert Features().is_current(RunContext(spark, config))
    (tmp_path / "moved.json").write_bytes(CONTENT["byte_level"])
    assert Features().key(changed({"tokenizer": str(tmp_path / "moved.json")})).key == key
    assert '"tokens"' not in Features().key(changed({})).config
    assert stages_of(config)[-1].is_current(changed({"tokenizer": str(tmp_path / "moved.json")}))
    file.write_bytes(CONTENT["without_pre_tokenizer"])
    assert Features().key(RunContext(spark, config)).key != key
    with pytest.raises(DataError, match="not counted as input.tokens says; run `betr-spark features`$"):
        run_all(spark, load_config(path, ("selections.s.keep={documents: 5}",)), "select")


def test_a_column_of_counts(spark: Any, tmp_path: Path) -> None:
    counts = [1000 + n for n in range(N)]
    wrong = {3: None, 4: -1, 5: 2**31}
    write(tmp_path, **{"n.tok": pa.array([wrong.get(n, count) for n, count in enumerate(counts)], pa.int64())})
    values = settings(tmp_path, {"column": "`n.tok`"}, {"tokens": 10_500})
    config = Config.model_validate({**values, "dedup": {"similarity": 1.0}})
    runs = {run.stage: run for run in run_all(spark, config)}
    assert runs["features"].dropped == {"invalid_tokens": 3}
    features = {row["doc_id"]: row["n_lm_tokens"] for row in rows(spark, config, "features")}
    assert features == {f"d{n:02d}": counts[n] for n in range(N) if n not in wrong}
    details = {row["doc_id"]: row["detail"] for row in rows(spark, config, "quarantine")}
    assert details["d03"] == "`n.tok` is null, not a whole number from 0 to 2147483647"
    assert details["d04"] == "`n.tok` is -1, not a whole number from 0 to 2147483647"
    selected = rows(spark, config, "selected/s")
    assert {row["doc_id"]: row["n_tokens"] for row in selected}.items() <= features.items()
    assert len(selected) == 10  # of a little more than 1000 tokens each
    assert runs["select/s"].metrics["kept_tokens"] == sum(row["n_tokens"] for row in selected) <= 10_500


def test_tokens_that_are_estimated_from_a_sample(spark: Any, tmp_path: Path) -> None:
    texts = write(tmp_path)
    (tmp_path / "t.json").write_bytes(CONTENT["byte_level"])
    config = Config.model_validate(settings(tmp_path, {"tokenizer": str(tmp_path / "t.json"), "estimate": 3}))
    runs = {run.stage: run for run in run_all(spark, config)}
    y = np.array([expected(CONTENT["byte_level"], text) for text in texts], float)
    x = np.array([len(text.encode()) for text in texts], float)
    sampled = in_sample(pa.array([f"d{n:02d}" for n in range(N)]), 3)
    features = {row["doc_id"]: row["n_lm_tokens"] for row in rows(spark, config, "features")}
    assert [features[f"d{n:02d}"] for n in range(N)] == [int(y[n]) if sampled[n] else None for n in range(N)]
    rate = y[sampled].sum() / x[sampled].sum()
    residuals = y[sampled] - rate * x[sampled]
    error = np.sqrt(sampled.sum() * residuals.var(ddof=1)) / x[sampled].sum()  # their mean is 0
    metrics = runs["features"].metrics
    assert metrics["documents_tokenized"] == sampled.sum()
    assert metrics["tokens_per_byte"] == pytest.approx(rate)
    assert metrics["tokens_per_byte_error"] == pytest.approx(error)
    assert abs(metrics["n_tokens"] - y.sum()) < 4 * error * x.sum()
    number = {row["doc_id"]: row["n_tokens"] for row in rows(spark, config, "selected/s")}
    for doc_id, n_tokens in number.items():
        n = int(doc_id[1:])
        assert n_tokens == (y[n] if sampled[n] else np.floor(rate * x[n] + 0.5))
    assert Features().summary(runs["features"])[1].endswith(f"from {sampled.sum()} documents")


def test_problems_are_found_before_any_work(spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, word=["x"] * N)
    (tmp_path / "other.json").write_text("{}")

    def problems(tokens: dict[str, Any]) -> list[str]:
        return problems_of_run(RunContext(spark, Config.model_validate(settings(tmp_path, tokens))))

    where, docs = "input.tokens.tokenizer", f"in {tmp_path / 'docs'}"
    assert problems({"tokenizer": "none.json"}) == [f"{where}: none.json: no such file"]
    assert problems({"tokenizer": str(tmp_path)}) == [f"{where}: {tmp_path}: is a folder; a file is required"]
    (line,) = problems({"tokenizer": str(tmp_path / "other.json")})
    assert line.startswith(f"{where}: {tmp_path / 'other.json'}: no tokenizer that tokenizers")
    (line,) = problems({"column": "wrod"})
    assert line == f"input.tokens.column: no column 'wrod' {docs} (did you mean 'word'?)"
    (line,) = problems({"column": "word"})
    assert line == f"input.tokens.column: column 'word' {docs} is string; a numeric column is required"
    (tmp_path / "t.json").write_bytes(CONTENT["byte_level"])
    config = Config.model_validate(settings(tmp_path, {"tokenizer": str(tmp_path / "t.json")}))
    context = RunContext(spark, config)
    assert missing_requirements(context, [Features()]) == []
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    line = "input.tokens: tokenizers is not installed; install betr-spark[tokens]"
    assert missing_requirements(context, [Features()]) == [line]
    assert not (tmp_path / "out").exists()


def test_a_key_of_json_that_is_missing_is_a_problem(spark: Any, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/a.jsonl").write_text('{"id": "a", "text": "x", "v": 1, "n": 2}\n')
    values = settings(tmp_path, {"column": "m"})
    values["input"]["format"] = "json"
    (line,) = problems_of_run(RunContext(spark, Config.model_validate(values)))
    assert line.startswith(f"input.tokens.column: no column 'm' in {tmp_path / 'docs'}")
