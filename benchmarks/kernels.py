"""Speed of the kernels on one core, outside Spark, beside the libraries they stand for; MB of text a second, and ratios.

    python benchmarks/kernels.py [--documents FILE.parquet]

All rows run in one process on the same documents; each is the median of three runs after one that compiles.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fasttext
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasketch import MinHash

from betr_spark.corpus.text import prepare
from betr_spark.features.buffers import string_buffers
from betr_spark.features.hashing import content_hashes
from betr_spark.features.minhash import MinHasher
from betr_spark.scorer.fold import fold
from betr_spark.scorer.kernel import score
from betr_spark.scorer.table import stack
from betr_spark.scorer.train import NEGATIVE, PAPER, POSITIVE

DOCUMENTS = Path(__file__).parents[1].parent / "shared/data/corpus/documents.parquet"
SLOW_DOCUMENTS = 1_000  # for the libraries that take one document at a time


def seconds(work: Callable[[], object]) -> float:
    """Median processor time of three calls, after one that is not counted."""
    work()
    taken = []
    for _ in range(3):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return statistics.median(taken)


def trained(texts: list[str], folder: Path) -> Any:
    """Train a fastText model of the paper's size: whether a document is longer than the median."""
    middle = statistics.median(map(len, texts))
    lines = [f"{POSITIVE if len(text) > middle else NEGATIVE} {prepare(text)}" for text in texts]
    (folder / "train.txt").write_text("\n".join(lines), encoding="utf-8")
    settings = {**PAPER, "dim": 128, "epoch": 3, "lr": 0.5, "thread": 1, "verbose": 0}
    return fasttext.train_supervised(input=str(folder / "train.txt"), **settings)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=Path, default=DOCUMENTS)
    column: pa.Array = pa.concat_arrays(pq.read_table(parser.parse_args().documents, columns=["text"]).column(0).chunks)
    data, offsets = string_buffers(column)
    few = column.slice(0, SLOW_DOCUMENTS).to_pylist()
    n_bytes, n_few = int(offsets[-1] - offsets[0]), sum(len(text.encode()) for text in few)
    with tempfile.TemporaryDirectory() as folder:
        model = trained(few, Path(folder))
    table = fold(model, positive=POSITIVE)
    banks = {count: stack([table] * count) for count in (1, 4, 8)}
    hasher = MinHasher(ngram=5, bands=14, rows=8, seed=1)
    prepared = [prepare(text) + "\n" for text in few]
    shingles = [
        [" ".join(words[i : i + 5]).encode() for i in range(len(words) - 4)] for words in (text.split() for text in few)
    ]

    def datasketch() -> None:
        for found in shingles:
            MinHash(num_perm=hasher.n_permutations).update_batch(found)

    speed = {
        "content hash": n_bytes / seconds(lambda: content_hashes(data, offsets)),
        "words only": n_bytes / seconds(lambda: score(data, offsets, [])),
        **{f"score, {k} scorers": n_bytes / seconds(lambda k=k: score(data, offsets, banks[k])) for k in banks},  # type: ignore[misc]
        "MinHash, 112 places": n_bytes / seconds(lambda: hasher(data, offsets)),
        "fastText's predict": n_few / seconds(lambda: [model.f.predict(t, 2, 0.0, "strict") for t in prepared]),
        "datasketch, shingles given": n_few / seconds(datasketch),
    }
    print(f"{len(column)} documents, {n_bytes / 1e6:.0f} MB of text, one core (NumPy {np.__version__})")
    for name, value in speed.items():
        print(f"  {name:28} {value / 1e6:8.1f} MB/s")
    one, eight = speed["score, 1 scorers"], speed["score, 8 scorers"]
    theirs = speed["fastText's predict"]
    print(f"score / fastText {one / theirs:.1f}; 8 scorers cost {one / eight:.2f} times one")
    print(f"MinHash / datasketch {speed['MinHash, 112 places'] / speed['datasketch, shingles given']:.1f}")


if __name__ == "__main__":
    main()
