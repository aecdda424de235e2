"""Runs in processes of their own: killed in the middle of a stage and run again, and two at once."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import write_config
from deltalake import DeltaTable
from run_pairs import assert_selected_once_a_pair, run_pairs
from whole import TABLES, tables

from betr_spark.config import load_config
from betr_spark.pipeline.run import run_all

pytestmark = pytest.mark.whole


def kill_when(config: Path, environment: dict[str, str], seen: Callable[[str], bool]) -> None:
    """Start the run and kill -9 driver, JVM and workers as soon as `seen` is true of what it has written to stderr."""
    written = config.with_suffix(".stderr")
    with written.open("w", encoding="utf-8") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "betr_spark", "run", "--config", str(config)],
            cwd=config.parent, env=environment, stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True,
        )  # fmt: skip
    while not seen(written.read_text(encoding="utf-8")):
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def seconds_after(line: str, seconds: float) -> Callable[[str], bool]:
    """A condition for `kill_when`: a line was written, so many seconds ago."""
    found: list[float] = []

    def seen(written: str) -> bool:
        if not found and line in written:
            found.append(time.monotonic())
        return bool(found) and time.monotonic() - found[0] >= seconds

    return seen


def test_killed_in_each_stage_and_run_again_ends_with_the_same_tables(
    finished: Path, tmp_path: Path, small_spark: dict[str, str], spark: Any
) -> None:
    out = tmp_path / "out"
    for done in ("_sample", "_embeddings", "ranked_sample", "scorers"):  # the kills begin with features
        shutil.copytree(finished / "out" / done, out / done)
    values = yaml.safe_load((finished / "conf.yaml").read_text(encoding="utf-8"))
    values["input"]["max_batch_bytes"] = 60_000
    values["selections"] = {"betr-30": values["selections"]["betr-30"]}
    config = write_config(tmp_path / "conf.yaml", {**values, "output": str(out)})

    first_batch = out / "features/_delta_log/00000000000000000000.json"
    kill_when(config, small_spark, lambda _: first_batch.exists())  # between the batches
    kill_when(config, small_spark, seconds_after("dedup: started", 2))  # between the rounds
    kill_when(
        config, small_spark, lambda _: any((out / "selected/betr-30").glob("*.parquet"))
    )  # before or after the commit
    ended = {done.stage: done for done in run_all(spark, load_config(config))}
    assert (ended["rank/sample"].rows_in, ended["rank/sample"].skipped) == (598, True)
    compared = [name for name in TABLES if name not in ("selected/random-30", "selected/best-50")]
    assert tables(out, compared) == tables(finished / "out", compared)
    runs = DeltaTable(str(out / "runs")).to_pyarrow_table().to_pylist()
    stages = Counter(row["stage"] for row in runs)
    assert stages == Counter(
        [
            "rank/sample",
            "rank",
            "train/betr",
            "features",
            "dedup",
            "select/betr-30",
        ]
    )


def test_of_two_runs_at_once_one_wins_and_the_tables_are_those_of_one_run(
    finished: Path, tmp_path: Path, small_spark: dict[str, str]
) -> None:
    pairs = int(os.environ.get("PAIRS", "2"))
    shutil.copytree(finished / "out", tmp_path / "out")
    run_pairs(finished / "conf.yaml", str(tmp_path / "out"), [small_spark, small_spark], tmp_path, pairs=pairs)
    assert tables(tmp_path / "out") == tables(finished / "out")
    assert_selected_once_a_pair(tmp_path / "out", pairs=pairs)
