"""The speed of the kernels on one core, outside Spark, compared with other libraries.

    python benchmarks/kernels.py [--documents FILE.parquet]

One process measures all rows on the same documents: three rounds after one round that compiles. A speed is the median of the
rounds; a ratio is the median of the ratios within a round. `make bench` prints the same rows.
"""

import argparse
import multiprocessing
import os
import platform
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import fasttext
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasketch import MinHash
from numpy.typing import NDArray
from rensa import RMinHash

from betr_spark.kernels.arrow_buffers import string_buffers
from betr_spark.kernels.minhash import MinHasher, equal_values, low_bytes, similarity_at
from betr_spark.kernels.murmur3 import content_hashes
from betr_spark.kernels.text_preparation import prepare
from betr_spark.scoring.ngram_table import NgramTable, stack
from betr_spark.scoring.score import score
from betr_spark.scoring.shared_memory import map_shared_tables, write_shared_tables
from betr_spark.training.fasttext import NEGATIVE, PAPER, POSITIVE
from betr_spark.training.fold import fold

DOCUMENTS = Path(__file__).parents[1].parent / "shared/data/corpus/documents.parquet"
SLOW_DOCUMENTS = 1_000  # for libraries that process one document at a time
HASHER = MinHasher(ngram=5, bands=14, rows=8, seed=1)
LENGTHS = (30, 100, 400, 3_000)  # words in a document, for the accuracy of the sketch
PAIRS = 400
REPEATS = 3


@dataclass(frozen=True)
class Row:
    """One line of a table: name of the measurement, its value as text, and the required bounds (may be empty)."""

    name: str
    value: str
    required: str = ""


