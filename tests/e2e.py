"""`make e2e`: a standalone master and two workers, spark-submit of the packaged environment, compared with local mode.

Everything runs on loopback, from an unpacked copy of the environment; nothing of the developer's is used on the cluster.
"""

import argparse
import contextlib
import os
import random
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from deltalake import DeltaTable

REPOSITORY = Path(__file__).parents[1]
COMPARED = {
    "ranked_sample": ["doc_id", "best_rank", "best_cosine", "best_example", "label", "split"],
    "features": ["doc_id", "n_tokens", "content_hash", "signature", "logit_betr"],
    "duplicates": ["doc_id", "kept_doc_id", "kind", "similarity", "component_id", "component_size"],
    "selected/betr-10": ["rank", "doc_id", "text", "logit", "score"],
    "selected/random-10": ["rank", "doc_id", "text", "logit", "score"],
}


def say(text: str) -> None:
    """Print with the time, at once."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


def write_inputs(folder: Path) -> Path:
    """Write a corpus cut out of the demo's texts in four files, and a configuration without an output."""
    corpus = folder / "demo"
    build = [
        sys.executable,
        str(REPOSITORY / "conf/demo/build_corpus.py"),
        "--output",
        str(corpus),
        "--documents",
        "1500",
    ]
    subprocess.run(build, check=True)
    rows = pq.read_table(corpus / "documents.parquet").to_pylist()
    rows += [{**row, "id": f"{row['id']} again"} for row in rows[::50]]
    random.Random(0).shuffle(rows)
    (folder / "docs").mkdir()
    for part in range(4):
        pq.write_table(pa.Table.from_pylist(rows[part::4]), folder / f"docs/part-{part}.parquet")
    config = yaml.safe_load((REPOSITORY / "conf/demo.yaml").read_text(encoding="utf-8"))
    config["input"]["path"] = str(folder / "docs")
    config["sample"] = {"documents": 900}
    for target in config["targets"].values():
        target["path"] = str(REPOSITORY / target["path"])
    path = folder / "conf.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def cluster(home: Path, folder: Path) -> Iterator[str]:
    """Run a master and two workers of one core each; give the master's address."""
    port = free_port()
    address = f"spark://127.0.0.1:{port}"
    environment = {**plain_environment(home), "SPARK_LOCAL_IP": "127.0.0.1", "SPARK_NO_DAEMONIZE": "1"}
    master = ["org.apache.spark.deploy.master.Master", "--host", "127.0.0.1", "--port", str(port), "--webui-port", "0"]
    worker = ["org.apache.spark.deploy.worker.Worker", "--host", "127.0.0.1", "--cores", "1", "--memory", "3g"]
    started = []
    try:
        for name, arguments in (("master", master), ("worker-1", worker), ("worker-2", worker)):
            more = [] if name == "master" else ["--webui-port", "0", "--work-dir", str(folder / name), address]
            with (folder / f"{name}.log").open("w") as log:
                command = [str(home / "bin/spark-class"), *arguments, *more]
                started.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
            time.sleep(6)
        yield address
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait(timeout=30)


def plain_environment(home: Path) -> dict[str, str]:
    """An environment without the developer's paths and settings."""
    kept = {key: os.environ[key] for key in ("HOME", "JAVA_HOME", "LANG", "TMPDIR") if key in os.environ}
    return {**kept, "PATH": "/usr/local/bin:/usr/bin:/bin", "SPARK_HOME": str(home)}


def submit(python: Path, home: Path, address: str, archive: Path, config: Path, output: Path) -> None:
    """Run the whole line by spark-submit in client mode; executors unpack the archive."""
    environment = {
        **plain_environment(home),
        "PYSPARK_DRIVER_PYTHON": str(python),
        "PYSPARK_PYTHON": "./environment/bin/python",
        "SPARK_LOCAL_IP": "127.0.0.1",
    }
    settings = {
        "spark.executor.memory": "2g",
        "spark.executor.cores": "1",
        "spark.driver.host": "127.0.0.1",
        "spark.sql.shuffle.partitions": "3",
        "spark.databricks.delta.snapshotPartitions": "2",
        "spark.ui.enabled": "false",
        "spark.network.timeout": "600s",
    }
    conf = [part for key, value in settings.items() for part in ("--conf", f"{key}={value}")]
    command = [str(home / "bin/spark-submit"), "--master", address, "--deploy-mode", "client", *conf]
    command += ["--archives", f"{archive}#environment", str(REPOSITORY / "jobs/run.py")]
    command += ["--config", str(config), "--set", f"output={output}"]
    subprocess.run(command, check=True, env=environment, cwd=output.parent)


def differences(one: Path, other: Path) -> list[str]:
    """Compare the tables of two runs, row by row; empty where they are the same."""
    found = []
    for name, columns in COMPARED.items():
        key = columns[0]
        left, right = (
            DeltaTable(str(output / name)).to_pyarrow_table(columns=columns).sort_by(key).combine_chunks()
            for output in (one, other)
        )
        say(f"{name}: {left.num_rows} rows locally, {right.num_rows} on the cluster")
        if not left.equals(right):
            found.append(name)
    return found


def main() -> None:
    """Exit 0 where the cluster's tables are those of local mode."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--environment", type=Path, required=True, help="the archive that `make package` makes")
    archive = parser.parse_args().environment.resolve()
    with tempfile.TemporaryDirectory(prefix="betr-spark-e2e-") as name:
        folder = Path(name)
        say("unpacking the environment for the driver")
        with tarfile.open(archive) as packed:
            packed.extractall(folder / "env", filter="fully_trusted")
        python = folder / "env/bin/python"
        home = next((folder / "env/lib").glob("python3.*/site-packages/pyspark"))
        config = write_inputs(folder)
        with cluster(home, folder) as address:
            say(f"spark-submit to {address}")
            submit(python, home, address, archive, config, folder / "cluster")
        say("local mode")
        local = [
            sys.executable,
            "-m",
            "betr_spark",
            "run",
            "--config",
            str(config),
            "--set",
            f"output={folder / 'local'}",
        ]
        subprocess.run(local, check=True, cwd=REPOSITORY)
        different = differences(folder / "local", folder / "cluster")
        shutil.rmtree(folder / "env", ignore_errors=True)
    say("DIFFERENT: " + ", ".join(different) if different else "the same tables on the cluster and in local mode")
    sys.exit(int(bool(different)))


if __name__ == "__main__":
    main()
