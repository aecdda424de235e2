"""Commands on a finished run, in process: report, compare, evaluate, dedup-eval, check, --again, --dry-run."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import settings, write_config, write_parquet
from deltalake import DeltaTable

from betr_spark.cli import main


@pytest.fixture
def run_command(capsys: pytest.CaptureFixture[str], spark: Any) -> Any:
    """Run a command in the tests' session; returns exit code, standard output, error lines."""

    def run(*arguments: str) -> tuple[int, str, list[str]]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as status:
            main(arguments)
        out, err = capsys.readouterr()
        return int(status.value.code or 0), out, [line for line in err.splitlines() if line.startswith("error: ")]

    return run


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """A configuration of the finished run whose output is a copy."""
    shutil.copytree(finished / "out", tmp_path / "out")
    values = yaml.safe_load((finished / "conf.yaml").read_text(encoding="utf-8"))
    return write_config(tmp_path / "conf.yaml", {**values, "output": str(tmp_path / "out")})


def rows(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = DeltaTable(str(path)).to_pyarrow_table().to_pylist()
    return found


def test_report_prints_shares_and_the_best_documents(run_command: Any, finished: Path) -> None:
    code, out, _ = run_command("report", "--config", str(finished / "conf.yaml"))
    best = min(rows(finished / "out/selected/best-50"), key=lambda row: row["rank"])
    assert code == 0
    assert "best-50: 50 documents" in out
    assert f"1. logit {best['logit']:.2f} {best['source']} {best['doc_id']}: " in out
    tokens = sum(row["n_tokens"] for row in rows(finished / "out/selected/betr-30"))
    assert f"{tokens} tokens, ranked by betr" in out
    assert "out of date" not in out


def test_report_says_that_the_input_changed(run_command: Any, copied: Path) -> None:
    code, out, _ = run_command("report", "--config", str(copied), "--set", "dedup.similarity=0.9")
    assert code == 0
    assert "out of date: dedup is not up to date (settings changed: dedup.similarity)" in out


def test_compare_needs_two_scorers_and_an_up_to_date_run(run_command: Any, copied: Path) -> None:
    code, _, errors = run_command("compare", "--config", str(copied))
    assert code == 2
    assert len(errors) == 1
    assert "found betr" in errors[0]
    code, _, errors = run_command("compare", "--config", str(copied), "--set", "minhash.seed=7")
    assert code == 2
    assert len(errors) == 1
    assert errors[0].endswith("features is not up to date (settings changed: minhash.seed); run `betr-spark run`")


def test_dedup_eval_finds_that_what_was_removed_is_similar(run_command: Any, finished: Path) -> None:
    code, out, _ = run_command("dedup-eval", "--config", str(finished / "conf.yaml"), "--documents", "5000")
    near = sum(row["kind"] == "near" for row in rows(finished / "out/duplicates"))
    precision = out.split("recall")[0]
    assert code == 0
    assert sum(int(of) for of in re.findall(r"\d+ of (\d+) =", precision)) == near > 0


def test_evaluate_without_held_out_items_is_a_user_error(run_command: Any, copied: Path) -> None:
    code, _, errors = run_command("evaluate", "--config", str(copied))
    assert code == 2
    assert len(errors) == 1
    assert "config.targets: no target has a `test` file" in errors[0]


def test_evaluate_prints_a_row_a_budget_and_set(run_command: Any, copied: Path, targets: Path) -> None:
    values = yaml.safe_load(copied.read_text(encoding="utf-8"))
    lines = [json.dumps({"question": f"simmer garlic {i} sauce", "answer": f"onion {i}"}) for i in range(12)]
    (copied.parent / "items.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    values["targets"]["cooking"]["test"] = str(copied.parent / "items.jsonl")
    values["evaluate"] = {"documents": 300, "general": 30, "budgets": [0.3], "seeds": 3, "vocabulary": 400}
    code, out, errors = run_command("evaluate", "--config", str(write_config(copied, values)))
    assert (code, errors) == (0, [])
    assert "evaluate: " in out
    assert "cooking" in out
    assert (copied.parent / "out/evaluation.png").exists()


def test_again_trains_again_and_everything_else_is_skipped(run_command: Any, copied: Path) -> None:
    before = json.loads((copied.parent / "out/scorers/betr/scorer.json").read_text())
    code, out, _ = run_command("train", "--config", str(copied))
    assert code == 0
    assert "skipped, up to date" in out
    code, out, _ = run_command("train", "--config", str(copied), "--again")
    assert code == 0
    assert "skipped" not in out
    after = json.loads((copied.parent / "out/scorers/betr/scorer.json").read_text())
    assert after["sha256"] == before["sha256"]
    assert json.loads(after["run"])["run_id"] != json.loads(before["run"])["run_id"]


def test_a_dry_run_writes_nothing_and_names_every_stage(run_command: Any, copied: Path) -> None:
    out_folder = copied.parent / "out"
    before = {path: path.stat().st_mtime_ns for path in out_folder.rglob("*") if path.is_file()}
    code, out, _ = run_command("run", "--config", str(copied), "--dry-run", "--set", "dedup.similarity=0.8")
    assert code == 0
    assert {"dedup: would run (settings changed: dedup.similarity)", "select/best-50: would run (after dedup)"} <= set(
        out.splitlines()
    )
    assert "features: skipped (up to date)" in out
    assert {path: path.stat().st_mtime_ns for path in out_folder.rglob("*") if path.is_file()} == before


def test_check_names_everything_that_would_stop_a_run(
    run_command: Any, finished: Path, tmp_path: Path, encoder: Path, targets: Path
) -> None:
    values = settings(finished / "docs", tmp_path / "out", encoder, targets)
    values["input"]["source"] = "sauce"
    values["targets"]["cooking"]["path"] = str(tmp_path / "none.jsonl")
    values["scorers"] = {
        "betr": {},
        "quality": {"kind": "expression", "column": "stars"},
        "teacher": {"kind": "teacher", "path": str(tmp_path / "scores")},
        "hq": {"kind": "fasttext", "path": str(tmp_path / "model.bin"), "label": "__label__hq"},
        "given": {"kind": "classifier", "positives": {"path": str(tmp_path / "good.jsonl"), "template": "{text}"}},
    }
    values["selections"] = {"a": {"scorer": "betr", "keep": {"documents": 3}}}
    code, _, errors = run_command("check", "--config", str(write_config(tmp_path / "conf.yaml", values)))
    assert code == 2
    for part in ("sauce", "none.jsonl", "stars", "scores", "model.bin", "good.jsonl"):
        assert sum(part in line for line in errors) == 1, (part, errors)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("source", "output"), [("docs", "docs"), ("docs", "docs/out"), ("docs/_scratch/x", "docs")])
def test_an_output_that_overlaps_with_the_input_is_refused(
    run_command: Any, tmp_path: Path, source: str, output: str
) -> None:
    write_parquet(tmp_path / source, [{"id": "a", "text": "one text"}])
    values = {"input": {"path": str(tmp_path / source), "id": "id"}, "output": str(tmp_path / output), "scorers": {}}
    code, _, errors = run_command("run", "--config", str(write_config(tmp_path / "conf.yaml", values)))
    assert code == 2
    assert len(errors) == 1
    assert "overlaps with input.path" in errors[0]
    assert [path.name for path in (tmp_path / "docs").rglob("*") if path.is_file()] == ["part-0.parquet"]
