"""Takedown and upkeep: what was forgotten is in no table and no file, and the next best move up."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from conftest import write_parquet
from deltalake import DeltaTable


def rows(output: Path, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = DeltaTable(str(output / name)).to_pyarrow_table().to_pylist()
    return found


def ids(output: Path, name: str) -> set[str]:
    return {row["doc_id"] for row in rows(output, name)}


def files_with(folder: Path, text: str) -> list[str]:
    """Files that hold a text, in their bytes or in the values of a Parquet file."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            values = str(pq.read_table(path, partitioning=None).to_pylist()) if content[:4] == b"PAR1" else ""
            if text.encode() in content or text in values:
                found.append(str(path.relative_to(folder)))
    return found


@pytest.fixture
def listed(copied: Path) -> dict[str, str]:
    """Ids to forget: a document with near-duplicates, one with an exact copy, one that was selected, one in the sample."""
    output = copied.parent / "out"
    duplicates, selected = rows(output, "duplicates"), rows(output, "selected/best-50")
    near = min(row["kept_doc_id"] for row in duplicates if row["kind"] == "near")
    exact = min(row["kept_doc_id"] for row in duplicates if row["kind"] == "exact" and row["kept_doc_id"] != near)
    related = {name for row in duplicates for name in (row["doc_id"], row["kept_doc_id"])}
    return {
        "near": near,
        "exact": exact,
        "selected": next(row["doc_id"] for row in selected if row["doc_id"] not in related),
        "sampled": min(ids(output, "_sample") - related - {row["doc_id"] for row in selected}),
    }


def test_a_forgotten_document_leaves_no_trace_and_the_next_best_move_up(
    run_command: Any, finished: Path, copied: Path, listed: dict[str, str], corpus: list[dict[str, Any]]
) -> None:
    output, file = copied.parent / "out", copied.parent / "takedown.txt"
    before, texts = rows(output, "duplicates"), {row["id"]: row["text"] for row in corpus}
    shutil.copytree(output / "selected/best-50", output / "selected/former")  # not in the configuration any more
    file.write_text("\n".join([*listed.values(), "no-such-document", ""]) + "\r\n", encoding="utf-8")
    (output / "report.html").write_text(listed["selected"], encoding="utf-8")
    code, out, errors = run_command(
        "forget", "--config", str(copied), "--ids", str(file), "--why", "letter 12", "--json"
    )
    assert (code, errors) == (0, [])
    assert [(s["stage"], s["skipped"]) for s in json.loads(out)["stages"]][:2] == [("forget", False), ("dedup", False)]
    assert json.loads(out)["stages"][0]["metrics"]["unknown"] == 1
    assert ids(output, "tombstones") == {*listed.values(), "no-such-document"}
    assert not (output / "report.html").exists()
    assert {row["why"] for row in rows(output, "tombstones")} == {"letter 12"}
    for name in ("features", "_sample", "_embeddings", "ranked_sample", "selected/betr-30", "selected/former"):
        assert not ids(output, name) & set(listed.values()), name
    after = rows(output, "duplicates")
    assert not {name for row in after for name in (row["doc_id"], row["kept_doc_id"])} & set(listed.values())
    reopened = {row["doc_id"] for row in before if row["kept_doc_id"] in (listed["near"], listed["exact"])}
    removed_again = {row["doc_id"] for row in after if row["doc_id"] in reopened}
    assert len(reopened - removed_again) >= 2  # the best document of each group is kept now
    unaffected = {row["doc_id"] for row in before} - reopened - set(listed.values())
    assert unaffected <= {row["doc_id"] for row in after}
    assert sorted(row["rank"] for row in rows(output, "selected/best-50")) == list(range(1, 51))

    _, out, _ = run_command("run", "--config", str(copied))  # scorers and features stay
    assert "nothing to do" in out
    assert run_command("forget", "--config", str(copied), "--ids", str(file), "--why", "letter 12")[0] == 0
    code, out, _ = run_command("maintain", "--config", str(copied), "--retain-hours", "0")
    assert code == 0
    for name in ("selected", "sampled"):
        assert files_with(output, texts[listed[name]][:30]) == [], name
    assert files_with(output, texts[rows(output, "selected/best-50")[0]["doc_id"]][:30])  # the search finds texts

    again = {**corpus[0], "id": listed["selected"], "text": "the same id arrives again"}
    write_parquet(copied.parent / "new", [again, {**again, "id": "fresh"}])
    (copied.parent / "docs").mkdir()
    (copied.parent / "new/part-0.parquet").rename(copied.parent / "docs/part-9.parquet")
    for part in (finished / "docs").iterdir():
        shutil.copy(part, copied.parent / "docs")
    source = f"input.path={copied.parent / 'docs'}"
    code, out, errors = run_command("features", "--config", str(copied), "--json", "--set", source)
    assert (code, errors) == (0, [])
    (done,) = json.loads(out)["stages"]
    assert "fresh" in ids(output, "features")
    assert listed["selected"] not in ids(output, "features")
    dropped = done["dropped"]
    assert dropped["forgotten"] == 5
    assert done["rows_in"] == len(corpus) + 2 == done["rows_out"] + sum(dropped.values())


