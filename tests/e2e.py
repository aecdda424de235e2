"""`make e2e`: a standalone master and two workers, spark-submit of the packaged environment, compared with local mode.

Everything runs on loopback. The cluster's Spark is that of .venv; the Python of driver and executors is the archive's alone.
The small archive has no encoder, so `rank` runs in local mode, and the cluster starts from a copy of its tables: there the
small archive does all other stages, `train` included. With `--rank-environment` (`make e2e-rank`) the cluster also runs `rank`,
whose driver is .venv.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from deltalake import DeltaTable
from standalone import HOME, cluster

REPOSITORY = Path(__file__).parents[1]
COMPARED = {
    "ranked_sample": ["doc_id", "best_rank", "best_cosine", "best_example", "label", "split"],
    "features": ["doc_id", "n_tokens", "content_hash", "signature", "logit_betr", "logit_dsir"],
    "duplicates": ["doc_id", "kept_doc_id", "kind", "similarity", "component_id", "component_size"],
    "selected/betr-10": ["rank", "doc_id", "text", "logit", "score"],
    "selected/dsir-10": ["rank", "doc_id", "text", "logit", "score"],
    "selected/random-10": ["rank", "doc_id", "text", "logit", "score"],
}
NOT_IN_THE_SMALL_ONE = ("torch", "nvidia", "triton", "transformers", "sentence_transformers", "fasttext")


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
    config["encoder"] = {"max_tokens": 64}
    config["scorers"] = {"betr": {}, "dsir": {"kind": "dsir"}}
    config["selections"]["dsir-10"] = {"scorer": "dsir", "keep": {"token_fraction": 0.10}}
    for target in config["targets"].values():
        target["path"] = str(REPOSITORY / target["path"])
    path = folder / "conf.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def plain_environment() -> dict[str, str]:
    """An environment without the developer's paths and settings."""
    kept = {key: os.environ[key] for key in ("HOME", "JAVA_HOME", "LANG", "TMPDIR") if key in os.environ}
    return {**kept, "PATH": "/usr/local/bin:/usr/bin:/bin", "SPARK_HOME": str(HOME)}


def unpacked(archive: Path, folder: Path) -> Path:
    """Unpack an environment for the driver; return its interpreter."""
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="fully_trusted")
    n_bytes = sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    say(f"{archive.name}: {archive.stat().st_size / 1e6:.0f} MB, unpacked {n_bytes / 1e6:.0f} MB")
    return folder / "bin/python"


def submit(command: str, archive: Path, driver: Path, address: str, config: Path, output: Path) -> None:
    """Run a command of betr-spark by spark-submit in client mode; executors unpack the archive."""
    environment = {
        **plain_environment(),
        "PYSPARK_DRIVER_PYTHON": str(driver),
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
        "spark.log.level": "WARN",
        "spark.network.timeout": "600s",
    }
    conf = [part for key, value in settings.items() for part in ("--conf", f"{key}={value}")]
    arguments = [str(HOME / "bin/spark-submit"), "--master", address, "--deploy-mode", "client", *conf]
    arguments += ["--archives", f"{archive}#environment", str(REPOSITORY / "jobs/run.py"), command]
    arguments += ["--config", str(config), "--set", f"output={output}"]
    subprocess.run(arguments, check=True, env=environment, cwd=output.parent)


def run_locally(config: Path, output: Path) -> None:
    """Run all stages in local mode, with the environment of this interpreter."""
    command = [sys.executable, "-m", "betr_spark", "run", "--config", str(config), "--set", f"output={output}"]
    subprocess.run(command, check=True, cwd=REPOSITORY)


def differences(one: Path, other: Path, names: list[str]) -> list[str]:
    """Compare tables of two runs, row by row; empty where they are the same."""
    found = []
    for name in names:
        columns = COMPARED[name]
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environment", type=Path, required=True, help="the small archive of `make package`")
    parser.add_argument(
        "--rank-environment", type=Path, help="the archive for `rank`; without it `rank` runs in local mode"
    )
    arguments = parser.parse_args()
    small = arguments.environment.resolve()
    with tempfile.TemporaryDirectory(prefix="betr-spark-e2e-") as name:
        folder = Path(name)
        driver = unpacked(small, folder / "small")
        packages = next((folder / "small/lib").glob("python3.*/site-packages"))
        if too_many := [package for package in NOT_IN_THE_SMALL_ONE if (packages / package).exists()]:
            raise SystemExit(f"{small.name}: has {', '.join(too_many)}")
        config = write_inputs(folder)
        say("local mode")
        run_locally(config, folder / "local")
        with cluster(folder, plain_environment(), memory="3g") as address:
            if arguments.rank_environment:
                rank = arguments.rank_environment.resolve()
                say(f"spark-submit of rank to {address} with {rank.name}")
                submit("rank", rank, Path(sys.executable), address, config, folder / "cluster")
            else:
                for table in ("_sample", "ranked_sample"):
                    shutil.copytree(folder / "local" / table, folder / "cluster" / table)
            say(f"spark-submit of run to {address} with {small.name}")
            submit("run", small, driver, address, config, folder / "cluster")
        names = [name for name in COMPARED if arguments.rank_environment or name != "ranked_sample"]
        different = differences(folder / "local", folder / "cluster", names)
    say("DIFFERENT: " + ", ".join(different) if different else "the same tables on the cluster and in local mode")
    sys.exit(int(bool(different)))


if __name__ == "__main__":
    main()
