"""The cost of looking for test items beside that of the pass over the text, on one core, outside Spark.

    python benchmarks/contamination.py [--documents FILE.parquet] [--ngrams 1 5 25] [--megabytes 40]

For each number of millions of n-grams, builds an index of made-up items (37 words of a made-up vocabulary, so 25 n-grams each)
and maps its file as a worker does. Measures in turn, on the same documents: `find_matches`; what `sketch_and_find_matches`
costs more than MinHash alone, because it finds words once for both; and `features_of` (MinHash, a scorer of 2 million buckets).
There are three rounds after one that compiles and reads the file. A time is the median of the rounds, a ratio the median of the
ratios within a round.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from kernels import DOCUMENTS, HASHER, machine, median_ratio, memory_of, seconds, texts_of

from betr_spark.contamination.anchors import MAX_COPIES
from betr_spark.contamination.index import Index, build_index
from betr_spark.contamination.items import Item
from betr_spark.contamination.matches import find_matches, sketch_and_find_matches
from betr_spark.contamination.shared_memory import map_index, write_index
from betr_spark.features.one_pass import features_of
from betr_spark.kernels.arrow_buffers import string_buffers
from betr_spark.schemas import DETAIL, DOC_ID, INPUT_FILE, REASON, ROW, SOURCE, TEXT
from betr_spark.scoring.ngram_table import NgramTable, SharedTables, stack

N_WORDS, N_NGRAMS = 37, 25  # of an item
VOCABULARY, WIDTH = 50_000, 8
N_BUCKETS = 2_000_000
BATCH_BYTES = 4_000_000
PER_MB = 1e9  # milliseconds for a MB, from seconds for a byte


def made_up_items(n: int) -> Iterator[Item]:
    """Items of words that are drawn by Zipf's law; spaces fill each word up to WIDTH."""
    draw = np.random.default_rng(0)
    letters = draw.integers(ord("a"), ord("z") + 1, (VOCABULARY, WIDTH), np.uint8)
    letters[np.arange(WIDTH) >= draw.integers(2, WIDTH, (VOCABULARY, 1))] = ord(" ")
    weights = np.cumsum(1 / np.arange(1, VOCABULARY + 1))
    for start in range(0, n, 10_000):
        numbers = np.searchsorted(weights, draw.random((min(10_000, n - start), N_WORDS)) * weights[-1])
        for row, text in enumerate(letters[numbers].reshape(len(numbers), -1)):
            yield Item("made-up", start + row, text.tobytes().decode("ascii"))


def batches_of(texts: pa.Array) -> list[pa.RecordBatch]:
    """Batches as the pass gets them."""
    rows = max(1, len(texts) * BATCH_BYTES // texts.nbytes)
    batches = []
    for start in range(0, len(texts), rows):
        part = pa.concat_arrays([texts.slice(start, rows)])
        ids = pa.array([str(start + row) for row in range(len(part))])
        nothing = {name: pa.nulls(len(part), pa.string()) for name in (REASON, DETAIL, ROW, INPUT_FILE)}
        batches.append(pa.RecordBatch.from_pydict({DOC_ID: ids, SOURCE: ids, TEXT: part, **nothing}))
    return batches


def tables_of(texts: pa.Array) -> SharedTables:
    """One scorer of random weights that knows the words of some documents."""
    words = sorted({word for text in texts.slice(0, 5_000).to_pylist() for word in text.split()})
    draw = np.random.default_rng(0)
    weights = [draw.normal(size=n).astype(np.float32) for n in (len(words), N_BUCKETS)]
    return stack([NgramTable.build(words, *weights, word_ngrams=2)])


def measure(index: Index, batches: list[pa.RecordBatch], tables: SharedTables) -> str:
    """Measure both works; return the cells of a row of the table."""
    texts = [string_buffers(batch.column(TEXT)) for batch in batches]
    n_bytes = sum(int(offsets[-1] - offsets[0]) for _, offsets in texts)

    def alone() -> int:
        return sum(len(find_matches(data, offsets, index.ngrams).document) for data, offsets in texts)

    def features() -> None:
        for batch in batches:
            features_of(batch, hasher=HASHER, scorers=["s"], shared_tables=tables)

    def sketch() -> None:
        for data, offsets in texts:
            HASHER(data, offsets)

    def both() -> None:
        for data, offsets in texts:
            sketch_and_find_matches(data, offsets, HASHER, index.ngrams)

    times = seconds({"alone": alone, "sketch": sketch, "both": both, "features": features})
    times["added"] = [max(b - s, 0.0) for b, s in zip(times["both"], times["sketch"], strict=True)]
    per_mb = {name: statistics.median(each) / n_bytes * PER_MB for name, each in times.items()}
    ratios = [median_ratio(times[name], times["features"]) for name in ("alone", "added")]
    cells = [f"{per_mb[name]:.2f}" for name in ("alone", "added", "features")] + [f"{ratio:.2f}" for ratio in ratios]
    return " | ".join([*cells, str(alone())])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=Path, default=DOCUMENTS)
    parser.add_argument("--ngrams", type=float, nargs="+", default=[1, 5, 25], help="millions")
    parser.add_argument("--megabytes", type=float, default=40)
    arguments = parser.parse_args()
    texts = texts_of(arguments.documents)
    texts = texts.slice(0, max(1, int(len(texts) * min(1, arguments.megabytes * 1e6 / texts.nbytes))))
    batches, tables = batches_of(texts), tables_of(texts)
    print(machine())
    print("| n-grams, millions | build, s | arrays, MB | texts, MB | read in look-ups, MB | detection alone, ms/MB "
          "| added to MinHash, ms/MB | features_of, ms/MB | alone / features_of | added / features_of | matches |")  # fmt: skip
    print(f"|{'---|' * 11}")
    for millions in arguments.ngrams:
        items = list(made_up_items(max(1, round(millions * 1e6 / N_NGRAMS))))
        start = time.perf_counter()
        index = build_index(items)
        built = time.perf_counter() - start
        assert index.n_left_out == 0, f"an n-gram occurs more than {MAX_COPIES} times"
        del items
        with tempfile.TemporaryDirectory() as folder:
            description = write_index(index, Path(folder))
            del index
            mapped = map_index(description, Path(folder) / description.name)
            texts_mb, arrays_mb = mapped.ngrams.texts.nbytes / 1e6, mapped.ngrams.nbytes / 1e6
            cells = measure(mapped, batches, tables)

            def read() -> Index:
                again = map_index(description, Path(folder) / description.name)  # noqa: B023 - called in this round
                for batch in batches:
                    find_matches(*string_buffers(batch.column(TEXT)), again.ngrams)
                return again

            touched = memory_of(read) / 1e6
        print(
            f"| {millions:g} | {built:.1f} | {arrays_mb:.0f} | {texts_mb:.0f} | {touched:.0f} | {cells} |", flush=True
        )


if __name__ == "__main__":
    main()
