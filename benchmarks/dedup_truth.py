"""Compare deduplication with brute force over all pairs, and the tables of different layouts and interruptions.

    python benchmarks/dedup_truth.py [--documents FILE.parquet] [--groups 100] [--identical 20000] [--vary]

Reads documents (id, domain, text; by default the corpus next to the checkout) and plants near-duplicates of every kind among
them (planted.py). Prints the precision of the removed documents by the rule, the recall of similar pairs by similarity, with
95 % intervals, and the number of kept documents of each kind. `--vary` runs again with shuffled input, 1, 7 and 64 partitions
and one core, then kills the stage (-9) every 2.5 seconds of its run, once each, and compares `duplicates` byte for byte.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from deltalake import DeltaTable
from planted import Row, planted, shingle_set, similar_pairs

from betr_spark.dedup.evaluation_figures import Share

SIMILARITY = 0.75
BANDS = ((0.75, 0.85), (0.85, 1.01))
CORPUS = Path(__file__).parents[2] / "shared/data/corpus/documents.parquet"


KILLED_EVERY = 2.5  # seconds


def main() -> None:
    """Measure precision and recall, and compare other runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=Path, default=CORPUS)
    parser.add_argument("--groups", type=int, default=100)
    parser.add_argument("--identical", type=int, default=20_000)
    parser.add_argument("--vary", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="betr-spark-truth-") as folder:
        rows = planted(groups=arguments.groups, identical=arguments.identical)
        if arguments.documents.exists():
            table = pq.read_table(arguments.documents, columns=["id", "domain", "text"])
            rows += table.rename_columns(["id", "source", "text"]).to_pylist()
        random.Random(1).shuffle(rows)  # noqa: S311 - repeatable
        config = prepared(Path(folder) / "one", rows, n_files=1)
        command(config, "features")
        command(config, "dedup")
        compared(rows, config)
        if arguments.vary:
            varied(config, rows)


