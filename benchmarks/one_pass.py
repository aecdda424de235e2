"""What the one pass over the text costs: beside Spark's floor, with one core and two, at 100 MB and 1 GB, beside other tools.

    make bench                      # python benchmarks/one_pass.py --output benchmarks/RESULTS.md
    python benchmarks/one_pass.py [--documents FILE.parquet] [--text COLUMN] [--megabytes 400] [--cores 2]

The documents are tiled with new ids to the sizes wanted. All rows are measured in one tree of processes; each is the median
of three runs after one that is not counted. The floor is a mapInArrow that counts the rows it is given.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import fasttext
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from kernels import DOCUMENTS, HASHER, SLOW_DOCUMENTS, Row, pss, rows, table_of, texts_of, train
from pyspark.sql import DataFrame

from betr_spark.config import InputConfig
from betr_spark.corpus.documents import read_documents
from betr_spark.features.buffers import string_buffers
from betr_spark.features.hashing import content_hashes
from betr_spark.features.one_pass import one_pass
from betr_spark.schemas import DETAIL, DOC_ID, INPUT_FILE, QUARANTINE, REASON, ROW, SOURCE, TEXT, features_schema
from betr_spark.scorer.artifact import ship
from betr_spark.scorer.fold import fold
from betr_spark.scorer.kernel import score
from betr_spark.scorer.table import NgramTable, stack
from betr_spark.scorer.train import POSITIVE
from betr_spark.session import build_session

FILE_BYTES = 25_000_000  # of text, so that the cores end at about the same time
REPEATS = 3
Batches = Iterator[pa.RecordBatch]


def tile(column: pa.Array, n_bytes: int, folder: Path) -> int:
    """Write documents with new ids until there are so many bytes of text; return the bytes."""
    folder.mkdir(parents=True)
    lengths = np.asarray(pc.binary_length(column), np.int64)
    written, n, start = 0, 0, 0
    while written < n_bytes:
        size = np.cumsum(np.concatenate([lengths[start:], lengths[:start]]))
        count = int(np.searchsorted(size, min(FILE_BYTES, n_bytes - written))) + 1
        text = pa.concat_arrays([column.slice(start, count), column.slice(0, max(0, start + count - len(column)))])
        ids = pa.array([f"{n + i:012d}" for i in range(len(text))])
        pq.write_table(pa.table({"id": ids, TEXT: text}), folder / f"{n:012d}.parquet", compression="zstd")
        written += int(size[count - 1])
        n, start = n + len(text), (start + count) % len(column)
    return written


class WorkerMemory:
    """Largest PSS of any of Spark's Python workers while it is open, bytes."""

    def __enter__(self) -> "WorkerMemory":
        self.peak, self._stop = 0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.2):
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    if b"pyspark.daemon" in (process / "cmdline").read_bytes():
                        self.peak = max(self.peak, pss(int(process.name)))
                except (OSError, AssertionError):
                    continue  # it has ended meanwhile


def wall_seconds(work: Callable[[], object]) -> float:
    """Median of three runs after one that is not counted."""
    work()
    taken = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def to_noop(frame: DataFrame) -> None:
    """Compute every row and write none."""
    frame.write.format("noop").mode("overwrite").save()


def spark_rows(folder: Path, names: Sequence[str], table_file: Path, scratch: Path) -> dict[str, float]:
    """Seconds of each named row on the Parquet files of a folder, and `PSS of ...` in bytes, in this process's Spark."""
    spark = build_session("betr-spark bench")
    spark.sparkContext.setLogLevel("ERROR")
    plain = spark.read.parquet(str(folder)).select("id", TEXT)
    table = NgramTable.from_arrays(np.load(table_file))

    def count(batches: Batches) -> Batches:
        for batch in batches:
            yield pa.RecordBatch.from_arrays([pa.array([batch.num_rows], pa.int64())], ["n"])

    def each(measure: Callable[[Any, Any], object]) -> Callable[[Batches], Batches]:
        def run(batches: Batches) -> Batches:
            for batch in batches:
                measure(*string_buffers(batch.column(TEXT)))
                yield pa.RecordBatch.from_arrays([pa.array([batch.num_rows], pa.int64())], ["n"])

        return run

    def scored(k: int) -> Callable[[], object]:
        banks = ship(spark, stack([table] * k))
        return lambda: to_noop(plain.mapInArrow(each(lambda data, offsets: score(data, offsets, banks())), "n long"))

    def whole(k: int) -> DataFrame:
        scorers = [f"s{i}" for i in range(k)]
        source = InputConfig(path=str(folder), id="id", text=TEXT)
        documents = read_documents(spark, source, leave_utf8=True)
        documents = documents.select(DOC_ID, SOURCE, TEXT, REASON, DETAIL, ROW, INPUT_FILE)
        run = one_pass(HASHER, scorers, ship(spark, stack([table] * k)))
        return documents.mapInArrow(run, f"{features_schema(scorers)}, {QUARANTINE}")

    one_scorer, eight_scorers = whole(1), whole(8)
    works: dict[str, Callable[[], object]] = {
        "Spark scan": lambda: to_noop(plain),
        "floor: count rows": lambda: to_noop(plain.mapInArrow(count, "n long")),
        "content hash only": lambda: to_noop(plain.mapInArrow(each(content_hashes), "n long")),
        "MinHash only": lambda: to_noop(plain.mapInArrow(each(HASHER), "n long")),
        **{f"score only, {k} scorers": scored(k) for k in (1, 4, 8)},
        "whole pass to noop": lambda: to_noop(one_scorer),
        "whole pass to noop, 8 scorers": lambda: to_noop(eight_scorers),
        "whole pass to Delta": lambda: (
            one_scorer.write.format("delta").mode("overwrite").save(str(scratch / "features"))
        ),
    }
    found = {}
    for _ in range(REPEATS):  # the JVM compiles what it runs often; the first rows would be measured without that
        works["whole pass to noop"]()
    for name in names:
        with WorkerMemory() as memory:
            found[name] = wall_seconds(works[name])
        found[f"PSS of {name}"] = memory.peak
    spark.stop()
    return found


