"""Commands on a finished run, in process: report, compare, evaluate, dedup-eval, check, --again, --dry-run."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import settings, write_config, write_parquet
from deltalake import DeltaTable

from betr_spark.cli import main
from betr_spark.errors import DataError
from betr_spark.storage.lease import hold
from betr_spark.storage.lease_record import Holder


def rows(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = DeltaTable(str(path)).to_pyarrow_table().to_pylist()
    return found


def test_report_prints_shares_and_the_best_documents(run_command: Any, finished: Path) -> None:
    code, out, _ = run_command("report", "--config", str(finished / "conf.yaml"), "--no-page")
    best = min(rows(finished / "out/selected/best-50"), key=lambda row: row["rank"])
    assert code == 0
    assert "best-50: 50 documents" in out
    assert f"1. logit {best['logit']:.2f} {best['source']} {best['doc_id']}: " in out
    tokens = sum(row["n_tokens"] for row in rows(finished / "out/selected/betr-30"))
    assert f"{tokens} tokens (words), ranked by betr" in out
    assert "out of date" not in out


def test_report_says_that_the_input_changed(run_command: Any, copied: Path) -> None:
    code, out, _ = run_command("report", "--config", str(copied), "--no-page", "--set", "dedup.similarity=0.9")
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
    after_dedup = out.partition("(settings changed: dedup.similarity)\n")[2].splitlines()[0]
    assert after_dedup.startswith("  the last run took ")
    assert after_dedup.endswith(" task seconds) for 598 rows")
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


def test_status_is_a_table_of_the_stages_and_the_lease(
    run_command: Any, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = run_command("status", "--config", str(copied))
    lines = out.splitlines()
    assert code == 0
    assert lines[1].split() == ["stage", "state", "finished", "(UTC)", "seconds", "rows", "why"]
    assert [line.split()[0] for line in lines[2:-1]] == [
        "rank/sample", "rank", "train/betr", "features", "dedup", "select/best-50", "select/betr-30", "select/random-30",
    ]  # fmt: skip
    assert all(" up to date " in line for line in lines[2:-1])
    assert lines[-1].startswith("lease: free; last: `betr-spark ")
    assert lines[-1].endswith(", done")
    code, out, _ = run_command("status", "--json", "--config", str(copied), "--set", "dedup.similarity=0.8")
    states = {stage["stage"]: stage for stage in json.loads(out)["stages"]}
    assert (states["features"]["state"], states["features"]["rows"]) == ("up to date", 598)
    assert (states["dedup"]["state"], states["dedup"]["why"]) == ("stale", "settings changed: dedup.similarity")
    assert states["select/best-50"]["why"] == "after dedup"
    assert states["features"]["finished_at"].endswith("+00:00")

    def unreadable(*_: Any) -> None:
        raise DataError("input.path: the store is away")

    monkeypatch.setattr("betr_spark.corpus.snapshot.InputSnapshot.current", unreadable)
    code, out, _ = run_command("status", "--json", "--config", str(copied))
    stages = json.loads(out)["stages"]
    assert {(stage["state"], stage["why"]) for stage in stages} == {("unknown", "input.path: the store is away")}


def test_status_tells_of_a_run_that_runs_and_of_one_that_was_killed(run_command: Any, copied: Path, spark: Any) -> None:
    output = str(copied.parent / "out")
    changed = ["--config", str(copied), "--set", "dedup.similarity=0.8"]
    with hold(spark, output, Holder.this(spark, "run-7", "run")) as lease:
        lease.enter("dedup")
        state = json.loads(run_command("status", "--json", *changed)[1])
        assert (state["lease"]["state"], state["lease"]["run_id"], state["lease"]["stage"]) == (
            "held",
            "run-7",
            "dedup",
        )
        assert {stage["stage"]: stage["state"] for stage in state["stages"]}["dedup"] == "running"
        record = next((Path(output) / "_lease").iterdir())
        killed = {**json.loads(record.read_text()), "processes": [], "renewed_at": 1.0}
    record.write_text(json.dumps(killed))
    state = json.loads(run_command("status", "--json", *changed)[1])
    (dedup,) = [stage for stage in state["stages"] if stage["stage"] == "dedup"]
    assert (state["lease"]["state"], dedup["state"], dedup["why"]) == ("expired", "failed", "the run was killed")


def test_a_second_run_ends_with_exit_code_3_and_unlock_stops_the_first(
    run_command: Any, copied: Path, spark: Any
) -> None:
    with hold(spark, str(copied.parent / "out"), Holder.this(spark, "run-7", "run")):
        code, out, errors = run_command("run", "--config", str(copied))
        assert (code, out, len(errors)) == (3, "", 1)
        assert "run run-7" in errors[0]
        code, out, errors = run_command("select", "--config", str(copied), "--json", "--wait", "0.1")
        assert code == 3
        assert json.loads(out) == {"errors": [errors[0].removeprefix("error: ")], "exit_code": 3}
        code, out, _ = run_command("unlock", "--config", str(copied), "--json")
        assert (code, json.loads(out)["holder"]["run_id"]) == (0, "run-7")
        assert run_command("select", "--config", str(copied))[0] == 0
    assert run_command("unlock", "--config", str(copied))[1] == "no run held the output\n"


def test_json_is_one_document_and_log_lines_are_objects(run_command: Any, copied: Path, capsys: Any) -> None:
    for command, names in (
        ("check", {"problems"}),
        ("plan", {"output", "stages", "keep_rates", "laws", "bytes_read"}),
        ("report", {"output", "selections", "out_of_date", "page", "sections"}),
        ("dedup-eval", {"n_documents", "n_sampled", "precision", "recall", "n_components", "inside", "both_kept"}),
    ):
        code, out, _ = run_command(command, "--json", "--config", str(copied))
        assert (code, set(json.loads(out))) == (0, names)
        if command == "report":
            pages = json.loads(out)["sections"]["selections"]
            assert [page["problems"] for page in pages] == [{}] * 3  # every section was computed
            assert all(page["trust"] and page["overlap"]["text"] and page["readings"]["best"] for page in pages)
    capsys.readouterr()
    with pytest.raises(SystemExit) as status:
        main(
            [
                "run",
                "--config",
                str(copied),
                "--json",
                "--log-format",
                "json",
                "--set",
                "selections.best-50.keep.documents=5",
            ]
        )
    out, err = capsys.readouterr()
    done = json.loads(out)
    assert (status.value.code, done["command"], done["up_to_date"]) == (0, "run", False)
    (select,) = [stage for stage in done["stages"] if not stage["skipped"]]
    assert (select["stage"], select["rows_out"], select["run_id"]) == ("select/best-50", 5, done["run_id"])
    lines = [json.loads(line) for line in err.splitlines()]
    assert all(set(line) == {"time", "level", "logger", "stage", "run_id", "message", "fields"} for line in lines)
    (ended,) = [line for line in lines if line["fields"]]
    assert (ended["stage"], ended["fields"]["rows_out"], ended["level"]) == ("select/best-50", 5, "info")
    assert ended["run_id"] == done["run_id"]


def test_a_run_records_what_it_cost(run_command: Any, copied: Path) -> None:
    assert run_command("run", "--config", str(copied), "--set", "selections.best-50.keep.documents=6")[0] == 0
    row = max(rows(copied.parent / "out/runs"), key=lambda row: row["started_at"])
    assert (row["stage"], row["rows_out"], row["command"]) == ("select/best-50", 6, "run")
    assert row["spark_tasks"] >= row["spark_stages"] > 0
    assert 0 < row["cpu_seconds"] < row["task_seconds"] * 1.5
    assert row["bytes_read"] > 0
    assert row["bytes_written"] > 0
    assert row["application_id"].startswith("local-")
    assert re.fullmatch("[0-9a-f]{40}|", row["git_revision"])
    assert row["host"]
    assert row["user"]


def test_an_old_version_of_a_selection_is_reported_with_its_inputs(run_command: Any, copied: Path) -> None:
    old = json.loads(run_command("report", "--config", str(copied), "--json", "--no-page")[1])["selections"][0]
    between = datetime.now(UTC).isoformat()
    changed = ["--set", "selections.best-50.keep.documents=3", "--set", "dedup.similarity=0.99"]
    assert run_command("run", "--config", str(copied), *changed)[0] == 0
    new = json.loads(run_command("report", "--config", str(copied), "--json", "--no-page")[1])["selections"][0]
    assert (old["name"], old["n_documents"], new["n_documents"]) == ("best-50", 50, 3)
    for as_of in ("0", between):
        code, out, _ = run_command("report", "--config", str(copied), "--json", "--as-of", as_of)
        assert (code, json.loads(out)["selections"][0]) == (0, old)
    for as_of, line in (("2001-01-01", "no version as of 2001-01-01"), ("soon", "--as-of: soon: a version or a time")):
        code, _, errors = run_command("report", "--config", str(copied), "--as-of", as_of)
        assert (code, len(errors)) == (2, 1)
        assert line in errors[0]
