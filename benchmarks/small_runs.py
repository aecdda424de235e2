"""Spark jobs of a first run on the demo's corpus, by what starts them, and jobs and seconds of a run without anything new.

    python benchmarks/small_runs.py --documents 8000

The seconds are those of `betr-spark run` in a process of its own, the third of three; the log line of it says how long
Spark's start took.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from betr_spark.config import load_config
from betr_spark.pipeline.run import run_all
from betr_spark.spark.session import build_session

ROOT = Path(__file__).parents[1]
OWN, BROADCAST = "actions of the stages", "small sides of joins (broadcast)"
FILES, NEW, SNAPSHOT = "Delta: files of a query", "Delta: new tables (no task)", "Delta: state of a table"


def main() -> None:
    """Print a line for each kind of job."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=8_000)
    n_documents = parser.parse_args().documents
    with tempfile.TemporaryDirectory(prefix="betr-spark-small-runs-") as folder:
        corpus, output = f"{folder}/corpus/documents.parquet", f"{folder}/out"
        builder = ["conf/demo/build_corpus.py", "--output", str(Path(corpus).parent), "--documents", str(n_documents)]
        subprocess.run([sys.executable, *builder], cwd=ROOT, check=True)
        settings = (f"input.path={corpus}", f"output={output}")
        spark = build_session("small runs")
        for name in ("first run", "run without anything new"):
            before = job_kinds(spark)
            run_all(spark, load_config(ROOT / "conf/demo.yaml", settings))
            kinds = job_kinds(spark) - before
            print(f"{name}, {n_documents} documents: {kinds.total()} jobs")
            for kind, count in kinds.most_common():
                print(f"  {count:4} {kind}")
        spark.stop()
        command = ["-m", "betr_spark", "run", "--config", "conf/demo.yaml"]
        for _ in range(3):  # the first ones read Python's files and Spark's jars into the cache of the file system
            began = time.monotonic()
            done = subprocess.run(
                [sys.executable, *command, *(part for setting in settings for part in ("--set", setting))],
                cwd=ROOT, check=True, capture_output=True, text=True,
            )  # fmt: skip
            seconds = time.monotonic() - began
        start = re.search(r"Spark: started in [\d.]+ s", done.stderr)
        print(f"run without anything new, in a new process: {seconds:.1f} s ({start[0] if start else done.stderr})")


def job_kinds(spark: SparkSession) -> Counter[str]:
    """Count the session's jobs by what started them."""
    context: Any = spark.sparkContext._jsc.sc()  # noqa: SLF001
    context.listenerBus().waitUntilEmpty()
    jobs = context.statusStore().jobsList(None)
    return Counter(_kind(jobs.apply(number)) for number in range(jobs.size()))


def _kind(job: Any) -> str:
    description = job.description().get() if job.description().isDefined() else ""
    if "Filtering files" in description:
        return FILES
    if "Compute snapshot" in description:
        return SNAPSHOT
    if job.numTasks() == 0:
        return NEW
    return BROADCAST if "CompletableFuture" in job.name() else OWN


if __name__ == "__main__":
    main()
