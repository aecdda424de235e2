"""The store goes away in the middle of a run, and comes back or not; the next run gives the same tables."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from object_store import Proxy
from whole import tables

pytestmark = pytest.mark.whole

BEFORE = ("_sample", "_embeddings", "ranked_sample", "scorers")  # of the stages before features
COMPARED = ("features", "duplicates", "quarantine", "selected/betr-30")
FAST = {  # gives up in seconds, where the defaults do in minutes
    "spark.hadoop.fs.s3a.attempts.maximum": "1",
    "spark.hadoop.fs.s3a.retry.limit": "1",
    "spark.hadoop.fs.s3a.retry.interval": "100ms",
    "spark.hadoop.fs.s3a.connection.establish.timeout": "2s",
}
SET = [
    *("--set", "input.max_batch_bytes=60000"),
    *("--set", "selections={betr-30: {scorer: betr, keep: {token_fraction: 0.3}}}"),
]


def wait_until(seen: Callable[[Any], bool], process: Any) -> None:
    deadline = time.monotonic() + 400
    while not seen(process):
        assert process.poll() is None, "the run ended before the store went down"
        assert time.monotonic() < deadline, "the stage was not reached"
        time.sleep(0.05)


def in_features(lake: Any, output: str) -> Callable[[Any], bool]:
    return lambda _: bool(lake.store.names(f"{output}/features/_delta_log/00000000000000000000.json"))


def in_dedup(process: Any) -> bool:
    return b"dedup: started" in os.pread(process.stderr.fileno(), 2**20, 0)


def assert_same(lake: Any, output: str, finished: Path, folder: Path) -> None:
    shutil.rmtree(folder / output, ignore_errors=True)
    found = tables(lake.store.download(f"{output}/", folder), COMPARED)
    assert found == tables(finished / "out", COMPARED)


def test_a_run_waits_for_a_store_that_comes_back(finished: Path, finished_on_s3: Any, tmp_path: Path) -> None:
    lake = finished_on_s3
    lake.copy("out/", "away/", *BEFORE)
    with Proxy(lake.store.port) as proxy:
        process = lake.start("run", *SET, "--set", "output=s3a://lake/away", environment=lake.environment(endpoint=proxy.port))  # fmt: skip
        for reached in (in_features(lake, "away"), in_dedup):
            wait_until(reached, process)
            proxy.down()
            accepted = proxy.accepted
            time.sleep(6)
            proxy.up()
        done = lake.end(process)
        assert 0 < accepted < proxy.accepted
    assert done.returncode == 0, done.stderr
    assert_same(lake, "away", finished, tmp_path)


def test_a_run_without_its_store_stops_with_a_line_and_the_next_one_goes_on(
    finished: Path, finished_on_s3: Any, tmp_path: Path
) -> None:
    lake = finished_on_s3
    lake.copy("out/", "gone/", *BEFORE)
    output = ("--set", "output=s3a://lake/gone")
    for reached in (in_features(lake, "gone"), in_dedup):
        with Proxy(lake.store.port) as proxy:
            environment = lake.environment(endpoint=proxy.port, **FAST)
            process = lake.start("run", *SET, *output, environment=environment)
            wait_until(reached, process)
            proxy.down()
            done = lake.end(process)
        assert done.returncode == 1, done.stderr
        assert "Traceback" not in done.stderr
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert line.startswith("error: the store cannot be reached; run again when it can: ")
    done = lake.run("run", *SET, *output, environment=lake.environment())
    assert done.returncode == 0, done.stderr
    assert_same(lake, "gone", finished, tmp_path)
