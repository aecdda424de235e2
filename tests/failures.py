"""Kills processes of runs on a standalone cluster at random times, and compares the tables with those of an undisturbed run.

    python tests/failures.py --kills 30 --seed 1
    S3_JARS=FOLDER MOTO_SERVER=FILE python tests/failures.py --store --kills 8     (`make test-s3` installs both)

With `--store`, input and output are in an object store, and the store is a fourth victim: for some seconds it refuses connections
and breaks those that are open. Each line of the printed table is one kill: stage, victim, seconds after the stage began, and how
the disturbed run ended. A run whose driver was killed, or that failed, is started again, and may be killed again; when one ends
well its tables are compared, and nothing that was killed may have left a file. Needs Linux: processes are found in /proc.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import conftest
from object_store import Proxy, Store, configured, without_credentials
from standalone import cluster
from whole import TABLES, tables

REPOSITORY = Path(__file__).parents[1]
STAGES = ("rank/sample", "rank", "train/betr", "features", "decontaminate", "dedup", "select/betr-30")
STORE = "object store"
VICTIMS = ("executor", "python worker")
LONGEST_S = 600.0
LONGEST_OUTAGE_S = 10.0
COMPARED = [name for name in TABLES if not name.startswith("selected/") or name == "selected/betr-30"] + [
    "contamination"
]
BUCKET = "lake"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}


class Kill(NamedTuple):
    """What is killed: the victim, seconds after a stage has begun; the store is away for `outage_s`."""

    stage: str
    victim: str
    delay_s: float
    outage_s: float


class Outcome(NamedTuple):
    """A kill and its result; `killed` is False where the run ended first."""

    kill: Kill
    killed: bool
    exit_code: int
    line: str


class Output(Protocol):
    """Files of a run's output."""

    path: str

    def names(self, folder: str) -> list[str]:
        """Names of all files below a folder of the output, from the output on."""

    def read(self, name: str) -> bytes:
        """Content of a file; empty where there is none."""

    def on_disk(self, folder: Path) -> Path:
        """Where the output is on this machine; a store's is copied below `folder`."""


class OutputOnDisk:
    """An output in a local folder."""

    def __init__(self, path: Path) -> None:
        self.path, self._path = str(path), path

    def names(self, folder: str) -> list[str]:
        return [str(file.relative_to(self._path)) for file in (self._path / folder).rglob("*") if file.is_file()]

    def read(self, name: str) -> bytes:
        with contextlib.suppress(OSError):
            return (self._path / name).read_bytes()
        return b""

    def on_disk(self, folder: Path) -> Path:
        return self._path


class OutputInStore:
    """An output in an object store."""

    def __init__(self, store: Store, prefix: str) -> None:
        self.path, self._store, self._prefix = f"s3a://{BUCKET}/{prefix}", store, f"{prefix}/"

    def names(self, folder: str) -> list[str]:
        names = self._store.names(f"{self._prefix}{folder}")
        return [name.removeprefix(self._prefix) for name in names if not name.endswith("/")]

    def read(self, name: str) -> bytes:
        answer = self._store.request("GET", f"{self._prefix}{name}")
        return answer.body if answer.status == 200 else b""

    def on_disk(self, folder: Path) -> Path:
        return self._store.download(self._prefix, folder / "copy")


