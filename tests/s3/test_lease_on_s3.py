"""The lease on an object store: of several runs at once one gets the output."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from run_pairs import assert_selected_once_a_pair, run_pairs
from whole import tables

pytestmark = pytest.mark.whole

ROUNDS = 20
PAIRS = int(os.environ.get("PAIRS", "5"))
# Two processes with threads: at the same instants all of them try to create the same files, and then to hold the same lease.
PROGRAM = f"""
import json, sys, threading, time
from dataclasses import replace
from betr_spark.errors import LockedError
from betr_spark.spark.session import build_session
from betr_spark.storage.lease import hold
from betr_spark.storage.lease_record import Holder
from betr_spark.storage.small_files import create_new

name, threads = sys.argv[1], 3
spark = build_session()
this = Holder.this(spark, "run", "run")
create_new(spark, f"s3a://lake/lease/ready/{{name}}", b"")
print("ready", flush=True)
start = float(sys.stdin.readline())
created, held, taken_over = [], [], []

def attempt(thread):
    writer = f"{{name}}{{thread}}"
    for number in range({ROUNDS}):
        time.sleep(max(0.0, start + number - time.time()))
        if create_new(spark, f"s3a://lake/lease/files/{{number}}", writer.encode()):
            created.append((number, writer))
    for number in range({ROUNDS}):
        time.sleep(max(0.0, start + {ROUNDS} + 3 + 3 * number - time.time()))
        try:
            with hold(spark, f"s3a://lake/lease/{{number}}", replace(this, run_id=writer)) as lease:
                begin = time.time()
                time.sleep(1.0)
                held.append((number, writer, begin, time.time()))
                try:
                    lease.check()
                except LockedError as error:
                    taken_over.append(str(error))
        except LockedError:
            pass

attempts = [threading.Thread(target=attempt, args=(thread,)) for thread in range(threads)]
[thread.start() for thread in attempts]
[thread.join() for thread in attempts]
print(json.dumps([created, held, taken_over]))
"""


def test_of_writers_at_once_one_creates_a_file_and_one_holds_the_lease(lake: Any, tmp_path: Path) -> None:
    environment, (program, pipe) = lake.environment(), (tmp_path / "program.py", subprocess.PIPE)
    program.write_text(PROGRAM, encoding="utf-8")
    command = [sys.executable, str(program)]
    started = [subprocess.Popen([*command, name], env=environment, stdin=pipe, stdout=pipe, text=True) for name in "ab"]
    for process in started:
        assert process.stdout.readline() == "ready\n"
    start = time.time() + 2
    for process in started:
        process.stdin.write(f"{start}\n")
        process.stdin.flush()
    results = [json.loads(process.communicate(timeout=300)[0].splitlines()[-1]) for process in started]
    created = Counter(number for result in results for number, _ in result[0])
    assert created == Counter(range(ROUNDS))
    assert [error for result in results for error in result[2]] == []
    held = [entry for result in results for entry in result[1]]
    assert {number for number, *_ in held} == set(range(ROUNDS))
    for number in range(ROUNDS):
        spans = sorted((begin, end) for other, _, begin, end in held if other == number)
        assert all(before[1] <= after[0] for before, after in zip(spans, spans[1:], strict=False)), number


def test_a_run_that_waits_goes_on_after_the_other_one(
    lake: Any, finished: Path, finished_on_s3: Any, tmp_path: Path
) -> None:
    lake.copy("out/", "waits/")
    changed = ("--set", "output=s3a://lake/waits", "--set", "selections.best-50.keep={documents: 20}")
    same = ("--set", "output=s3a://lake/waits", "--wait", "300")
    pair = [
        lake.start("run", *changed, environment=lake.environment()),
        lake.start("run", *same, environment=lake.environment()),
    ]
    codes = [lake.end(process).returncode for process in pair]
    assert codes in ([0, 0], [3, 0])
    if codes[0] == 0:  # the order is open: the last one decides
        assert lake.run("run", "--set", "output=s3a://lake/waits", environment=lake.environment()).returncode == 0
    assert tables(lake.store.download("waits/", tmp_path)) == tables(finished / "out")


def test_of_two_runs_at_once_one_wins_and_the_tables_are_those_of_one_run(
    finished: Path, finished_on_s3: Any, tmp_path: Path
) -> None:
    lake = finished_on_s3
    lake.copy("out/", "pairs/")
    run_pairs(lake.config, "s3a://lake/pairs", [lake.environment() for _ in range(2)], tmp_path, pairs=PAIRS)
    out = lake.store.download("pairs/", tmp_path)
    assert tables(out) == tables(finished / "out")
    assert_selected_once_a_pair(out, pairs=PAIRS)