def test_copies_are_forgotten_on_request(run_command: Any, copied: Path, listed: dict[str, str]) -> None:
    output, file = copied.parent / "out", copied.parent / "takedown.txt"
    copies = {
        row["doc_id"]
        for row in rows(output, "duplicates")
        if row["kept_doc_id"] == listed["exact"] and row["kind"] == "exact"
    }
    file.write_text(listed["exact"] + "\n", encoding="utf-8")
    assert run_command("forget", "--config", str(copied), "--ids", str(file), "--copies")[0] == 0
    assert ids(output, "tombstones") == {listed["exact"], *copies}
    assert not ids(output, "features") & copies


def test_a_missing_list_of_ids_is_one_line(run_command: Any, copied: Path) -> None:
    hidden = copied.parent / "_ids.txt"
    hidden.write_text("a\n", encoding="utf-8")
    code, _, errors = run_command("forget", "--config", str(copied), "--ids", str(hidden))
    assert code == 2
    assert errors == [f"error: --ids: {hidden}: Spark reads no file whose name begins with '_' or '.'; rename it"]
    code, _, errors = run_command("forget", "--config", str(copied), "--ids", "/nowhere/ids.txt")
    assert (code, len(errors)) == (2, 1)
    assert "--ids: /nowhere/ids.txt: no such file" in errors[0]


def test_maintain_deletes_what_killed_runs_left_and_changes_no_row(run_command: Any, copied: Path) -> None:
    output = copied.parent / "out"
    before = {name: ids(output, name) for name in ("features", "duplicates", "selected/best-50")}
    assert run_command("run", "--config", str(copied), "--set", "selections.best-50.keep.documents=9")[0] == 0
    assert run_command("run", "--config", str(copied))[0] == 0
    for left in ("_scratch/some-run/dedup/1/part-0.parquet", "_checkpoints/features/old/offsets/0"):
        (output / left).parent.mkdir(parents=True)
        (output / left).write_bytes(b"left")
    code, out, _ = run_command("maintain", "--config", str(copied), "--retain-hours", "0", "--dry-run")
    assert code == 0
    assert "_checkpoints/features/old: would be deleted" in out
    assert (output / "_checkpoints/features/old/offsets/0").exists()
    n_files = len(list((output / "selected/best-50").glob("*.parquet")))
    code, out, _ = run_command("maintain", "--config", str(copied), "--retain-hours", "0")
    assert code == 0
    assert not (output / "_checkpoints/features/old").exists()
    assert not list((output / "_scratch").rglob("*"))
    assert len(list((output / "selected/best-50").glob("*.parquet"))) < n_files
    assert {name: ids(output, name) for name in before} == before
    code, _, (error,) = run_command("report", "--config", str(copied), "--as-of", "0")
    assert code == 2
    assert "--as-of: 0: files of version 0 of `selected` were deleted, as `betr-spark maintain` does" in error
    assert "nothing to do" in run_command("run", "--config", str(copied))[1]
