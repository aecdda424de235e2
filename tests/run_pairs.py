"""Pairs of runs on one output that start at the same time, in two processes."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

from deltalake import DeltaTable

# A driver that runs the command once for each number of documents that it is told; a new JVM for each would take minutes.
PROGRAM = """
import sys
from betr_spark.cli import main

for line in sys.stdin:
    keep = f"selections.best-50.keep={{documents: {int(line)}}}"
    stdout, sys.stdout = sys.stdout, sys.stderr
    try:
        main(["run", "--config", sys.argv[1], "--set", f"output={sys.argv[2]}", "--set", keep])
    except SystemExit as done:
        code = done.code
    finally:
        sys.stdout = stdout
    print(code, flush=True)
"""


def run_pairs(config: Path, output: str, environments: list[dict[str, str]], folder: Path, *, pairs: int) -> None:
    """Run pairs that change the selection `best-50`, the last one to 50 documents.

    In each pair both end well, one after the other, or one is refused with a line that says who holds the lease.

    Args:
        config: of a finished run.
        output: the output of that run, or a copy.
        environments: of the two drivers.
        folder: for the program and what the drivers print.
        pairs: how many, one after the other.
    """
    (folder / "program.py").write_text(PROGRAM, encoding="utf-8")
    command, pipe = [sys.executable, str(folder / "program.py"), str(config), output], subprocess.PIPE
    files = [(folder / f"driver-{name}").open("w") for name in "ab"]
    drivers = [
        subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=file, text=True)
        for environment, file in zip(environments, files, strict=True)
    ]
    outcomes: Counter[tuple[int, ...]] = Counter()
    for number in range(pairs):
        documents = 50 if number == pairs - 1 else 10 + number
        for driver in drivers:
            driver.stdin.write(f"{documents}\n")
            driver.stdin.flush()
        codes = sorted(int(driver.stdout.readline()) for driver in drivers)
        assert codes in ([0, 0], [0, 3]), codes
        outcomes[tuple(codes)] += 1
    for driver, file in zip(drivers, files, strict=True):
        driver.communicate(timeout=60)
        file.close()
    print(f"exit codes of {pairs} pairs: {dict(outcomes)}")
    lines = [line for file in files for line in Path(file.name).read_text().splitlines()]
    refused = [line for line in lines if line.startswith("error: ")]
    assert len(refused) == outcomes[0, 3]
    assert all("is locked by `betr-spark run` of " in line for line in refused)


def assert_selected_once_a_pair(output: Path, *, pairs: int) -> None:
    """Nothing was done twice: the finished run and each pair built `best-50` once."""
    runs = DeltaTable(str(output / "runs")).to_pyarrow_table().to_pylist()
    assert Counter(row["stage"] for row in runs)["select/best-50"] == 1 + pairs
