"""The cost of the pass and of deduplication per terabyte of text: in all, and its fixed part and slope.

    python benchmarks/cost.py [--documents FILE.parquet] [--gigabytes 1 3 10] [--repeats 3] [--before CHECKOUT]
                              [--datatrove PYTHON] [--duckdb PYTHON] [--peer-megabytes 40] [--folder FOLDER]

Generates a corpus of each size from the documents (id, text; by default the corpus next to the checkout). Each repetition of a
document after the first has its words in another order, so that it shares no shingles with the others. One in ten has an exact
copy, and one in ten has a copy with 2 % of its words changed. Times the commands `features` (the pass with signatures and one
scorer, to Delta) and `dedup`, each in a process of its own, and prints core-hours (seconds times cores) per terabyte, of the
median. From several sizes it also prints the line through all runs, with 95 % intervals: the fixed core-hours of a run, and
those of each further terabyte. Other programs run on one core on a part of the same documents (peer_NAME.py), in an
environment of their own.

`--before` names another checkout of the package: both run alternately on the same corpus. `--folder` keeps the corpora there,
and takes those that are there.
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
from collections.abc import Mapping, Sequence
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from dedup_truth import CORPUS, configured, digest
from scipy import stats

CORES = len(os.sched_getaffinity(0))
STAGES = ("features", "dedup")
FILE_BYTES = 375_000_000  # of text
Runs = Mapping[str, Sequence[Mapping[str, float]]]  # by checkout


def main() -> None:
    """Measure every size and print its cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=Path, default=CORPUS)
    parser.add_argument("--gigabytes", type=float, nargs="+", default=[1, 3, 10])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--before", type=Path, help="another checkout of the package")
    for peer in ("datatrove", "duckdb"):
        parser.add_argument(f"--{peer}", help=f"Python interpreter of an environment with {peer}")
    parser.add_argument("--peer-megabytes", type=float, default=40)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    checkouts = {"now": Path(__file__).parents[1]}
    if arguments.before:
        checkouts = {"before": arguments.before, **checkouts}
    measured: list[tuple[float, Runs]] = []
    for gigabytes in arguments.gigabytes:
        folder = arguments.folder or Path(tempfile.mkdtemp(prefix="betr-spark-cost-"))
        try:
            config, terabytes = prepared(folder / f"{gigabytes:g}", arguments.documents, int(gigabytes * 1e9))
            if not measured:
                for peer in ("datatrove", "duckdb"):
                    if python := getattr(arguments, peer):
                        measure_peer(peer, python, config, int(arguments.peer_megabytes * 1e6))
            runs = measure(config, checkouts, arguments.repeats)
            for name in checkouts:
                show(f"{name}, {terabytes * 1000:.2f} GB", terabytes, runs[name])
            measured.append((terabytes, runs))
        finally:
            if not arguments.folder:
                shutil.rmtree(folder, ignore_errors=True)
    if len(measured) > 1:
        for name in checkouts:
            show_line(name, [(terabytes, run) for terabytes, runs in measured for run in runs[name]])


