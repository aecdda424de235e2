"""The cost of the one pass over the text: against Spark's floor, on one and two cores, at 100 MB and 1 GB, and other tools.

    make bench                      # python benchmarks/one_pass.py --output benchmarks/RESULTS.md
    python benchmarks/one_pass.py [--documents FILE.parquet] [--text COLUMN] [--megabytes 400] [--cores 2]

The documents are repeated with new ids up to the required sizes. One tree of processes measures all rows in rounds. Each round
measures every row once, so that a slow minute of a shared machine affects all rows alike. The first rounds are not counted. A
speed is the median of the counted rounds; a ratio is the median of the ratios within a round. The floor is a mapInArrow that
counts its input rows, with the texts that the Python worker reads.
"""

import argparse
import functools
import multiprocessing
import os
import statistics
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import fasttext
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from by_row import documents_by_row
from kernels import DOCUMENTS, HASHER, SLOW_DOCUMENTS, Row, machine, median_ratio, pss, rows, table_of, texts_of, train
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from betr_spark.features.batch_writer import STATISTICS, WITHOUT_DICTIONARY
from betr_spark.features.one_pass import one_pass
from betr_spark.kernels.arrow_buffers import string_buffers
from betr_spark.kernels.murmur3 import content_hashes
from betr_spark.schemas import BATCH, DETAIL, QUARANTINE, REASON, ROW, TEXT, features_schema
from betr_spark.scoring.artifact import ship
from betr_spark.scoring.ngram_table import NgramTable, stack
from betr_spark.scoring.score import score
from betr_spark.spark.session import build_session
from betr_spark.storage.staged_rows import staged
from betr_spark.training.fasttext import POSITIVE
from betr_spark.training.fold import fold

OTHER_SECTIONS = "\n# Deduplication"
FILE_BYTES = 25_000_000  # of text; small, so that the cores finish at about the same time
REPEATS, UNCOUNTED = 5, 2  # the JVM has not compiled the hot code in the first rounds
Batches = Iterator[pa.RecordBatch]


