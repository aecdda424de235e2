"""What deduplication costs a terabyte of text, from signatures to survivors, beside datatrove's MinHash pipeline.

    python benchmarks/dedup_cost.py [--documents FILE.parquet] [--gigabytes 1 3] [--datatrove PYTHON] [--peer-megabytes 40]

Makes corpora of the given sizes of the documents (id, text; the corpus beside the checkout by default): each copy of a document
after the first has its words in another order, so that it shares no shingles with the others; one in ten comes twice, and one
in ten comes again with 2 % of its words changed. Times `features` (the pass with signatures and one scorer, to Delta) and
`dedup`, as commands of their own, and gives core-hours (seconds times cores) a terabyte; from two sizes also the cost of what
is between them, free of what every run costs. datatrove runs on one core on a part of the same documents.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from dedup_truth import CORPUS, command, prepared
from planted import Row

CORES = len(os.sched_getaffinity(0))


def corpus(documents: Path, n_bytes: int) -> list[Row]:
    """Make a corpus of about n_bytes of text."""
    pick = random.Random(0)  # noqa: S311 - it is to be repeatable
    texts = pq.read_table(documents, columns=["text"]).column("text").to_pylist()
    found: list[Row] = []
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
                for rank_key in pick.sample(range(len(words)), max(1, len(words) // 50)):
                    changed[rank_key] = f"w{pick.randrange(10**6)}"
                copies.append(changed)
            for copy in copies:
                joined = " ".join(copy)
                found.append({"id": f"{len(found):09d}", "source": "all", "text": joined})
                size += len(joined.encode())
            if size >= n_bytes:
                break
        tile += 1
    pick.shuffle(found)
    return found


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=Path, default=CORPUS)
    parser.add_argument("--gigabytes", type=float, nargs="+", default=[1, 3])
    parser.add_argument("--datatrove", help="a Python that has datatrove")
    parser.add_argument("--peer-megabytes", type=float, default=40)
    arguments = parser.parse_args()
    found: list[tuple[float, dict[str, float]]] = []
    for gigabytes in arguments.gigabytes:
        folder = Path(tempfile.mkdtemp(prefix="betr-spark-cost-"))
        try:
            rows = corpus(arguments.documents, int(gigabytes * 1e9))
            size = sum(len(row["text"].encode()) for row in rows) / 1e12
            config = prepared(folder / "run", rows, n_files=8)
            if arguments.datatrove and not found:
                peer(rows, folder, arguments.datatrove, int(arguments.peer_megabytes * 1e6))
            del rows
            seconds = {}
            for stage in ("features", "dedup"):
                start = time.perf_counter()
                command(config, stage)
                seconds[stage] = time.perf_counter() - start
            found.append((size, seconds))
            show(f"{size * 1000:.1f} GB", size, seconds)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    for (small, before), (large, after) in zip(found, found[1:], strict=False):
        show("the difference", large - small, {name: after[name] - before[name] for name in after})


def show(what: str, terabytes: float, seconds: dict[str, float], *, cores: int = CORES) -> None:
    """Print core-hours a terabyte."""
    hours = {name: value * cores / 3600 / terabytes for name, value in seconds.items()}
    each = ", ".join(f"{name} {seconds[name]:.0f} s = {hours[name]:.1f}" for name in seconds)
    print(f"{what}: {each}, together {sum(hours.values()):.1f} core-hours a TB", flush=True)


def peer(rows: list[Row], folder: Path, python: str, n_bytes: int) -> None:
    """Time datatrove on the first rows."""
    taken, size = [], 0
    for row in rows:
        taken.append({"id": row["id"], "text": row["text"]})
        size += len(row["text"].encode())
        if size >= n_bytes:
            break
    pq.write_table(pa.Table.from_pylist(taken), folder / "peer.parquet")
    script = Path(__file__).with_name("peer_datatrove.py")
    arguments = [python, str(script), str(folder / "peer.parquet"), str(folder / "peer")]
    environment = {**os.environ, "PYTHONPATH": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, env=environment)
    show(f"datatrove, {size / 1e6:.0f} MB", size / 1e12, json.loads(done.stdout.splitlines()[-1]), cores=1)


if __name__ == "__main__":
    main()