def prepared(folder: Path, rows: list[Row], *, n_files: int) -> Path:
    """Write the documents, and what `configured` writes; return the path of the configuration."""
    (folder / "docs").mkdir(parents=True)
    size = -(-len(rows) // n_files)
    for part in range(n_files):
        table = pa.Table.from_pylist(rows[part * size : (part + 1) * size])
        pq.write_table(table, folder / f"docs/part-{part:02d}.parquet", row_group_size=5000)
    return configured(folder)


def configured(folder: Path) -> Path:
    """Write a random scorer and a configuration for the documents in `docs`; return the path of the configuration."""
    from betr_spark.scoring import artifact  # noqa: PLC0415
    from betr_spark.scoring.ngram_table import NgramTable  # noqa: PLC0415
    from betr_spark.spark.session import build_session  # noqa: PLC0415

    settings = {
        "input": {"path": str(folder / "docs"), "id": "id", "source": "source"},
        "output": str(folder / "out"),
        "targets": {"none": {"path": "none", "template": "{none}"}},
        "dedup": {"similarity": SIMILARITY},
    }
    weights = np.random.default_rng(0).normal(size=100_003).astype(np.float32)
    table = NgramTable.build(["none"], np.ones(1, np.float32), weights, word_ngrams=2)
    spark = build_session()
    artifact.save(spark, f"{folder}/out/scorers/betr", table, {"name": "betr"})
    (folder / "conf.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    return folder / "conf.yaml"


def command(config: Path, stage: str, *more: str, spark: str = "") -> None:
    """Run one stage in a separate process."""
    subprocess.run(
        [sys.executable, "-m", "betr_spark", stage, "--config", str(config), *more], check=True, env=environment(spark)
    )


def environment(spark: str) -> dict[str, str]:
    """The environment of a stage, with arguments for Spark."""
    return {**os.environ, **({"PYSPARK_SUBMIT_ARGS": f"{spark} pyspark-shell"} if spark else {})}


def removed_of(config: Path) -> list[Row]:
    """Rows of `duplicates`."""
    rows: list[Row] = DeltaTable(str(config.parent / "out/duplicates")).to_pyarrow_table().to_pylist()
    return rows


def compared(rows: list[Row], config: Path) -> None:
    """Print precision, recall and the number of kept documents."""
    removed = {row["doc_id"]: row for row in removed_of(config)}
    text = {row["id"]: row["text"] for row in rows}
    distinct = list(dict.fromkeys(text.values()))
    n_right = sum(
        row["kept_doc_id"] not in removed
        and (
            text[doc] == text[row["kept_doc_id"]] or true_similarity(text[doc], text[row["kept_doc_id"]]) >= SIMILARITY
        )
        for doc, row in removed.items()
    )
    print(f"\n{len(rows)} documents, {len(distinct)} distinct texts, {len(removed)} removed")
    print(f"removed and similar to a kept document: {n_right} of {len(removed)} {interval(n_right, len(removed))}")
    evidence = Counter(row["evidence"] for row in removed.values())
    print("by evidence:", ", ".join(f"{name} {count}" for name, count in sorted(evidence.items())))
    kept_texts = {text[row["id"]] for row in rows if row["id"] not in removed}
    start = time.perf_counter()
    pairs = similar_pairs(distinct, SIMILARITY)
    print(f"brute force: {len(pairs)} pairs of distinct texts in {time.perf_counter() - start:.0f} s")
    for low, high in BANDS:
        band = [pair for pair, similarity in pairs.items() if low <= similarity < high]
        n_removed = sum(not (distinct[i] in kept_texts and distinct[j] in kept_texts) for i, j in band)
        print(f"pairs in [{low:.2f}, {min(high, 1):.2f}{')' if high < 1 else ']'}: not both kept {n_removed} of {len(band)} "
              f"{interval(n_removed, len(band))}")  # fmt: skip
    n_documents = Counter(row["source"] for row in rows)
    n_kept = Counter(row["source"] for row in rows if row["id"] not in removed)
    for kind in sorted(n_documents):
        print(f"  {kind:20} {n_documents[kind]:6} documents, {n_kept[kind]:6} kept")


def true_similarity(first: str, second: str) -> float:
    """Jaccard similarity of two texts' shingles."""
    left, right = shingle_set(first), shingle_set(second)
    return len(left & right) / max(1, len(left | right))


def interval(n: int, of: int) -> str:
    """Format a fraction with its 95 % interval."""
    low, high = Share(0, 1, n, of).interval()
    return f"= {n / of:.4f} [{low:.4f}, {high:.4f}]" if of else "(none)"


def digest(config: Path) -> str:
    """Digest of all values of `duplicates`, independent of the order of the rows."""
    rows = sorted(json.dumps(row, sort_keys=True) for row in removed_of(config))
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()[:16]


def varied(config: Path, rows: list[Row]) -> None:
    """Run again with other layouts and interruptions, and compare `duplicates`."""
    expected = digest(config)
    print(f"duplicates: {expected}")
    shuffled = list(rows)
    random.Random(9).shuffle(shuffled)  # noqa: S311
    again = prepared(config.parents[1] / "shuffled", shuffled, n_files=13)
    command(again, "features")
    for name, spark in ways():
        shutil.rmtree(again.parent / "out/duplicates", ignore_errors=True)
        command(again, "dedup", spark=spark)
        print(
            f"  shuffled, 13 files, {name}: {'the same' if digest(again) == expected else 'DIFFERENT ' + digest(again)}"
        )
    n_kills = 0
    shutil.rmtree(again.parent / "out/duplicates", ignore_errors=True)
    while killed(again, (n_kills + 1) * KILLED_EVERY):
        n_kills += 1
    command(again, "dedup")
    same = "the same" if digest(again) == expected else "DIFFERENT"
    print(f"  killed -9 {n_kills} times, {KILLED_EVERY} s later each time, then run: {same}")


def ways() -> Iterator[tuple[str, str]]:
    """Yield the name of a layout and its arguments for Spark."""
    for partitions in (1, 7, 64):
        off = "--conf spark.sql.adaptive.enabled=false" if partitions > 1 else ""
        yield f"{partitions} partitions", f"--conf spark.sql.shuffle.partitions={partitions} {off}"
    yield "one core", "--master local[1]"


def killed(config: Path, seconds: float) -> bool:
    """Start the stage and kill all its processes after some seconds; False if the stage ended first."""
    arguments: list[Any] = [sys.executable, "-m", "betr_spark", "dedup", "--config", str(config)]
    process = subprocess.Popen(arguments, start_new_session=True, stderr=subprocess.DEVNULL)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True
    return False


if __name__ == "__main__":
    main()
