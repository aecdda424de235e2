"""Seconds and memory of the kernels on unusual rows: very large documents, one very long token, a million empty documents.

    python benchmarks/worst_rows.py

Each case runs in a separate process. The memory is the peak that the kernels use in addition to the text. By default,
`input.max_text_bytes` (16 MiB) excludes such texts from a run.
"""

import multiprocessing
import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from betr_spark.kernels.minhash import MinHasher
from betr_spark.kernels.murmur3 import content_hashes
from betr_spark.kernels.utf8 import valid_utf8
from betr_spark.scoring.ngram_table import NgramTable, stack
from betr_spark.scoring.score import score

Documents = tuple[NDArray[np.uint8], NDArray[np.int64]]
SHARED_TABLES = stack(
    [NgramTable.build(["word"], np.ones(1, np.float32), np.ones(2_000_000, np.float32), word_ngrams=2)]
)
HASHER = MinHasher(ngram=5, bands=14, rows=8, seed=1)
PROSE = b"A document of ordinary words, some of them longer than others, and punctuation. "


def alone(pattern: bytes, n_bytes: int) -> Documents:
    """One document that repeats a pattern."""
    return np.resize(np.frombuffer(pattern, np.uint8), n_bytes), np.array([0, n_bytes], np.int64)


def batch(n_bytes: int, each: int) -> Documents:
    """Documents of equal length."""
    data, _ = alone(PROSE, n_bytes)
    return data, np.append(np.arange(0, n_bytes, each), n_bytes)


CASES: dict[str, Callable[[], Documents]] = {
    "one document of 200 MB": lambda: alone(PROSE, 200_000_000),
    "one token of 50 MB": lambda: alone(b"a", 50_000_000),
    "100 MB of one-letter words": lambda: alone(b"a ", 100_000_000),
    "100 MB of NUL": lambda: alone(b"\0", 100_000_000),
    "100 MB of invalid UTF-8": lambda: alone(b"\xe3", 100_000_000),
    "a batch of 2 GB": lambda: batch(2_147_000_000, 3_000),
    "a million empty documents": lambda: (np.empty(0, np.uint8), np.zeros(1_000_001, np.int64)),
}


def peak_memory() -> int:
    """Peak memory of this process, in bytes."""
    peak = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"), re.MULTILINE)
    assert peak
    return int(peak[1]) * 1024


def measure(name: str) -> None:
    """Run all kernels on a case and print one line."""
    data, offsets = CASES[name]()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets the peak memory
    before, start = peak_memory(), time.perf_counter()
    score(data, offsets, SHARED_TABLES)
    HASHER(data, offsets)
    content_hashes(data, offsets)
    valid_utf8(data, offsets)
    print(f"{name:32} {time.perf_counter() - start:6.1f} s {(peak_memory() - before) / 1e6:8.0f} MB", flush=True)


def main() -> None:
    """Run the cases in sequence."""
    small = batch(1_000, 100)
    score(*small, SHARED_TABLES), HASHER(*small), content_hashes(*small), valid_utf8(*small)  # compile
    for name in CASES:
        process = multiprocessing.get_context("fork").Process(target=measure, args=(name,))
        process.start()
        process.join()


if __name__ == "__main__":
    main()
