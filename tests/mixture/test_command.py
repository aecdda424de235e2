"""The command `mixture`: its table, JSON, exit codes, and that it starts no Spark."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from betr_spark import cli
from betr_spark.cli import output

GROUPS = ["web", "code", "math"]


def write_runs(path: Path, *, noise: float, n: int = 20) -> None:
    rng = np.random.default_rng(0)
    weights = np.round(rng.dirichlet([3, 2, 1], n), 4)
    losses = 2 + np.exp(weights @ np.array([0.8, 0.1, -0.9])) + rng.normal(0, noise, n)
    lines = [f"{','.join(map(str, p))},{loss}" for p, loss in zip(weights.tolist(), losses.tolist(), strict=True)]
    path.write_text(
        "\n".join([",".join(f"weight_{group}" for group in GROUPS) + ",loss_gsm8k", *lines]), encoding="utf-8"
    )


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    write_runs(tmp_path / "runs.csv", noise=0.005)
    return tmp_path / "runs.csv"


@pytest.fixture
def available(tmp_path: Path) -> Path:
    path = tmp_path / "available.jsonl"
    tokens = zip(GROUPS, [800, 150, 50], strict=True)
    path.write_text("\n".join(json.dumps({"group": group, "tokens": n}) for group, n in tokens), encoding="utf-8")
    return path


def run(*arguments: object, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(output, "as_json", False)
    with pytest.raises(SystemExit) as done:
        cli.main(["mixture", *map(str, arguments)])
    return int(done.value.code or 0)


def test_the_table_has_shares_and_repeats(
    runs: Path, available: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--runs", runs, "--available", available, "--tokens", 500, monkeypatch=monkeypatch) == 0
    lines = capsys.readouterr().out.splitlines()
    said, agreement = lines[0].rsplit(" ", 1)
    assert said == "20 runs on 20 distinct mixtures; agreement"
    assert float(agreement) > 0.9
    assert lines[2].split() == ["group", "natural", "proposed", "repeats"]
    assert lines[5].split() == ["math", "0.0500", "0.4000", "4.00"]  # the best group, at its limit of 4 * 50 / 500
    assert [line.split()[0] for line in lines[3:6]] == GROUPS


def test_json_holds_the_same(
    runs: Path, available: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--runs", runs, "--available", available, "--tokens", 500, "--max-repeats", 2, "--json"]
    assert run(*options, monkeypatch=monkeypatch) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert sum(group["weight"] for group in document["groups"]) == pytest.approx(1, abs=1e-9)
    for group in document["groups"]:
        assert group["weight"] * 500 <= 2 * group["tokens"] * (1 + 1e-12)
        assert group["repeats"] == pytest.approx(group["weight"] * 500 / group["tokens"])
    (task,) = document["tasks"]
    assert task["proposed_loss"] < task["natural_loss"]
    assert set(task["t"]) == set(GROUPS)
    assert document["agreement"] == task["agreement"] > 0.9


def test_without_available_tokens_the_mean_of_the_runs_is_natural(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--runs", runs, "--json", monkeypatch=monkeypatch) == 0
    document = json.loads(capsys.readouterr().out)
    assert sum(group["natural"] for group in document["groups"]) == pytest.approx(1)
    assert [group["repeats"] for group in document["groups"]] == [None] * 3
    assert any("outside the runs'" in warning for warning in document["warnings"])


def test_runs_that_predict_nothing_are_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_runs(tmp_path / "noise.csv", noise=30.0)
    assert run("--runs", tmp_path / "noise.csv", monkeypatch=monkeypatch) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "noise.csv: the laws predict left-out runs with a mean rank correlation of" in line
    assert "add runs (about 15 distinct mixtures for 3 groups, found 20)" in line


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ["--tokens", "5"],
            "error: --tokens: the tokens of each group are required, too; give them by --available FILE",
        ),
        (
            ["--tokens", "4001", "--available"],
            "error: --tokens: 4,001; at most 4,000 are possible, 4 times the tokens of",
        ),
    ],
)
def test_tokens_that_cannot_be_met(
    runs: Path, available: Path, options: list[str], said: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    options = [*options, str(available)] if options[-1] == "--available" else options
    assert run("--runs", runs, *options, monkeypatch=monkeypatch) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(said)


def test_no_java_and_no_spark_are_needed(runs: Path) -> None:
    code = (
        "import sys; from betr_spark.cli import app; "
        "app(['mixture', '--runs', sys.argv[1]], standalone_mode=False); print({'pyspark', 'torch'} & set(sys.modules))"
    )
    environment = {**os.environ, "PATH": "/nowhere", "JAVA_HOME": ""}
    done = subprocess.run(
        [sys.executable, "-c", code, str(runs)], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.splitlines()[-1] == "set()"
