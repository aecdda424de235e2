"""Whole runs: contract, repetition, partitioning, increments."""

import json
import random
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from conftest import SHARED, settings, write_config, write_parquet
from deltalake import DeltaTable
from whole import TABLES, tables, versions

from betr_spark.config import load_config
from betr_spark.pipeline.run import plan, run_all
from betr_spark.pipeline.stage import RunContext

pytestmark = pytest.mark.whole


def test_tables_have_the_contract_s_columns_and_counts_add_up(finished: Path, corpus: Any) -> None:
    out = finished / "out"
    for name, columns in TABLES.items():
        assert DeltaTable(str(out / name)).schema().to_arrow().names == columns.split(), name
    found = tables(out)
    assert len(found["features"]) + len(found["quarantine"]) == len(corpus)
    removed = {row["doc_id"] for row in found["duplicates"]}
    kept_for = {row["kept_doc_id"] for row in found["duplicates"]}
    assert not removed & kept_for
    assert sum(row["kind"] == "exact" for row in found["duplicates"]) >= 28
    assert sum(row["kind"] == "near" for row in found["duplicates"]) >= 10
    logit = {row["doc_id"]: row["logit_betr"] for row in found["features"]}
    assert {doc for doc, value in logit.items() if value is None} == {"o0000", "o0001"}
    tokens = {row["doc_id"]: row["n_tokens"] for row in found["features"] if row["doc_id"] not in removed}
    chosen = sorted(found["selected/betr-30"], key=lambda row: row["rank"])
    order = sorted((doc for doc in tokens if logit[doc] is not None), key=lambda doc: -logit[doc])
    budget = int(0.3 * sum(tokens[doc] for doc in order))
    kept = sum(row["n_tokens"] for row in chosen)
    assert [row["rank"] for row in chosen] == list(range(1, len(chosen) + 1))
    assert [row["logit"] for row in chosen] == [logit[doc] for doc in order[: len(chosen)]]
    assert kept <= budget < kept + tokens[order[len(chosen)]]
    text = {row["id"]: row["text"] for row in corpus}
    assert all(row["text"] == text[row["doc_id"]] for row in chosen)


def test_the_selection_goes_where_the_benchmarks_point(finished: Path) -> None:
    found = tables(finished / "out")
    aimed = Counter(row["source"] for row in found["selected/best-50"])
    assert aimed["kitchen"] + aimed["harbour"] >= 45


def test_a_second_run_does_nothing_and_says_so(finished: Path, spark: Any) -> None:
    before = versions(finished / "out")
    config = load_config(finished / "conf.yaml")
    assert [done.skipped for done in run_all(spark, config)] == [True] * 8
    assert [planned.work for planned in plan(RunContext(spark, config))] == [False] * 8
    assert versions(finished / "out") == before


def test_a_plan_names_what_has_work_and_writes_nothing(finished: Path, spark: Any) -> None:
    before = versions(finished / "out")
    config = load_config(finished / "conf.yaml", ("dedup.similarity=0.9",))
    planned = {p.stage.name: (p.work, p.why) for p in plan(RunContext(spark, config))}
    assert planned["features"] == (False, "up to date")
    assert planned["dedup"] == (True, "settings changed: dedup.similarity")
    assert planned["select/betr-30"] == (True, "after dedup")
    assert versions(finished / "out") == before


def test_another_budget_alone_is_selected_anew(finished: Path, spark: Any, tmp_path: Path) -> None:
    shutil.copytree(finished / "out", tmp_path / "out")
    more = (f"output={tmp_path / 'out'}", "selections.best-50.keep={documents: 20}")
    runs = run_all(spark, load_config(finished / "conf.yaml", more))
    assert [done.stage for done in runs if not done.skipped] == ["select/best-50"]
    chosen = tables(tmp_path / "out")["selected/best-50"]
    assert sorted(row["rank"] for row in chosen) == list(range(1, 21))


@pytest.mark.skipif(not (SHARED / "checks/contract.py").exists(), reason="needs shared/checks")
def test_the_contract_check_is_green(finished: Path) -> None:
    check = [sys.executable, str(SHARED / "checks/contract.py"), str(finished / "out")]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_another_partitioning_gives_the_same_tables(
    finished: Path, tmp_path: Path, spark: Any, corpus: Any, encoder: Path, targets: Path
) -> None:
    rows = list(corpus)
    random.Random(1).shuffle(rows)
    path = write_parquet(tmp_path / "docs", rows, files=5)
    more = {"input": {"path": str(path), "id": "id", "source": "source", "columns": ["url"], "max_batch_bytes": 60_000}}
    config = write_config(tmp_path / "conf.yaml", settings(path, tmp_path / "out", encoder, targets, **more))
    run_all(spark, load_config(config))
    assert len(list((tmp_path / "out/_checkpoints/features").glob("*/commits/[0-9]*"))) > 1  # several batches
    assert tables(tmp_path / "out") == tables(finished / "out")
    about = [json.loads((own / "out/scorers/betr/scorer.json").read_text()) for own in (tmp_path, finished)]
    assert about[0]["sha256"] == about[1]["sha256"]


def test_new_files_are_added_without_resampling(finished: Path, spark: Any, corpus: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished / "out", out)
    before = versions(out)
    added = [
        {**row, "id": f"new-{row['id']}", "text": f"{row['text']} {row['id']}"} for row in corpus[:200] if row["text"]
    ]
    write_parquet(tmp_path / "more", added)
    new = finished / "docs/part-9.parquet"
    shutil.copyfile(tmp_path / "more/part-0.parquet", new)
    try:  # the input's path is a part of the keys, so the file is added to the corpus of the other tests, and removed
        config = load_config(finished / "conf.yaml", (f"output={out}",))
        runs = {done.stage: done for done in run_all(spark, config)}
    finally:
        new.unlink()
    assert runs["rank"].skipped
    assert runs["train/betr"].skipped
    assert runs["features"].rows_in == len(corpus) + len(added)
    assert runs["features"].metrics["rows_new"] == len(added)
    after = versions(out)
    assert (after["ranked_sample"], after["_sample"]) == (before["ranked_sample"], before["_sample"])
    features = DeltaTable(str(out / "features")).to_pyarrow_table().to_pylist()
    n_quarantined = DeltaTable(str(out / "quarantine")).to_pyarrow_table().num_rows
    assert len({row["doc_id"] for row in features}) == len(features) == len(corpus) + len(added) - n_quarantined
