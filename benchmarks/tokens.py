"""The cost of counting the tokens of a tokenizer in the one pass over the text, measured in one run.

    python benchmarks/tokens.py [--documents FILE.parquet] [--tokenizer FILE] [--megabytes 24] [--cores 2]

The pass has one scorer. Without --tokenizer, byte pairs are trained on a thousand of the documents. Each round measures the
pass without the tokenizer, with it, and with an estimate from one document in twenty; the first round is not counted. A speed
is the median of the rounds, a ratio the median of the ratios within a round. The memory is that of a long text in a process of
its own: with places to cut, and without any (then it is encoded as a whole).
"""

import argparse
import multiprocessing
import os
import re
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path

import fasttext
import numpy as np
import pyarrow as pa
from kernels import DOCUMENTS, HASHER, SLOW_DOCUMENTS, Row, machine, median_ratio, table_of, texts_of, train
from one_pass import tile, to_noop
from pyspark.sql import DataFrame, SparkSession

from betr_spark.config import InputConfig, TokensConfig
from betr_spark.corpus.snapshot import InputSnapshot
from betr_spark.evaluate.byte_pairs import train_tokenizer
from betr_spark.features.one_pass import one_pass
from betr_spark.features.token_counter import TokenCounter
from betr_spark.features.tokenizer_file import ship_counter
from betr_spark.schemas import DETAIL, DOC_ID, INPUT_FILE, QUARANTINE, REASON, ROW, SOURCE, TEXT, features_schema
from betr_spark.scoring.artifact import ship
from betr_spark.scoring.ngram_table import NgramTable, stack
from betr_spark.spark.session import build_session
from betr_spark.training.fasttext import POSITIVE
from betr_spark.training.fold import fold

ROUNDS, UNCOUNTED = 3, 1
VOCABULARY = 32_768
LONG_BYTES = 4 * 2**20


def pass_of(spark: SparkSession, folder: Path, table: NgramTable, tokens: TokensConfig) -> DataFrame:
    """The whole pass over the Parquet files of a folder."""
    documents = InputSnapshot.resolve(spark, InputConfig(path=str(folder), id="id")).documents(leave_utf8=True)
    documents = documents.select(DOC_ID, SOURCE, TEXT, REASON, DETAIL, ROW, INPUT_FILE)
    run = one_pass(HASHER, ["s"], ship(spark, stack([table])), token_counter=ship_counter(spark, tokens))
    schema = features_schema(["s"], lm_tokens=not tokens.are_words)
    return documents.mapInArrow(run, f"{schema}, {QUARANTINE}")


def memory_of(file: Path, text: str) -> float:
    """Memory that counting a text adds to a process, in bytes of the text."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=_count, args=(sender, file, text))
    process.start()
    sender.close()  # so that `recv` ends if the process fails
    added = float(receiver.recv())
    process.join()
    return added / len(text.encode())


def _count(sender: Connection, file: Path, text: str) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    counter, texts, ids = TokenCounter(file.read_bytes(), name=file.name), pa.array([text]), pa.array(["d"])
    before = _peak_bytes()
    counter(texts, ids, np.ones(1, bool))
    sender.send(_peak_bytes() - before)


def _peak_bytes() -> int:
    """Largest memory of this process so far (the peak of `getrusage` would be that of the parent, if it was larger)."""
    match = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"), re.MULTILINE)
    assert match
    return int(match[1]) * 1024


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=Path, default=DOCUMENTS)
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--megabytes", type=int, default=24)
    parser.add_argument("--cores", type=int, default=2)
    arguments = parser.parse_args()
    column = texts_of(arguments.documents)
    os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[: arguments.cores]))  # Spark's processes inherit this
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        few = column.slice(0, SLOW_DOCUMENTS).to_pylist()
        file = arguments.tokenizer
        if file is None:
            file = scratch / "byte-pairs.json"
            file.write_text(train_tokenizer(few, n_vocabulary=VOCABULARY).to_str(), encoding="utf-8")
        size = tile(column, arguments.megabytes * 10**6, scratch / "docs")
        table = fold(fasttext.load_model(str(train(few, scratch))), positive=POSITIVE)
        long_text = " ".join(few)
        long_text = (long_text * (LONG_BYTES // len(long_text) + 1))[:LONG_BYTES]
        solid = long_text.replace(" ", "\n")
        memory = [
            Row(name, f"{memory_of(file, text):.0f} times its bytes")
            for name, text in (("a long text", long_text), ("a long text without places to cut", solid))
        ]
        spark = build_session("betr-spark tokens")
        spark.sparkContext.setLogLevel("ERROR")
        settings = {
            "without a tokenizer": TokensConfig(),
            "with a tokenizer": TokensConfig(tokenizer=str(file)),
            "with a tokenizer, estimate: 20": TokensConfig(tokenizer=str(file), estimate=20),
        }
        works = {name: pass_of(spark, scratch / "docs", table, tokens) for name, tokens in settings.items()}
        seconds: dict[str, list[float]] = {name: [] for name in works}
        for number in range(-UNCOUNTED, ROUNDS):
            for name, work in works.items():
                start = time.perf_counter()
                to_noop(work)
                if number >= 0:
                    seconds[name].append(time.perf_counter() - start)
        spark.stop()
    plain = seconds["without a tokenizer"]
    cores = len(os.sched_getaffinity(0))
    sys.stdout.write(
        f"{arguments.documents.name} repeated to {size / 1e6:.0f} MB of text, {file.name}, tokenizers {version('tokenizers')}, "
        f"{cores} cores, {machine()}\n\n"
    )
    speeds = [Row(name, f"{size / statistics.median(each) / 1e6:.1f} MB/s") for name, each in seconds.items()]
    ratios = [Row(f"cost / without: {name}", f"{median_ratio(seconds[name], plain):.2f}") for name in list(works)[1:]]
    sys.stdout.write(f"{table_of('the whole pass to noop', [*speeds, *ratios])}\n\n{table_of('memory', memory)}\n")


if __name__ == "__main__":
    main()