def prepared(folder: Path, documents: Path, n_bytes: int) -> tuple[Path, float]:
    """Write a corpus, a scorer and a configuration; return the path of the configuration, and the terabytes of text."""
    docs = folder / "docs"
    if not docs.exists():
        docs.mkdir(parents=True)
        n_files = max(CORES, round(n_bytes / FILE_BYTES))
        parts = [(documents, docs / f"part-{part:03d}.parquet", part, n_bytes // n_files) for part in range(n_files)]
        with Pool(CORES) as pool:
            sizes = pool.starmap(write_part, parts, chunksize=1)
        configured(folder)
        (folder / "bytes").write_text(str(sum(sizes)), encoding="utf-8")
    return folder / "conf.yaml", int((folder / "bytes").read_text(encoding="utf-8")) / 1e12


def write_part(documents: Path, path: Path, part: int, n_bytes: int) -> int:
    """Write one file of about n_bytes of text, with the copies of its documents, in random order; return the bytes."""
    pick = random.Random(part)  # noqa: S311 - repeatable
    texts = pq.read_table(documents, columns=["text"]).column("text").to_pylist()
    rows: list[str] = []
    size, is_first = 0, part == 0
    while size < n_bytes:
        for text in texts:
            words = text.split(" ")
            if not is_first:
                pick.shuffle(words)
            copies, chance = [words], pick.random()
            if chance < 0.1:
                copies.append(words)
            elif chance < 0.2:
                changed = list(words)
                for position in pick.sample(range(len(words)), max(1, len(words) // 50)):
                    changed[position] = f"w{pick.randrange(10**6)}"
                copies.append(changed)
            for copy in copies:
                rows.append(" ".join(copy))
                size += len(rows[-1].encode())
            if size >= n_bytes:
                break
        is_first = False
    pick.shuffle(rows)
    ids = [f"{part:03d}-{number:07d}" for number in range(len(rows))]
    table = pa.table({"id": ids, "source": ["all"] * len(rows), "text": rows})
    pq.write_table(table, path, row_group_size=5000)
    return size


def measure(config: Path, checkouts: Mapping[str, Path], repeats: int) -> Runs:
    """Time both stages of all checkouts alternately; each has rows of `duplicates` in common with the others, or it ends."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in checkouts}
    digests = set()
    for _ in range(repeats):
        for name, checkout in checkouts.items():
            for table in (config.parent / "out").glob("*"):
                if table.name != "scorers":
                    shutil.rmtree(table, ignore_errors=True)
            seconds = {}
            for stage in STAGES:
                arguments = [sys.executable, "-m", "betr_spark", stage, "--config", str(config)]
                start = time.perf_counter()
                subprocess.run(arguments, check=True, env={**os.environ, "PYTHONPATH": str(checkout)})
                seconds[stage] = time.perf_counter() - start
            runs[name].append(seconds)
            digests.add(digest(config))
    if len(digests) > 1:
        raise SystemExit(f"{config}: the rows of `duplicates` differ")
    return runs


def show(what: str, terabytes: float, runs: Sequence[Mapping[str, float]], *, cores: int = CORES) -> None:
    """Print seconds of all runs and the core-hours per terabyte of their medians; the sum's is the median sum."""
    texts = []
    for name in runs[0]:
        seconds = [run[name] for run in runs]
        each = " ".join(f"{value:.1f}" for value in seconds)
        texts.append(f"{name} {each} s = {statistics.median(seconds) * cores / 3600 / terabytes:.1f}")
    total = statistics.median(sum(run.values()) for run in runs) * cores / 3600 / terabytes
    print(f"{what}: {', '.join(texts)}, sum {total:.1f} core-hours per TB", flush=True)


def show_line(name: str, runs: Sequence[tuple[float, Mapping[str, float]]]) -> None:
    """Print the line through the cost of all runs, by least squares: where it starts, and its slope."""
    x = np.array([terabytes for terabytes, _ in runs])
    for stage in (*STAGES, "sum"):
        hours = [sum(run.values()) if stage == "sum" else run[stage] for _, run in runs]
        line = stats.linregress(x, np.array(hours) * CORES / 3600)
        half = stats.t.ppf(0.975, len(x) - 2) if len(x) > 2 else float("nan")
        seconds, margin = line.intercept * 3600 / CORES, half * line.intercept_stderr * 3600 / CORES
        print(
            f"{name}, {stage}: {seconds:.0f} ± {margin:.0f} s a run, and "
            f"{line.slope:.1f} ± {half * line.stderr:.1f} core-hours for each further TB", flush=True,
        )  # fmt: skip


def measure_peer(name: str, python: str, config: Path, n_bytes: int) -> None:
    """Time another program on the first documents, up to n_bytes of text."""
    table = pq.read_table(config.parent / "docs/part-000.parquet", columns=["id", "text"])
    lengths = np.array([len(text.encode()) for text in table.column("text").to_pylist()])
    n = int(np.searchsorted(np.cumsum(lengths), n_bytes)) + 1
    folder = config.parent / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    pq.write_table(table.slice(0, n), folder / "documents.parquet")
    script = Path(__file__).with_name(f"peer_{name}.py")
    arguments = [python, str(script), str(folder / "documents.parquet"), str(folder / "peer")]
    environment = {**os.environ, "PYTHONPATH": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"{script.name}: {done.stderr.strip().rpartition(chr(10))[2]}")
    size = int(lengths[:n].sum())
    show(f"{name}, {size / 1e6:.0f} MB", size / 1e12, [json.loads(done.stdout.splitlines()[-1])], cores=1)


if __name__ == "__main__":
    main()
