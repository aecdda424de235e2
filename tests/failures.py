"""Kills processes of runs on a standalone cluster at random times, and compares the tables with those of an undisturbed run.

    python tests/failures.py --kills 30 --seed 1

Each line of the printed table is one kill: stage, victim, seconds after the stage began, and how the disturbed run ended. A run
whose driver was killed, or that failed, is started again, and may be killed again; when one ends well its tables are compared, and
nothing that was killed may have left a file. Needs Linux: processes are found in /proc.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import conftest
from whole import TABLES, tables

REPOSITORY = Path(__file__).parents[1]
STAGES = ("rank/sample", "rank", "train/betr", "features", "dedup", "select/betr-30")
VICTIMS = ("driver", "executor", "python worker")
LONGEST_S = 600.0
COMPARED = [name for name in TABLES if not name.startswith("selected/") or name == "selected/betr-30"]


class Kill(NamedTuple):
    """What is killed: the victim, seconds after a stage has begun."""

    stage: str
    victim: str
    delay_s: float


class Outcome(NamedTuple):
    """A kill and its result; `killed` is False where the run ended first."""

    kill: Kill
    killed: bool
    exit_code: int
    line: str


def planned(number: int, *, seed: int, longest_s: float = 8.0) -> list[Kill]:
    """Draw kills, every stage and victim in turn; driver kills are half of them."""
    pick = random.Random(seed)
    victims = [VICTIMS[0] if index % 2 == 0 else VICTIMS[1 + index // 2 % 2] for index in range(number)]
    stages = [STAGES[index % len(STAGES)] for index in range(number)]
    pick.shuffle(victims)
    return [Kill(s, v, round(pick.uniform(0, longest_s), 2)) for s, v in zip(stages, victims, strict=True)]


@contextlib.contextmanager
def cluster(folder: Path, *, environment: dict[str, str]) -> Iterator[str]:
    """Run a master and two workers of one core each, on loopback; give the master's address."""
    import pyspark

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    address, home = f"spark://127.0.0.1:{port}", Path(pyspark.__file__).parent
    environment = {**environment, "SPARK_LOCAL_IP": "127.0.0.1", "SPARK_NO_DAEMONIZE": "1", "SPARK_HOME": str(home)}
    master = ["org.apache.spark.deploy.master.Master", "--host", "127.0.0.1", "--port", str(port), "--webui-port", "0"]
    worker = ["org.apache.spark.deploy.worker.Worker", "--host", "127.0.0.1", "--cores", "1", "--memory", "2g"]
    started = []
    try:
        for name, arguments in (("master", master), ("worker-1", worker), ("worker-2", worker)):
            more = [] if name == "master" else ["--webui-port", "0", "--work-dir", str(folder / name), address]
            with (folder / f"{name}.log").open("w") as log:
                command = [str(home / "bin/spark-class"), *arguments, *more]
                started.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
            time.sleep(5)
        yield address
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait(timeout=60)


def write_inputs(folder: Path) -> dict[str, Any]:
    """Write the tests' corpus, examples and encoder, and give a configuration without an output."""

    class Folders:
        @staticmethod
        def mktemp(name: str) -> Path:
            (folder / name).mkdir(parents=True)
            return folder / name

    docs = conftest.write_parquet(folder / "docs", conftest.corpus.__wrapped__(), files=3)
    encoder, targets = conftest.encoder.__wrapped__(Folders), conftest.targets.__wrapped__(Folders)
    values = conftest.settings(docs, folder, encoder, targets)
    values["input"]["max_batch_bytes"] = 60_000
    values["selections"] = {"betr-30": values["selections"]["betr-30"]}
    return values


def cluster_environment(folder: Path, address: str) -> dict[str, str]:
    """Environment of a driver whose executors are on the cluster."""
    conf = folder / "conf"
    shutil.copytree(REPOSITORY / "conf/local", conf)
    settings = {
        **conftest.SMALL, "spark.master": address, "spark.driver.memory": "2g", "spark.executor.memory": "1g",
        "spark.executor.cores": "1", "spark.task.maxFailures": "4", "spark.network.timeout": "120s",
    }  # fmt: skip
    lines = [f"{name} {value}\n" for name, value in settings.items()]
    kept = [
        line for line in (conf / "spark-defaults.conf").read_text().splitlines() if line.split()[:1] != ["spark.master"]
    ]
    (conf / "spark-defaults.conf").write_text("\n".join(kept) + "\n" + "".join(lines))
    workers = {"PYTHONPATH": str(REPOSITORY), "PYSPARK_PYTHON": sys.executable}
    return {
        **os.environ,
        **workers,
        "SPARK_CONF_DIR": str(conf),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYSPARK_SUBMIT_ARGS": "pyspark-shell",
    }


def start(config: Path, environment: dict[str, str], log: Path) -> "subprocess.Popen[bytes]":
    """Start a run in a process group of its own."""
    command = [sys.executable, "-m", "betr_spark", "run", "--config", str(config)]
    with log.open("wb") as stream:
        return subprocess.Popen(
            command, env=environment, cwd=config.parent, stdout=stream, stderr=stream, start_new_session=True
        )


def running_stage(output: Path) -> tuple[int, str]:
    """Process id and stage of the run that holds the lease."""
    records = sorted((output / "_lease").glob("*.json"))
    try:
        record = json.loads(records[-1].read_bytes()) if records else {}
    except (ValueError, OSError):
        return 0, ""
    return int(record.get("pid", 0)), "" if record.get("ended_at") else str(record.get("stage", ""))