def tile(column: pa.Array, n_bytes: int, folder: Path) -> int:
    """Write documents with new ids until they have n_bytes of text; return the number of bytes."""
    folder.mkdir(parents=True)
    column = pa.concat_arrays([column] * -(-min(FILE_BYTES, n_bytes) // pc.sum(pc.binary_length(column)).as_py()))
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


def is_below(pid: int, ancestor: int) -> bool:
    """Whether a process is `ancestor` or a descendant of it."""
    while pid > 1 and pid != ancestor:
        pid = int(Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[1])
    return pid == ancestor


class WorkerMemory:
    """Context manager that records the largest PSS of this Spark's Python workers, in bytes."""

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
                    if b"pyspark.daemon" in (process / "cmdline").read_bytes() and is_below(
                        int(process.name), os.getpid()
                    ):
                        self.peak = max(self.peak, pss(int(process.name)))
                except (OSError, AssertionError):
                    continue  # the process has ended


def to_noop(frame: DataFrame) -> None:
    """Compute every row without writing it."""
    frame.write.format("noop").mode("overwrite").save()


def works_of(spark: SparkSession, folder: Path, table: NgramTable, scratch: Path) -> dict[str, Callable[[], object]]:
    """Return the work of each row of the tables, by name, on the Parquet files of a folder."""
    plain = spark.read.parquet(str(folder)).select("id", TEXT)

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
        shared_tables = ship(spark, stack([table] * k))
        return lambda: to_noop(
            plain.mapInArrow(each(lambda data, offsets: score(data, offsets, shared_tables())), "n long")
        )

    def whole(k: int) -> DataFrame:
        scorers = [f"s{i}" for i in range(k)]
        run = one_pass(HASHER, scorers, ship(spark, stack([table] * k)))
        return documents.mapInArrow(
            lambda batches: run(add_texts(batches)), f"{features_schema(scorers)}, {QUARANTINE}"
        )

    documents, add_texts = documents_by_row(spark, folder)
    counted = documents.mapInArrow(lambda batches: count(add_texts(batches)), "n long")
    one_scorer, eight_scorers = whole(1), whole(8)
    return {
        "Spark scan": lambda: to_noop(plain),
        "count rows, read by Spark": lambda: to_noop(plain.mapInArrow(count, "n long")),
        "floor: count rows": lambda: to_noop(counted),
        "content hash only": lambda: to_noop(plain.mapInArrow(each(content_hashes), "n long")),
        "MinHash only": lambda: to_noop(plain.mapInArrow(each(HASHER), "n long")),
        **{f"score only, {k} scorers": scored(k) for k in (1, 4, 8)},
        "whole pass to noop": lambda: to_noop(one_scorer),
        "whole pass to noop, 8 scorers": lambda: to_noop(eight_scorers),
        "whole pass to Delta": lambda: to_delta(one_scorer, str(scratch / "features")),
    }


def to_delta(rows: DataFrame, path: str) -> None:
    """Write as the stage does."""
    rows = rows.drop(REASON, DETAIL, ROW).withColumn(BATCH, F.lit(0).cast("bigint"))
    with staged(
        rows, path, transaction=(uuid.uuid4().hex, 0), overwrite=True, statistics=STATISTICS,
        without_dictionary=WITHOUT_DICTIONARY,
    ) as written:  # fmt: skip
        written.commit(user_metadata="")


def serve(
    receiver: Connection, cores: Sequence[int], folders: Mapping[str, Path], table_file: Path, scratch: Path
) -> None:
    """Measure each requested row on these cores only; send its seconds and the largest PSS of a worker, in bytes."""
    os.sched_setaffinity(0, set(cores))  # Spark's processes inherit this
    scratch.mkdir()
    spark = build_session("betr-spark bench")
    spark.sparkContext.setLogLevel("ERROR")
    table = NgramTable.from_arrays(np.load(table_file))
    works = functools.cache(lambda folder: works_of(spark, folders[folder], table, scratch))
    while request := receiver.recv():
        folder, name = request
        with WorkerMemory() as memory:
            start = time.perf_counter()
            works(folder)[name]()
            seconds = time.perf_counter() - start
        receiver.send((seconds, memory.peak))
    spark.stop()


class Server:
    """Spark in a separate process, on some cores."""

    def __init__(self, cores: Sequence[int], folders: Mapping[str, Path], table_file: Path, scratch: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, child_pipe = context.Pipe()
        arguments = child_pipe, cores, folders, table_file, scratch
        self._process = context.Process(target=serve, args=arguments)
        self._process.start()
        child_pipe.close()
        self.seconds: dict[tuple[str, str], list[float]] = {}
        self.peaks: dict[tuple[str, str], int] = {}

    def measure(self, folder: str, name: str, *, counts: bool) -> None:
        """Measure a row once; record its seconds and memory if `counts`."""
        self._pipe.send((folder, name))
        seconds, peak = self._pipe.recv()
        if counts:
            self.seconds.setdefault((folder, name), []).append(seconds)
            self.peaks[folder, name] = max(peak, self.peaks.get((folder, name), 0))

    def close(self) -> None:
        """End the process."""
        self._pipe.send(None)
        self._process.join()


def main() -> None:
    """Measure, print, and write the file that `--output` names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=Path, default=DOCUMENTS)
    parser.add_argument("--text", default=TEXT)
    parser.add_argument(
        "--megabytes",
        type=int,
        default=400,
        help="size of the text in the main rows; 100 and 1,000 are measured in addition",
    )
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    column = texts_of(arguments.documents, arguments.text)
    every = sorted(os.sched_getaffinity(0))[: arguments.cores]
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        sizes = {"main": arguments.megabytes * 10**6, "100 MB": 10**8, "1 GB": 10**9}
        size = {name: tile(column, n_bytes, scratch / name) for name, n_bytes in sizes.items()}
        model_file = train(column.slice(0, SLOW_DOCUMENTS).to_pylist(), scratch)
        table = fold(fasttext.load_model(str(model_file)), positive=POSITIVE)
        np.savez(scratch / "table.npz", **table.arrays())
        floor, noop, delta = "floor: count rows", "whole pass to noop", "whole pass to Delta"
        eight = "whole pass to noop, 8 scorers"
        by_spark = "count rows, read by Spark"
        names = [
            "Spark scan",
            by_spark,
            "content hash only",
            "MinHash only",
            *(f"score only, {k} scorers" for k in (1, 4, 8)),
        ]
        names += [floor, noop, eight, delta]
        folders = {name: scratch / name for name in sizes}
        all_cores = Server(every, folders, scratch / "table.npz", scratch / "all_cores")
        one_core = Server(every[:1], folders, scratch / "table.npz", scratch / "one_core")
        rounds = [(all_cores, "main", name) for name in names] + [(one_core, "main", floor), (one_core, "main", noop)]
        rounds += [(all_cores, "100 MB", noop), (all_cores, "1 GB", noop)]
        for count in range(-UNCOUNTED, REPEATS):
            for server, folder, name in rounds:
                server.measure(folder, name, counts=count >= 0)
        all_cores.close()
        one_core.close()
        ratios, speeds = rows(column, model_file, table)
    seconds = {name: all_cores.seconds["main", name] for name in names}
    one_core_floor, one_core_noop = one_core.seconds["main", floor], one_core.seconds["main", noop]
    cost = (
        median_ratio(all_cores.seconds["1 GB", noop], all_cores.seconds["100 MB", noop]) * size["100 MB"] / size["1 GB"]
    )
    n = len(every)
    setting = f"`make bench`: {arguments.documents.name} repeated to {size['main'] / 1e6:.0f} MB of text, {n} cores"
    method = f"Medians of {REPEATS} rounds after {UNCOUNTED} that are not counted; ratios are taken within a round."
    text = f"# The one pass over the text, in figures\n\n{setting}, {machine()}.\n{method}"
    whole = [
        Row(
            "whole pass to noop / floor, 1 scorer, throughput",
            f"{median_ratio(seconds[floor], seconds[noop]):.2f}",
            ">= 0.50",
        ),
        Row("floor / the same, read by Spark, throughput", f"{median_ratio(seconds[by_spark], seconds[floor]):.2f}"),
        Row("the same on one core", f"{median_ratio(one_core_floor, one_core_noop):.2f}"),
        Row("whole pass, 8 scorers, cost / 1 scorer", f"{median_ratio(seconds[eight], seconds[noop]):.2f}"),
        Row("whole pass to Delta, cost / to noop", f"{median_ratio(seconds[delta], seconds[noop]):.2f}"),
        Row(
            f"{n} cores / 1 core, whole pass, throughput",
            f"{median_ratio(one_core_noop, seconds[noop]):.2f}",
            ">= 1.8" if n == 2 else "",
        ),
        Row(f"{n} cores / 1 core, floor, throughput", f"{median_ratio(one_core_floor, seconds[floor]):.2f}"),
        Row("1 GB / 100 MB, cost per byte", f"{cost:.2f}", "<= 1.1"),
    ]
    speed = [
        Row(f"{name}, {n} cores", f"{size['main'] / statistics.median(seconds[name]) / 1e6:.0f} MB/s") for name in names
    ]
    speed += [
        Row(f"{name}, 1 core", f"{size['main'] / statistics.median(times) / 1e6:.0f} MB/s")
        for name, times in ((floor, one_core_floor), (noop, one_core_noop))
    ]
    memory = [
        Row(name, f"{all_cores.peaks['main', name] / 1e6:.0f} MB") for name in names if all_cores.peaks["main", name]
    ]
    parts = [
        table_of("ratios, in Spark", whole),
        table_of("ratios, one core outside Spark", ratios),
        table_of("text per second, in Spark", speed),
        table_of("text per second, one core outside Spark", speeds),
        table_of("largest PSS of a Python worker", memory),
    ]
    text = "\n\n".join([text, *parts]) + "\n"
    print(text)
    if arguments.output:
        old = arguments.output.read_text(encoding="utf-8") if arguments.output.exists() else ""
        kept_sections = old[old.index(OTHER_SECTIONS) :] if OTHER_SECTIONS in old else ""  # of other benchmarks
        arguments.output.write_text(text + kept_sections, encoding="utf-8")


if __name__ == "__main__":
    main()
