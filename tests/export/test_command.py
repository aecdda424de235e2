"""The command `export` on a finished run: what it prints, and what it says of a selection that is not up to date."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from deltalake import DeltaTable


def export_of(config: Path, folder: Path) -> list[str]:
    return [
        "export",
        "--config",
        str(config),
        "--selection",
        "best-50",
        "--format",
        "parquet",
        "--to",
        str(folder / "to"),
    ]


def test_a_finished_selection_is_exported_once(run_command: Any, copied: Path, tmp_path: Path) -> None:
    arguments = export_of(copied, tmp_path)
    code, out, errors = run_command(*arguments, "--rank-order", "--shard-bytes", "9000", "--json")
    assert (code, errors) == (0, [])
    document = json.loads(out)
    assert (document["rows"], document["up_to_date"], document["kept"]) == (50, False, 0)
    assert document["shards"] == document["written"] > 1
    files = sorted((tmp_path / "to").glob("shard-*.parquet"))
    rows = [row for file in files for row in pq.read_table(file).to_pylist()]
    selected = DeltaTable(str(copied.parent / "out/selected/best-50")).to_pyarrow_table().to_pylist()
    assert rows == sorted(selected, key=lambda row: row["rank"])
    assert "url" in rows[0]
    code, out, _ = run_command(*arguments, "--rank-order", "--shard-bytes", "9000")
    assert out.splitlines()[0].endswith("; up to date")
    assert out.splitlines()[1] == f"manifest: {tmp_path}/to/manifest.json"
    code, _, errors = run_command(*arguments)
    assert code == 2
    assert len(errors) == 1
    assert "has another export in it (order: rank, now shuffle)" in errors[0]


def test_a_selection_that_a_run_would_change_is_refused(run_command: Any, copied: Path, tmp_path: Path) -> None:
    arguments = export_of(copied, tmp_path)
    other = ("--set", "selections.betr-30.keep.token_fraction=0.2")  # of another selection
    changed = ("--set", "selections.best-50.keep.documents=40")
    code, _, errors = run_command(*arguments, *changed)
    assert code == 2
    stale = f"{copied.parent}/out: select/best-50 is not up to date (settings changed: selection.keep.documents)"
    assert errors == [f"error: {stale}; run `betr-spark run`, or export the last one with --allow-stale"]
    assert not (tmp_path / "to").exists()
    assert run_command(*arguments, *other)[0] == 0
    code, out, _ = run_command(*arguments, *changed, "--set", "input.path=/nowhere", "--allow-stale")
    assert (code, out.splitlines()[0].endswith("; up to date")) == (0, True)


def test_one_order_only(run_command: Any, copied: Path, tmp_path: Path) -> None:
    arguments = (
        "--selection",
        "best-50",
        "--format",
        "parquet",
        "--to",
        str(tmp_path),
        "--shuffle",
        "1",
        "--rank-order",
    )
    code, _, errors = run_command("export", "--config", str(copied), *arguments)
    assert (code, errors) == (2, ["error: --shuffle and --rank-order: only one of them is possible"])