def planned(number: int, *, seed: int, store: bool, longest_s: float = 8.0) -> list[Kill]:
    """Draw kills: every stage in turn; half of them of the driver, the others of the other victims in turn."""
    pick = random.Random(seed)
    others = (*VICTIMS, STORE) if store else VICTIMS
    victims = ["driver" if index % 2 == 0 else others[index // 2 % len(others)] for index in range(number)]
    pick.shuffle(victims)
    return [
        Kill(STAGES[index % len(STAGES)], victim, pick.uniform(0, longest_s), pick.uniform(1, LONGEST_OUTAGE_S))
        for index, victim in enumerate(victims)
    ]


def write_inputs(folder: Path) -> dict[str, Any]:
    """Write the tests' corpus, examples and encoder, and give a configuration without an output."""

    class Folders:
        @staticmethod
        def mktemp(name: str) -> Path:
            (folder / name).mkdir(parents=True)
            return folder / name

    corpus = conftest.corpus.__wrapped__()
    docs = conftest.write_parquet(folder / "docs", corpus, files=3)
    encoder, targets = conftest.encoder.__wrapped__(Folders), conftest.targets.__wrapped__(Folders)
    values = conftest.settings(docs, folder, encoder, targets)
    items = [{"text": " ".join(row["text"].split()[5:25])} for row in corpus[3:400:40]]
    (targets / "test.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")
    tests = {"leaked": {"path": str(targets / "test.jsonl"), "template": "{text}"}}
    values["decontaminate"] = {"action": "drop", "tests": tests}
    values["input"]["max_batch_bytes"] = 60_000
    values["selections"] = {"betr-30": values["selections"]["betr-30"]}
    return values


def uploaded(values: dict[str, Any], store: Store) -> dict[str, Any]:
    """Copy the input into the store, and give the configuration that reads it there."""
    store.upload(Path(values["input"]["path"]), "docs")
    return {**values, "input": {**values["input"], "path": f"s3a://{BUCKET}/docs"}}


def driver_environment(folder: Path, environment: dict[str, str], address: str, *, endpoint: int | None) -> dict[str, str]:  # fmt: skip
    """Environment of a driver whose executors are on the cluster."""
    settings = {
        **conftest.SMALL, "spark.master": address, "spark.driver.memory": "2g", "spark.executor.memory": "1g",
        "spark.executor.cores": "1", "spark.task.maxFailures": "4", "spark.network.timeout": "120s",
    }  # fmt: skip
    local, conf = folder / "conf-local", folder / "conf"
    shutil.copytree(REPOSITORY / "conf/local", local)
    defaults = local / "spark-defaults.conf"
    kept = [line for line in defaults.read_text().splitlines() if line.split()[:1] != ["spark.master"]]
    defaults.write_text("\n".join([*kept, *(f"{name} {value}" for name, value in settings.items()), ""]))
    if endpoint is None:
        local.rename(conf)
    else:
        jars = Path(os.environ["S3_JARS"])
        configured(local, conf, endpoint=endpoint, jars=jars, **{"spark.executor.extraClassPath": f"{jars}/*"})
    return {
        **environment,
        "PYSPARK_PYTHON": sys.executable,
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


def running_stage(output: Output) -> tuple[int, str]:
    """Process id and stage of the run that holds the lease."""
    names = sorted(output.names("_lease"))
    try:
        record = json.loads(output.read(names[-1])) if names else {}
    except ValueError:
        return 0, ""
    return int(record.get("pid", 0)), "" if record.get("ended_at") else str(record.get("stage", ""))


def processes() -> dict[int, tuple[int, str]]:
    """Parent and command line of each process."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            found[int(folder.name)] = (parent, line)
    return found


def victim_pid(victim: str, driver: int, *, pick: random.Random) -> int | None:
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


def strike(kill: Kill, process: "subprocess.Popen[bytes]", *, proxy: Proxy | None, pick: random.Random) -> bool:
    """Kill the victim; whether it was there to be killed."""
    if process.poll() is not None:
        return False
    if kill.victim == "driver":
        os.killpg(process.pid, signal.SIGKILL)
        return True
    if kill.victim == STORE:
        assert proxy is not None
        proxy.down()
        time.sleep(kill.outage_s)
        proxy.up()
        return True
    pid = None
    while pid is None and process.poll() is None:  # until there is one: a stage may have no Python worker for a while
        time.sleep(0.1)
        pid = victim_pid(kill.victim, process.pid, pick=pick)
    if pid is None:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        return True
    return False


def disturbed(
    kill: Kill, config: Path, output: Output, environment: dict[str, str], *, proxy: Proxy | None, pick: random.Random
) -> Outcome:
    """Start a run, kill the victim in the stage, and wait for the run's end."""
    log = config.parent / "log"
    process = start(config, environment, log)
    deadline = time.monotonic() + LONGEST_S
    while process.poll() is None and time.monotonic() < deadline:
        pid, stage = running_stage(output)
        if pid == process.pid and stage == kill.stage:
            time.sleep(kill.delay_s)
            break
        time.sleep(0.02)
    killed = strike(kill, process, proxy=proxy, pick=pick)
    code = process.wait(timeout=LONGEST_S)
    lines = log.read_text(errors="replace").splitlines()
    return Outcome(kill, killed, code, next((line for line in reversed(lines) if line.strip()), ""))


def leftovers(output: Output) -> list[str]:
    """Files that no finished run may leave."""
    left = [name for name in output.names("") if name.endswith(".part") or name.startswith("_scratch/")]
    checkpoints = {name.split("/")[2] for name in output.names("_checkpoints/features")}
    return left + sorted(checkpoints)[1:] + sorted(output.names("_lease"))[1:]


def run_trials(
    kills: list[Kill], values: dict[str, Any], environment: dict[str, str], expected: object, folder: Path,
    output_of: Callable[[int], Output], *, proxy: Proxy | None, pick: random.Random,
) -> int:  # fmt: skip
    """Run all kills, several on one output, and print what they led to; the number of trials with a problem."""
    problems, trial, config = 0, 0, None
    print(f"{'':3} {'stage':15} {'victim':14} {'after':>6} {'exit':>5}  last line of the disturbed run", flush=True)
    for number, kill in enumerate(kills, 1):
        if config is None:
            trial += 1
            output = output_of(trial)
            (folder / f"trial-{trial}").mkdir(exist_ok=True)
            config = conftest.write_config(folder / f"trial-{trial}/conf.yaml", {**values, "output": output.path})
        outcome = disturbed(kill, config, output, environment, proxy=proxy, pick=pick)
        shown = outcome.line[:90] if outcome.killed else f"(ended before the kill) {outcome.line[:60]}"
        line = f"{number:3} {kill.stage:15} {kill.victim:14} {kill.delay_s:6.2f} {outcome.exit_code:5}  {shown}"
        print(line, flush=True)
        if number == len(kills) or outcome.exit_code == 0 or kill.stage == STAGES[-1]:
            code = outcome.exit_code
            if code:
                code = start(config, environment, config.parent / "log").wait(timeout=LONGEST_S)
            same = code == 0 and tables(output.on_disk(config.parent), COMPARED) == expected
            left = leftovers(output) if code == 0 else []
            verdict = "equal" if same else "DIFFER"
            print(f"    trial {trial}: exit {code}, tables {verdict}, left: {left or 'nothing'}", flush=True)
            problems += not same or bool(left)
            config = None
    return problems


def main(arguments: list[str] | None = None) -> int:
    """Run the kills; 0 if all tables are equal and nothing is left."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--store", action="store_true", help="input and output in an object store, a victim too")
    given = parser.parse_args(arguments)
    print(f"seed {given.seed}", flush=True)
    pick = random.Random(given.seed)
    kills = planned(given.kills, seed=given.seed, store=given.store)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="betr-spark-failures-")))
        values = write_inputs(folder / "inputs")
        environment = {**without_credentials(dict(os.environ)), "PYTHONPATH": str(REPOSITORY)}
        undisturbed = conftest.write_config(folder / "conf.yaml", {**values, "output": str(folder / "out")})
        code = start(undisturbed, environment, folder / "log").wait(timeout=LONGEST_S)
        assert code == 0, (folder / "log").read_text()
        expected = tables(folder / "out", COMPARED)
        store = proxy = None
        if given.store:
            store = stack.enter_context(Store(Path(os.environ["MOTO_SERVER"]), BUCKET))
            proxy = stack.enter_context(Proxy(store.port))
            values = uploaded(values, store)
            environment |= CREDENTIALS
        address = stack.enter_context(cluster(folder, environment, memory="2g"))
        on_cluster = driver_environment(folder, environment, address, endpoint=proxy.port if proxy else None)

        def output_of(trial: int) -> Output:
            return OutputInStore(store, f"trial-{trial}") if store else OutputOnDisk(folder / f"trial-{trial}/out")

        problems = run_trials(kills, values, on_cluster, expected, folder, output_of, proxy=proxy, pick=pick)
    print("no problem" if not problems else f"{problems} trials with problems")
    return int(problems > 0)


if __name__ == "__main__":
    sys.exit(main())
