"""A standalone master with two workers of one core each on loopback, with the Spark of this interpreter's environment."""

import contextlib
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyspark
from object_store import free_port

HOME = Path(pyspark.__file__).parent


def _wait_for(process: "subprocess.Popen[bytes]", log: Path, line: str) -> None:
    """Wait until a process has logged a line."""
    for _ in range(120):
        text = log.read_text(encoding="utf-8", errors="replace")
        if line in text:
            return
        if process.poll() is not None:
            break
        time.sleep(0.5)
    raise SystemExit(f"{log.name}: no `{line}` after a minute:\n{text[-2000:]}")


@contextlib.contextmanager
def cluster(folder: Path, environment: Mapping[str, str], *, memory: str) -> Iterator[str]:
    """Run a cluster; give the master's address.

    Args:
        folder: for logs, and the working folders of the workers.
        environment: of master and workers, and by it of the executors.
        memory: of each worker.
    """
    port = free_port()
    address = f"spark://127.0.0.1:{port}"
    environment = {**environment, "SPARK_LOCAL_IP": "127.0.0.1", "SPARK_NO_DAEMONIZE": "1", "SPARK_HOME": str(HOME)}
    master = ["org.apache.spark.deploy.master.Master", "--host", "127.0.0.1", "--port", str(port), "--webui-port", "0"]
    worker = ["org.apache.spark.deploy.worker.Worker", "--host", "127.0.0.1", "--cores", "1", "--memory", memory]
    started: list[subprocess.Popen[bytes]] = []
    try:
        for name, arguments in (("master", master), ("worker-1", worker), ("worker-2", worker)):
            more = [] if name == "master" else ["--webui-port", "0", "--work-dir", str(folder / name), address]
            log = folder / f"{name}.log"
            with log.open("w") as stream:
                command = [str(HOME / "bin/spark-class"), *arguments, *more]
                started.append(subprocess.Popen(command, env=environment, stdout=stream, stderr=stream))
            ready = "New state: ALIVE" if name == "master" else "Successfully registered with master"
            _wait_for(started[-1], log, ready)
        yield address
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait(timeout=60)
