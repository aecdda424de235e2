"""The cost of looking for test items in the whole pass on Spark, for several sizes of the index.

    python benchmarks/contamination_pass.py [--documents FILE.parquet] [--ngrams 1 5 25] [--megabytes 200] [--cores 2]

The items are those of benchmarks/contamination.py, made up; the documents are repeated up to the required size. Each round runs
the pass with one scorer and MinHash once for each row of the table, in random order: to `noop` and to a Delta table, without
and with test items. Two rounds are not counted. A ratio is the median of the ratios, within a round, to the pass without
test items. The memory is the largest PSS of one Python worker: workers share the index.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
from contamination import N_NGRAMS, made_up_items, tables_of
from kernels import DOCUMENTS, HASHER, machine, median_ratio, texts_of
from one_pass import WorkerMemory, tile, to_noop
from pyspark.sql import DataFrame, SparkSession

from betr_spark.config import InputConfig
from betr_spark.contamination.detection import ship_index
from betr_spark.contamination.in_pass import ItemFinder
from betr_spark.contamination.index import build_index
from betr_spark.corpus.snapshot import InputSnapshot
from betr_spark.features.one_pass import one_pass
from betr_spark.schemas import (
    DETAIL,
    DOC_ID,
    INPUT_FILE,
    QUARANTINE,
    REASON,
    ROW,
    SOURCE,
    TEST_ITEM,
    TEST_ITEMS,
    TEXT,
    features_schema,
)
from betr_spark.scoring.artifact import ship
from betr_spark.scoring.ngram_table import SharedTables
from betr_spark.spark.session import build_session

ROUNDS, UNCOUNTED = 5, 2


def finder_of(spark: SparkSession, millions: float) -> Callable[[], ItemFinder]:
    """Ship an index of made-up items, as `features` does; print its size."""
    index = build_index(list(made_up_items(max(1, round(millions * 1e6 / N_NGRAMS)))))
    arrays, texts = index.ngrams.nbytes / 1e6, index.ngrams.texts.nbytes / 1e6
    print(f"{millions:g} million n-grams: arrays {arrays:.0f} MB, texts {texts:.0f} MB", flush=True)
    shipped = ship_index(spark, index)
    return lambda: ItemFinder(shipped(), 0.0)


def pass_over(
    folder: Path, tables: Callable[[], SharedTables], finder: Callable[[], ItemFinder] | None, spark: SparkSession
) -> DataFrame:
    """Return the rows that the pass computes."""
    source = InputConfig(path=str(folder), id="id", text=TEXT)
    documents = InputSnapshot.resolve(spark, source).documents(leave_utf8=True)
    documents = documents.select(DOC_ID, SOURCE, TEXT, REASON, DETAIL, ROW, INPUT_FILE)
    column = "" if finder is None else f", {TEST_ITEMS} array<{TEST_ITEM}>"
    run = one_pass(HASHER, ["s"], tables, item_finder=finder)
    return documents.mapInArrow(run, f"{features_schema(['s'])}, {QUARANTINE}{column}")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=Path, default=DOCUMENTS)
    parser.add_argument("--ngrams", type=float, nargs="+", default=[1, 5, 25], help="millions")
    parser.add_argument("--megabytes", type=float, default=200)
    parser.add_argument("--cores", type=int, default=2)
    arguments = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))[: arguments.cores]
    os.sched_setaffinity(0, cores)  # Spark's processes inherit this
    print(machine())
    spark, texts = build_session("contamination"), texts_of(arguments.documents)
    spark.sparkContext.setLogLevel("ERROR")
    with tempfile.TemporaryDirectory(prefix="betr-spark-contamination-") as name:
        folder = Path(name) / "docs"
        n_bytes = tile(texts, int(arguments.megabytes * 1e6), folder)
        tables = ship(spark, tables_of(texts))
        finders = {f"{millions:g} million n-grams": finder_of(spark, millions) for millions in arguments.ngrams}
        frames = {row: pass_over(folder, tables, finders.get(row), spark) for row in ("without", *finders)}
        works: dict[tuple[str, str], Callable[[], object]] = {}
        for row, frame in frames.items():
            writer = frame.write.format("delta").mode("overwrite").option("overwriteSchema", True)
            works[row, "noop"] = partial(to_noop, frame)
            works[row, "Delta"] = partial(writer.save, str(Path(name) / "features"))
        seconds: dict[tuple[str, str], list[float]] = {work: [] for work in works}
        peaks = dict.fromkeys(works, 0)
        for number in range(ROUNDS + UNCOUNTED):
            for position in np.random.default_rng(number).permutation(len(works)):
                work, run = list(works.items())[position]
                with WorkerMemory() as memory:
                    start = time.perf_counter()
                    run()
                    elapsed = time.perf_counter() - start
                if number >= UNCOUNTED:
                    seconds[work].append(elapsed)
                    peaks[work] = max(peaks[work], memory.peak)
    print(f"{pc.count(texts).as_py()} documents, repeated to {n_bytes / 1e6:.0f} MB; {len(cores)} cores")
    print("| test items | to | MB/s | times the pass without | largest worker, MB |\n|---|---|---|---|---|")
    for (row, sink), times in seconds.items():
        ratio = median_ratio(times, seconds["without", sink])
        cells = f"{n_bytes / 1e6 / statistics.median(times):.1f} | {ratio:.3f} | {peaks[row, sink] / 1e6:.0f}"
        print(f"| {row} | {sink} | {cells} |")
    spark.stop()


if __name__ == "__main__":
    main()
