"""Spark jobs of a first run on the demo's corpus, by what starts them, and of a run without anything new.

    python benchmarks/small_runs.py --documents 8000

Then seconds of `betr-spark run` in processes of their own, three times: a first run that ranks by a column, so that nothing is
embedded or trained, and a run without anything new. The log line of a run says how long Spark's start took.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
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
        by_column = with_expression_scorer(Path(folder), Path(corpus))
        for _ in range(3):  # the first ones read Python's files and Spark's jars into the cache of the file system
            shutil.rmtree(by_column.parent / "out", ignore_errors=True)
            for name in ("first run, scorer of a column", "run without anything new"):
                print(f"{name}, in a new process: {timed_run(by_column)}", flush=True)


def with_expression_scorer(folder: Path, corpus: Path) -> Path:
    """Write the corpus with a column of numbers, and a configuration that ranks by it; nothing is embedded or trained."""
    documents = pq.read_table(corpus)
    numbers = np.random.default_rng(0).normal(size=len(documents))
    (folder / "numbers").mkdir()
    pq.write_table(documents.append_column("quality", pa.array(numbers)), folder / "numbers/documents.parquet")
    settings = {
        "input": {"path": str(folder / "numbers"), "id": "id"},
        "output": str(folder / "numbers.out" / "out"),
        "scorers": {"quality": {"kind": "expression", "column": "quality"}},
        "selections": {"best": {"scorer": "quality", "keep": {"token_fraction": 0.1}}},
    }
    config = folder / "numbers.out/conf.yaml"
    config.parent.mkdir()
    config.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return config


def timed_run(config: Path) -> str:
    """Seconds of `betr-spark run` in a process of its own, and of them those until Spark has started."""
    began = time.monotonic()
    command = [sys.executable, "-m", "betr_spark", "run", "--config", str(config)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    start = re.search(r"Spark: started in [\d.]+ s", done.stderr)
    return f"{time.monotonic() - began:.1f} s ({start[0] if start else done.stderr})"


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