def in_child(cores: Sequence[int], *arguments: object) -> dict[str, float]:
    """Run `spark_rows` in a process that may use these cores only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(cores))  # processes inherit it
    try:
        done = subprocess.run(
            [
                sys.executable,
                __file__,
                "--child",
                json.dumps([str(a) if isinstance(a, Path) else a for a in arguments]),
            ],
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        )
    finally:
        os.sched_setaffinity(0, before)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure, print, and write RESULTS.md where one is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=Path, default=DOCUMENTS)
    parser.add_argument("--text", default=TEXT)
    parser.add_argument("--megabytes", type=int, default=400)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        folder, names, table_file, scratch = json.loads(arguments.child)
        print(json.dumps(spark_rows(Path(folder), names, Path(table_file), Path(scratch))))
        return
    if not arguments.documents.exists():
        sys.exit(f"error: --documents: {arguments.documents} does not exist; name a Parquet file with a text column")
    column = texts_of(arguments.documents, arguments.text)
    every = sorted(os.sched_getaffinity(0))[: arguments.cores]
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        sizes = {"main": arguments.megabytes * 10**6, "100 MB": 10**8, "1 GB": 10**9}
        size = {name: tile(column, n_bytes, scratch / name) for name, n_bytes in sizes.items()}
        model_file = train(column.slice(0, SLOW_DOCUMENTS).to_pylist(), scratch)
        table = fold(fasttext.load_model(str(model_file)), positive=POSITIVE)
        np.savez(scratch / "table.npz", **table.arrays())
        names = ["Spark scan", "floor: count rows", "content hash only", "MinHash only"]
        names += [f"score only, {k} scorers" for k in (1, 4, 8)]
        names += ["whole pass to noop", "whole pass to noop, 8 scorers", "whole pass to Delta"]
        most, noop = ["floor: count rows", "whole pass to noop"], "whole pass to noop"
        full = in_child(every, scratch / "main", names, scratch / "table.npz", scratch)
        one = in_child(every[:1], scratch / "main", most, scratch / "table.npz", scratch)
        small = in_child(every, scratch / "100 MB", [noop], scratch / "table.npz", scratch)[noop]
        large = in_child(every, scratch / "1 GB", [noop], scratch / "table.npz", scratch)[noop]
        ratios, speeds = rows(column, model_file, table)
    cost = (large / size["1 GB"]) / (small / size["100 MB"])
    n, text = len(every), report_head(arguments, size["main"], len(every))
    whole = [
        Row("whole pass to noop / floor, 1 scorer, throughput", f"{full[most[0]] / full[noop]:.2f}", ">= 0.40"),
        Row("the same on one core", f"{one[most[0]] / one[noop]:.2f}"),
        Row("whole pass, 8 scorers, cost / 1 scorer", f"{full[names[8]] / full[noop]:.2f}"),
        Row("whole pass to Delta, cost / to noop", f"{full[names[9]] / full[noop]:.2f}"),
        Row(f"{n} cores / 1 core, whole pass, throughput", f"{one[noop] / full[noop]:.2f}", ">= 1.8" if n == 2 else ""),
        Row("1 GB / 100 MB, cost a byte", f"{cost:.2f}", "<= 1.1"),
    ]
    speed = [Row(f"{name}, {n} cores", f"{size['main'] / full[name] / 1e6:.0f} MB/s") for name in names]
    speed += [Row(f"{name}, 1 core", f"{size['main'] / one[name] / 1e6:.0f} MB/s") for name in most]
    memory = [Row(name, f"{full[f'PSS of {name}'] / 1e6:.0f} MB") for name in names if full[f"PSS of {name}"]]
    parts = [
        table_of("ratios, in Spark", whole),
        table_of("ratios, one core outside Spark", ratios),
        table_of("text a second, in Spark", speed),
        table_of("text a second, one core outside Spark", speeds),
        table_of("largest PSS of a Python worker", memory),
    ]
    text = "\n\n".join([text, *parts]) + "\n"
    print(text)
    if arguments.output:
        arguments.output.write_text(text, encoding="utf-8")


def report_head(arguments: argparse.Namespace, n_bytes: int, n_cores: int) -> str:
    """Say how the figures came about: command, documents, machine, versions."""
    from importlib.metadata import version  # noqa: PLC0415

    models = [
        line.split(":")[1].strip()
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        if "model name" in line
    ]
    packages = ("pyspark", "pyarrow", "numpy", "numba", "fasttext", "datasketch", "rensa")
    return (
        "# The one pass over the text, in figures\n\n"
        f"`make bench`, {time.strftime('%Y-%m-%d')}: {arguments.documents.name} tiled to {n_bytes / 1e6:.0f} MB of text, "
        f"{n_cores} cores ({models[0] if models else platform.processor()}), Python {platform.python_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in packages)
        + ".\nMedians of three runs after one that is not counted. A machine that does other work as well moves the speeds; "
        "the ratios are of one run."
    )


if __name__ == "__main__":
    main()