def seconds(works: Mapping[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Processor time of each work in each of three rounds, after one round that is not counted."""
    measured: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(1 + REPEATS):
        for name, work in works.items():
            start = time.process_time()
            work()
            measured[name].append(time.process_time() - start)
    return {name: each[1:] for name, each in measured.items()}


def median_ratio(of: Sequence[float], to: Sequence[float]) -> float:
    """Median of the ratios within each round."""
    return statistics.median(a / b for a, b in zip(of, to, strict=True))


def pss(pid: int) -> int:
    """Proportional set size of a process, in bytes: a page that n processes share counts as 1 / n."""
    match = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii"), re.MULTILINE)
    assert match
    return int(match[1]) * 1024


def memory_of(work: Callable[[], object]) -> int:
    """Memory that the result of `work` adds to a separate process, in bytes."""
    receiver, sender = multiprocessing.Pipe(duplex=False)

    def child() -> None:
        before = pss(os.getpid())
        held = work()
        sender.send(pss(os.getpid()) - before)
        del held

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    added = int(receiver.recv())
    process.join()
    return added


def train(texts: Sequence[str], folder: Path) -> Path:
    """Train a fastText model of the paper's size (label: a document is longer than the median); return its file."""
    middle = statistics.median(map(len, texts))
    lines = [f"{POSITIVE if len(text) > middle else NEGATIVE} {prepare(text)}" for text in texts]
    (folder / "train.txt").write_text("\n".join(lines), encoding="utf-8")
    settings = {**PAPER, "dim": 128, "epoch": 3, "lr": 0.5, "thread": 1, "verbose": 0}
    fasttext.train_supervised(input=str(folder / "train.txt"), **settings).save_model(str(folder / "model.bin"))
    return folder / "model.bin"


def rows(column: pa.Array, model_file: Path, table: NgramTable) -> tuple[list[Row], list[Row]]:
    """Measure; return the ratios and the speeds."""
    data, offsets = string_buffers(column)
    few = column.slice(0, SLOW_DOCUMENTS).to_pylist()
    n_bytes, n_few = int(offsets[-1] - offsets[0]), sum(len(text.encode()) for text in few)
    few_data, few_offsets = string_buffers(pa.array(few))
    model = fasttext.load_model(str(model_file))
    shared_tables = {}
    for count in (1, 4, 8):  # as a worker receives them
        table_file = write_shared_tables(stack([table] * count), model_file.parent)
        shared_tables[count] = map_shared_tables(table_file, model_file.parent / table_file.name)
    prepared = [prepare(text) + "\n" for text in few]

    def shingles(text: str) -> list[str]:
        words = re.findall(r"\w+", text.lower())
        return [" ".join(words[i : i + HASHER.ngram]) for i in range(len(words) - HASHER.ngram + 1)]

    def datasketch() -> None:
        for text in few:
            MinHash(num_perm=HASHER.n_permutations).update_batch([shingle.encode() for shingle in shingles(text)])

    def rensa() -> None:
        for text in few:
            sketch = RMinHash(num_perm=HASHER.n_permutations, seed=1)
            sketch.update(shingles(text))
            sketch.digest()

    def predict(loaded: Any) -> list[float]:
        predictions = [loaded.f.predict(text, 2, 0.0, "strict") for text in prepared]
        return [next((p for p, label in pairs if label == POSITIVE), 0.0) for pairs in predictions]

    def load_theirs() -> object:
        loaded = fasttext.load_model(str(model_file))
        predict(loaded)
        return loaded

    def load_ours() -> object:
        table_file = write_shared_tables(stack([table]), model_file.parent)
        loaded = map_shared_tables(table_file, model_file.parent / table_file.name)
        score(few_data, few_offsets, loaded)
        return loaded

    on_all: dict[str, Callable[[], object]] = {
        "content hash": lambda: content_hashes(data, offsets),
        "words only": lambda: score(data, offsets, []),
        **{f"score, {k} scorers": lambda k=k: score(data, offsets, shared_tables[k]) for k in shared_tables},  # type: ignore[misc]
        "MinHash": lambda: HASHER(data, offsets),
    }
    on_few = {"fastText's own prediction": lambda: predict(model), "datasketch": datasketch, "rensa": rensa}
    size = {name: n_bytes if name in on_all else n_few for name in (*on_all, *on_few)}
    per_byte = {name: [s / size[name] for s in each] for name, each in seconds({**on_all, **on_few}).items()}  # seconds
    logits = score(few_data, few_offsets, shared_tables[1])[1][:, 0].astype(np.float64)
    worst = np.abs(1 / (1 + np.exp(-logits)) - np.array(predict(model))).max()
    ours_bytes, theirs_bytes = memory_of(load_ours), memory_of(load_theirs)
    one_scorer, eight_scorers, prediction = (
        per_byte[name] for name in ("score, 1 scorers", "score, 8 scorers", "fastText's own prediction")
    )
    ratios = [
        Row("score / fastText's own prediction", f"{median_ratio(prediction, one_scorer):.1f}", ">= 5"),
        Row(
            "memory of fastText's model / ours",
            f"{theirs_bytes / ours_bytes:.1f} ({theirs_bytes / 1e6:.0f} / {ours_bytes / 1e6:.0f} MB)",
            ">= 15",
        ),
        Row("largest difference of a probability", f"{worst:.1e}", "<= 1e-4"),
        Row("cost of 8 scorers / of 1", f"{median_ratio(eight_scorers, one_scorer):.2f}", "<= 1.6"),
        Row(
            "MinHash / datasketch",
            f"{median_ratio(per_byte['datasketch'], per_byte['MinHash']):.1f}",
            ">= 20",
        ),
        Row("MinHash / rensa", f"{median_ratio(per_byte['rensa'], per_byte['MinHash']):.1f}", ">= 5"),
        *accuracy(column),
    ]
    return ratios, [Row(name, f"{1e-6 / statistics.median(each):.1f} MB/s") for name, each in per_byte.items()]


def accuracy(column: pa.Array) -> list[Row]:
    """Bias and spread of the estimated similarity between real texts and their changed copies, by length."""
    generator = np.random.default_rng(5)
    words = re.findall(r"[a-z]+", " ".join(column.slice(0, 8_000).to_pylist()).lower())
    lines = []
    for n_words in LENGTHS:
        texts, true = [], []
        for _ in range(PAIRS):
            start = int(generator.integers(len(words) - n_words))
            left = words[start : start + n_words]
            right = list(left)
            changed = np.flatnonzero(generator.random(n_words) < generator.uniform(0, 0.15))
            for position, replacement in zip(changed, generator.integers(len(words), size=len(changed)), strict=True):
                right[position] = words[replacement]
            a, b = ({tuple(side[i : i + 5]) for i in range(n_words - 4)} for side in (left, right))
            texts += [" ".join(left), " ".join(right)]
            true.append(len(a & b) / len(a | b))
        data, offsets = string_buffers(pa.array(texts))
        similar = np.array(true)
        theory = np.sqrt((similar * (1 - similar)).mean() / HASHER.n_permutations)
        errors: dict[str, list[NDArray[np.float64]]] = {"32 bits": [], "bytes": []}
        for seed in range(20):
            sketch = MinHasher(HASHER.ngram, HASHER.bands, HASHER.rows, seed)(data, offsets).signatures
            stored = low_bytes(sketch)
            errors["32 bits"].append(equal_values(sketch[0::2], sketch[1::2]) / sketch.shape[1] - similar)
            estimated = similarity_at(equal_values(stored[0::2], stored[1::2]) / sketch.shape[1])
            errors["bytes"].append(estimated - similar)
        for kind, each in errors.items():
            all_errors = np.stack(each)
            rmse = np.sqrt((all_errors**2).mean())
            lines.append(
                Row(
                    f"MinHash, {kind}, at {n_words} words: bias; RMSE / sqrt(J(1-J)/P)",
                    f"{all_errors.mean():+.4f}; {rmse / theory:.2f}",
                    "< 0.002; <= 1.1",
                )
            )
    return lines


def misses(row: Row) -> bool:
    """Whether a value violates its required bound. Several values and bounds are separated by `;`."""
    for value, required in zip(row.value.split(";"), row.required.split(";"), strict=False):
        if required:
            relation, bound = required.split()
            number = abs(float(value.split()[0]))
            holds = {"<": number < float(bound), "<=": number <= float(bound), ">=": number >= float(bound)}
            if not holds[relation]:
                return True
    return False


def table_of(title: str, lines: Sequence[Row]) -> str:
    """Format rows as a Markdown table."""
    text = [f"| {title} | measured | required |", "|---|---|---|"]
    missed = {row: " (missed)" if misses(row) else "" for row in lines}
    return "\n".join([*text, *(f"| {row.name} | {row.value} | {row.required}{missed[row]} |" for row in lines)])


def texts_of(documents: Path, column: str = "text") -> pa.Array:
    """Read a text column as one array; exit with an error line if it does not exist or has too few words."""
    if not documents.exists():
        sys.exit(f"error: --documents {documents}: file not found; name a Parquet file with a text column")
    try:
        texts = pa.concat_arrays(pq.read_table(documents, columns=[column]).column(0).chunks).drop_null()
    except (OSError, pa.ArrowException) as error:
        line = str(error).splitlines()[0]
        sys.exit(f"error: --documents {documents}: {line}; name a Parquet file with a text column (here '{column}')")
    if sum(len(text.split()) for text in texts.slice(0, 8_000).to_pylist()) < 10 * max(LENGTHS):
        sys.exit(
            f"error: --documents {documents}: at least {10 * max(LENGTHS):,} words are required in the first 8,000 texts"
        )
    return texts


def machine() -> str:
    """Name the processor, the versions and the date."""
    models = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text("utf-8"))
    packages = ("pyspark", "pyarrow", "numpy", "numba", "fasttext", "datasketch", "rensa")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    processor = models[0] if models else platform.processor()
    return f"{processor}, Python {platform.python_version()}, {versions}, {time.strftime('%Y-%m-%d')}"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=Path, default=DOCUMENTS)
    column = texts_of(parser.parse_args().documents)
    with tempfile.TemporaryDirectory() as folder:
        model_file = train(column.slice(0, SLOW_DOCUMENTS).to_pylist(), Path(folder))
        table = fold(fasttext.load_model(str(model_file)), positive=POSITIVE)
        ratios, speeds = rows(column, model_file, table)
    print(machine())
    print(table_of("one core, ratios", ratios), table_of("one core, speeds", speeds), sep="\n\n")


if __name__ == "__main__":
    main()
