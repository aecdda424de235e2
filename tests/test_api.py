"""The Python API on a finished run: docstrings and docs/python.md run, errors are those of the command line."""

import doctest
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

import betr_spark
from betr_spark import api, load_config, read_selection, run
from betr_spark.config import root
from betr_spark.errors import CheckError, ConfigError, DataError, LockedError
from betr_spark.storage.lease import hold
from betr_spark.storage.lease_record import Holder

PAGE = Path(__file__).parents[1] / "docs/python.md"


@pytest.fixture
def here(spark: Any, copied: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory has `conf.yaml` and `mine.yaml` of a finished run."""
    shutil.copy(copied, copied.parent / "mine.yaml")
    monkeypatch.chdir(copied.parent)
    return copied.parent


def test_the_docstrings_run(here: Path) -> None:
    for module, names in ((api, ("run", "read_selection")), (root, ("load_config",))):
        done = doctest.testmod(module)
        assert (done.failed, done.attempted >= 3 * len(names)) == (0, True)
        assert all(getattr(module, name) is getattr(betr_spark, name) for name in names)


def test_the_page_runs(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 3
    names: dict[str, Any] = {}
    printed = []
    for block in blocks:
        exec(block, names)
        printed.append(capsys.readouterr().out)
    assert "features skipped 598 598" in printed[0]
    assert "|   1|" in printed[0]
    assert re.fullmatch(r"input\.text: no column 'txet' in .*\(did you mean 'text'\?\)\n", printed[2])


def test_a_run_does_what_has_changed_and_tells_of_it(here: Path) -> None:
    config = load_config("conf.yaml", ["selections.best-50.keep.documents=7"])
    result = run(config, command="select")
    assert [(stage.name, stage.skipped, stage.rows_out) for stage in result.stages] == [
        ("select/best-50", False, 7), ("select/betr-30", True, result.stages[1].rows_out), ("select/random-30", True, result.stages[2].rows_out),
    ]  # fmt: skip
    assert not result.up_to_date
    assert result.selections == {name: f"{here}/out/selected/{name}" for name in config.selections}
    rows = read_selection(config, "best-50").collect()
    assert sorted(row["rank"] for row in rows) == list(range(1, 8))
    assert read_selection("conf.yaml", "best-50", version=0).count() == 50
    assert run(config, command="decontaminate")[2:] == ((), {})  # not configured
    recorded = [row for row in read(here, "runs") if row["run_id"] == result.run_id]
    assert [(row["stage"], row["command"]) for row in recorded] == [("select/best-50", "select")]


def read(here: Path, table: str) -> list[dict[str, Any]]:
    from deltalake import DeltaTable

    rows: list[dict[str, Any]] = DeltaTable(str(here / "out" / table)).to_pyarrow_table().to_pylist()
    return rows


def test_errors_are_those_of_the_command_line(here: Path, run_command: Any, spark: Any) -> None:
    wrong = ["input.id=ident", "targets.cooking.template='{wrong}'"]
    with pytest.raises(CheckError) as caught:
        run(load_config("conf.yaml", wrong))
    code, _, lines = run_command("run", "--config", "conf.yaml", *(part for each in wrong for part in ("--set", each)))
    assert (code, lines) == (2, [f"error: {problem}" for problem in caught.value.problems])
    assert len(lines) == 2
    with pytest.raises(ConfigError, match=r"^command: 'trian' is not one of rank, train, features"):
        run("conf.yaml", command="trian")
    with pytest.raises(ConfigError, match=r"^config\.selections: no selection 'best-5'; did you mean 'best-50'\?"):
        read_selection("conf.yaml", "best-5")
    with pytest.raises(ConfigError, match="unknown key"):
        run({"inputs": {}})
    with pytest.raises(DataError, match=r"version 99 not found; the table's history has versions 0 to 0"):
        read_selection("conf.yaml", "best-50", version=99)
    with (
        hold(spark, str(here / "out"), Holder.this(spark, "run-7", "run")),
        pytest.raises(LockedError, match="run run-7"),
    ):
        run("conf.yaml")


def test_the_package_offers_its_names_alone() -> None:
    assert {"load_config", "read_selection", "run", "__version__"} <= set(dir(betr_spark))
    with pytest.raises(AttributeError, match="module 'betr_spark' has no attribute 'rnu'"):
        betr_spark.rnu  # noqa: B018
