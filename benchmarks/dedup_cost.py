"""The cost of deduplication per terabyte of text, from signatures to survivors, compared with datatrove's MinHash pipeline.

    python benchmarks/dedup_cost.py [--documents FILE.parquet] [--gigabytes 1 3] [--datatrove PYTHON] [--peer-megabytes 40]
                                    [--before CHECKOUT] [--repeats 3]

Generates corpora of the given sizes from the documents (id, text; by default the corpus next to the checkout). Each repetition
of a document after the first has its words in another order, so that it shares no shingles with the others. One in ten has an
exact copy, and one in ten has a copy with 2 % of its words changed. Times the commands `features` (the pass with signatures and
one scorer, to Delta) and `dedup`, and prints core-hours (seconds times cores) per terabyte. From two sizes it also prints the
cost of the difference, without the fixed cost of a run. datatrove runs on one core on a part of the same documents.

`--before` names another checkout of the package: `dedup` of both checkouts runs alternately on the same features, and the ratio
of the median times is printed.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from dedup_truth import CORPUS, command, digest, prepared
from planted import Row

CORES = len(os.sched_getaffinity(0))


def corpus(documents: Path, n_bytes: int) -> list[Row]:
    """Generate a corpus of about n_bytes of text."""
    pick = random.Random(0)  # noqa: S311 - repeatable
    texts = pq.read_table(documents, columns=["text"]).column("text").to_pylist()
    rows: list[Row] = []
    size, tile = 0, 0
    while size < n_bytes:
        for text in texts:
            words = text.split(" ")
            if tile:
                pick.shuffle(words)
            copies = [words]
            chance = pick.random()
            if chance < 0.1:
                copies.append(words)
            elif chance < 0.2:
                changed = list(words)
                for position in pick.sample(range(len(words)), max(1, len(words) // 50)):
                    changed[position] = f"w{pick.randrange(10**6)}"
                copies.append(changed)
            for copy in copies:
                joined = " ".join(copy)
                rows.append({"id": f"{len(rows):09d}", "source": "all", "text": joined})
                size += len(joined.encode())
            if size >= n_bytes:
                break
        tile += 1
    pick.shuffle(rows)
    return rows


def main() -> None:
    """Measure every size and print its cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=Path, default=CORPUS)
    parser.add_argument("--gigabytes", type=float, nargs="+", default=[1, 3])
    parser.add_argument("--datatrove", help="Python interpreter of an environment with datatrove")
    parser.add_argument("--peer-megabytes", type=float, default=40)
    parser.add_argument("--before", type=Path, help="another checkout of the package")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    measured: list[tuple[float, dict[str, float]]] = []
    for gigabytes in arguments.gigabytes:
        folder = Path(tempfile.mkdtemp(prefix="betr-spark-cost-"))
        try:
            rows = corpus(arguments.documents, int(gigabytes * 1e9))
            size = sum(len(row["text"].encode()) for row in rows) / 1e12
            config = prepared(folder / "run", rows, n_files=8)
            if arguments.datatrove and not measured:
                peer(rows, folder, arguments.datatrove, int(arguments.peer_megabytes * 1e6))
            del rows
            seconds = {}
            for stage in ("features", "dedup"):
                start = time.perf_counter()
                command(config, stage)
                seconds[stage] = time.perf_counter() - start
            measured.append((size, seconds))
            show(f"{size * 1000:.1f} GB", size, seconds)
            if arguments.before:
                compare(config, arguments.before, arguments.repeats)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    for (small, before), (large, after) in zip(measured, measured[1:], strict=False):
        show("the difference", large - small, {name: after[name] - before[name] for name in after})


def show(what: str, terabytes: float, seconds: dict[str, float], *, cores: int = CORES) -> None:
    """Print core-hours per terabyte."""
    hours = {name: value * cores / 3600 / terabytes for name, value in seconds.items()}
    each = ", ".join(f"{name} {seconds[name]:.0f} s = {hours[name]:.1f}" for name in seconds)
    print(f"{what}: {each}, sum {sum(hours.values()):.1f} core-hours per TB", flush=True)


def compare(config: Path, before: Path, repeats: int) -> None:
    """Time `dedup` of another checkout and of this checkout alternately, on the same features."""
    checkouts = {"before": before, "now": Path(__file__).parents[1]}
    seconds: dict[str, list[float]] = {name: [] for name in checkouts}
    digests = dict.fromkeys(checkouts, "")
    for _ in range(repeats):
        for name, checkout in checkouts.items():
            for table in ("duplicates", "_components"):
                shutil.rmtree(config.parent / "out" / table, ignore_errors=True)
            arguments = [sys.executable, "-m", "betr_spark", "dedup", "--config", str(config)]
            start = time.perf_counter()
            subprocess.run(arguments, check=True, env={**os.environ, "PYTHONPATH": str(checkout)})
            seconds[name].append(time.perf_counter() - start)
            digests[name] = digest(config)
    for name, values in seconds.items():
        each = " ".join(f"{value:.1f}" for value in values)
        print(f"dedup {name}: {each} s, median {statistics.median(values):.1f} s, rows {digests[name]}", flush=True)
    ratio = statistics.median(seconds["now"]) / statistics.median(seconds["before"])
    print(f"ratio of the medians, now to before: {ratio:.3f}", flush=True)


def peer(rows: list[Row], folder: Path, python: str, n_bytes: int) -> None:
    """Time datatrove on the first rows, up to n_bytes of text."""
    documents, size = [], 0
    for row in rows:
        documents.append({"id": row["id"], "text": row["text"]})
        size += len(row["text"].encode())
        if size >= n_bytes:
            break
    pq.write_table(pa.Table.from_pylist(documents), folder / "peer.parquet")
    script = Path(__file__).with_name("peer_datatrove.py")
    arguments = [python, str(script), str(folder / "peer.parquet"), str(folder / "peer")]
    environment = {**os.environ, "PYTHONPATH": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, env=environment)
    show(f"datatrove, {size / 1e6:.0f} MB", size / 1e12, json.loads(done.stdout.splitlines()[-1]), cores=1)


if __name__ == "__main__":
    main()
