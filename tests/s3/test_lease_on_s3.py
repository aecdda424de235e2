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
from deltalake import DeltaTable
from whole import tables

pytestmark = pytest.mark.whole

ROUNDS = 20
PAIRS = int(os.environ.get("S3_PAIRS", "2"))  # runs at once; each pair starts two JVMs
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
created, held = [], []

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
                lease.check()
                held.append((number, writer, begin, time.time()))
        except LockedError:
            pass

attempts = [threading.Thread(target=attempt, args=(thread,)) for thread in range(threads)]
[thread.start() for thread in attempts]
[thread.join() for thread in attempts]
print(json.dumps([created, held]))
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
    held = [entry for result in results for entry in result[1]]
    assert {number for number, *_ in held} == set(range(ROUNDS))
    for number in range(ROUNDS):
        spans = sorted((begin, end) for other, _, begin, end in held if other == number)
        assert all(before[1] <= after[0] for before, after in zip(spans, spans[1:], strict=False)), number


def test_two_runs_at_once_one_wins_and_the_tables_are_those_of_one_run(
    finished: Path, finished_on_s3: Any, tmp_path: Path
) -> None:
    lake = finished_on_s3
    lake.copy("out/", "pairs/")
    n_rows = 1
    for number in range(PAIRS):
        documents = 50 if number == PAIRS - 1 else 10 + number
        keep = f"selections.best-50.keep={{documents: {documents}}}"
        arguments = ("select", "--set", "output=s3a://lake/pairs", "--set", keep)
        pair = [lake.start(*arguments, environment=lake.environment()) for _ in range(2)]
        ended = [lake.end(process) for process in pair]
        codes = sorted(done.returncode for done in ended)
        assert codes in ([0, 0], [0, 3]), [done.stderr for done in ended]
        for done in ended:
            if done.returncode == 3:
                (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
                assert "is locked by `betr-spark select`" in line
                assert "Traceback" not in done.stderr
        n_rows += 1
        print(f"pair {number}: exit codes {codes}")
    out = lake.store.download("pairs/", tmp_path)
    assert tables(out) == tables(finished / "out")
    runs = DeltaTable(str(out / "runs")).to_pyarrow_table().to_pylist()
    assert Counter(row["stage"] for row in runs)["select/best-50"] == n_rows