def processes() -> dict[int, tuple[int, str]]:
    """Parent and command line of each process."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            found[int(folder.name)] = (
                parent,
                (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"),
            )
        except (OSError, ValueError, IndexError):
            continue
    return found


def victim_pid(victim: str, driver: int, *, address: str, pick: random.Random) -> int | None:
    """Find a process of the run's executors: an executor's JVM, or one of its Python workers."""
    all_processes = processes()
    executors = sorted(
        pid
        for pid, (_, line) in all_processes.items()
        if "CoarseGrainedExecutorBackend" in line and "java" in line.split(" ")[0]
    )
    if victim == "executor":
        return pick.choice(executors) if executors else None

    def ancestors(pid: int) -> Iterator[int]:
        while pid in all_processes and pid > 1:
            pid = all_processes[pid][0]
            yield pid

    workers = sorted(
        pid
        for pid, (_, line) in all_processes.items()
        if "pyspark.daemon" in line and set(ancestors(pid)) & set(executors) and pid != driver
    )
    return pick.choice(workers) if workers else None


def disturbed(kill: Kill, config: Path, environment: dict[str, str], *, address: str, pick: random.Random) -> Outcome:
    """Start a run, kill the victim in the stage, and wait for the run's end."""
    output, log = config.parent / "out", config.parent / "log"
    process = start(config, environment, log)
    deadline = time.monotonic() + LONGEST_S
    seen = False
    while process.poll() is None and time.monotonic() < deadline:
        pid, stage = running_stage(output)
        if pid == process.pid and stage == kill.stage:
            seen = True
            break
        time.sleep(0.02)
    time.sleep(kill.delay_s if seen and process.poll() is None else 0)
    killed = False
    if process.poll() is None and kill.victim == "driver":
        os.killpg(process.pid, signal.SIGKILL)
        killed = True
    elif process.poll() is None:
        for _ in range(50):
            pid_to_kill = victim_pid(kill.victim, process.pid, address=address, pick=pick)
            if pid_to_kill is not None or process.poll() is not None:
                break
            time.sleep(0.1)
        if pid_to_kill is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid_to_kill, signal.SIGKILL)
                killed = True
    code = process.wait(timeout=LONGEST_S)
    lines = log.read_text(errors="replace").splitlines()
    return Outcome(kill, killed, code, next((line for line in reversed(lines) if line.strip()), ""))


def leftovers(output: Path) -> list[str]:
    """Files that no finished run may leave."""
    left = [str(path.relative_to(output)) for path in output.rglob("*.part")]
    left += [str(path.relative_to(output)) for path in (output / "_scratch").rglob("*") if path.is_file()]
    checkpoints = list((output / "_checkpoints/features").iterdir())
    records = list((output / "_lease").iterdir())
    return left + [path.name for path in checkpoints[1:]] + [path.name for path in records[1:]]


def main(arguments: list[str] | None = None) -> int:
    """Run the kills; 0 if all tables are equal and nothing is left."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    given = parser.parse_args(arguments)
    print(f"seed {given.seed}", flush=True)
    pick, problems = random.Random(given.seed), 0
    with tempfile.TemporaryDirectory(prefix="betr-spark-failures-") as name:
        folder = Path(name)
        values = write_inputs(folder / "inputs")
        undisturbed = conftest.write_config(folder / "conf.yaml", {**values, "output": str(folder / "out")})
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        code = start(undisturbed, environment, folder / "log").wait(timeout=LONGEST_S)
        assert code == 0, (folder / "log").read_text()
        expected = tables(folder / "out", COMPARED)
        with cluster(folder, environment=environment) as address:
            on_cluster = cluster_environment(folder, address)
            remaining, trial, config = planned(given.kills, seed=given.seed), 0, None
            print(
                f"{'':3} {'stage':15} {'victim':14} {'after':>6} {'exit':>5}  last line of the disturbed run",
                flush=True,
            )
            for number, kill in enumerate(remaining, 1):
                if config is None:
                    trial += 1
                    (folder / f"trial-{trial}").mkdir()
                    output = folder / f"trial-{trial}/out"
                    config = conftest.write_config(output.parent / "conf.yaml", {**values, "output": str(output)})
                outcome = disturbed(kill, config, on_cluster, address=address, pick=pick)
                shown = outcome.line[:90] if outcome.killed else f"(ended before the kill) {outcome.line[:60]}"
                print(
                    f"{number:3} {kill.stage:15} {kill.victim:14} {kill.delay_s:6.2f} {outcome.exit_code:5}  {shown}",
                    flush=True,
                )
                last = number == len(remaining)
                if last or outcome.exit_code == 0 or kill.stage == STAGES[-1]:
                    code = (
                        0
                        if outcome.exit_code == 0
                        else start(config, on_cluster, config.parent / "log").wait(timeout=LONGEST_S)
                    )
                    same = code == 0 and tables(config.parent / "out", COMPARED) == expected
                    left = leftovers(config.parent / "out") if code == 0 else []
                    print(
                        f"    trial {trial}: exit {code}, tables {'equal' if same else 'DIFFER'}, left: {left or 'nothing'}",
                        flush=True,
                    )
                    problems += not same or bool(left)
                    config = None
    print("no problem" if not problems else f"{problems} trials with problems")
    return int(problems > 0)


if __name__ == "__main__":
    sys.exit(main())
