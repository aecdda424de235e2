"""Deduplication compared with brute force over all pairs, and with itself for other layouts and after interruptions.

    python benchmarks/dedup_truth.py [--documents FILE.parquet] [--groups 100] [--identical 20000] [--vary]

The input is documents (id, domain, text; by default the corpus next to the checkout) and planted near-duplicates of every kind
(planted.py). The program prints the precision of the removals and the recall of similar pairs by similarity, with 95 %
intervals, and the number of kept documents of each kind. `--vary` runs again with shuffled input, with 1, 7 and 64 partitions,
on one core, and killed with -9 as each intermediate result appears, and compares every value of `duplicates`.
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

from betr_spark.dedup.evaluation import Share

SIMILARITY = 0.75
BANDS = ((0.75, 0.85), (0.85, 1.01))
CORPUS = Path(__file__).parents[2] / "shared/data/corpus/documents.parquet"


def main() -> None:
    """Run and print."""
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
        random.Random(1).shuffle(rows)  # noqa: S311 - the result is reproducible
        config = prepared(Path(folder) / "one", rows, n_files=1)
        command(config, "features")
        command(config, "dedup")
        compared(rows, config)
        if arguments.vary:
            varied(config, rows)


def prepared(folder: Path, rows: list[Row], *, n_files: int) -> Path:
    """Write the documents, a scorer with random weights and a configuration; return the path of the configuration."""
    from betr_spark.scoring import artifact  # noqa: PLC0415
    from betr_spark.scoring.ngram_table import NgramTable  # noqa: PLC0415
    from betr_spark.spark.session import build_session  # noqa: PLC0415

    (folder / "docs").mkdir(parents=True)
    size = -(-len(rows) // n_files)
    for part in range(n_files):
        table = pa.Table.from_pylist(rows[part * size : (part + 1) * size])
        pq.write_table(table, folder / f"docs/part-{part:02d}.parquet", row_group_size=5000)
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
    """Run a stage in a new process."""
    subprocess.run(
        [sys.executable, "-m", "betr_spark", stage, "--config", str(config), *more], check=True, env=environment(spark)
    )


def environment(spark: str) -> dict[str, str]:
    """Return the environment of a stage, with arguments for Spark."""
    return {**os.environ, **({"PYSPARK_SUBMIT_ARGS": f"{spark} pyspark-shell"} if spark else {})}


def removed_of(config: Path) -> list[Row]:
    """Read `duplicates`."""
    rows: list[Row] = DeltaTable(str(config.parent / "out/duplicates")).to_pyarrow_table().to_pylist()
    return rows


def compared(rows: list[Row], config: Path) -> None:
    """Print precision, recall and the kept documents of each kind."""
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
    print(
        f"removed documents that are similar to a kept document: {n_right} of {len(removed)} {interval(n_right, len(removed))}"
    )
    evidence = Counter(row["evidence"] for row in removed.values())
    print("by evidence:", ", ".join(f"{name} {count}" for name, count in sorted(evidence.items())))
    stays = {text[row["id"]] for row in rows if row["id"] not in removed}
    start = time.perf_counter()
    pairs = similar_pairs(distinct, SIMILARITY)
    print(f"brute force: {len(pairs)} pairs of distinct texts in {time.perf_counter() - start:.0f} s")
    for low, high in BANDS:
        band = [pair for pair, similarity in pairs.items() if low <= similarity < high]
        n_removed = sum(not (distinct[i] in stays and distinct[j] in stays) for i, j in band)
        print(f"pairs in [{low:.2f}, {min(high, 1):.2f}{')' if high < 1 else ']'}: not both kept {n_removed} of {len(band)} "
              f"{interval(n_removed, len(band))}")  # fmt: skip
    kinds = Counter(row["source"] for row in rows)
    left = Counter(row["source"] for row in rows if row["id"] not in removed)
    for kind in sorted(kinds):
        print(f"  {kind:20} {kinds[kind]:6} documents, {left[kind]:6} kept")


def true_similarity(left_text: str, right_text: str) -> float:
    """Compute the Jaccard similarity of the shingles of two texts."""
    left, right = shingle_set(left_text), shingle_set(right_text)
    return len(left & right) / max(1, len(left | right))


def interval(n: int, of: int) -> str:
    """Format a share and its 95 % interval."""
    low, high = Share(0, 1, n, of).interval()
    return f"= {n / of:.4f} [{low:.4f}, {high:.4f}]" if of else "(none)"


def digest(config: Path) -> str:
    """Compute a digest of every value of `duplicates`, whatever the order of its rows."""
    rows = sorted(json.dumps(row, sort_keys=True) for row in removed_of(config))
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()[:16]


def varied(config: Path, rows: list[Row]) -> None:
    """Run again in all `ways` and compare the digests."""
    expected = digest(config)
    print(f"duplicates: {expected}")
    shuffled = list(rows)
    random.Random(9).shuffle(shuffled)  # noqa: S311
    shuffled_config = prepared(config.parents[1] / "other", shuffled, n_files=13)
    command(shuffled_config, "features")
    for name, spark in ways():
        shutil.rmtree(shuffled_config.parent / "out/duplicates", ignore_errors=True)
        command(shuffled_config, "dedup", spark=spark)
        print(f"  shuffled, 13 files, {name}: {verdict(digest(shuffled_config), expected)}")
    n_kills = 0
    shutil.rmtree(shuffled_config.parent / "out/duplicates", ignore_errors=True)
    for step in range(100):
        if not killed(shuffled_config, shuffled_config.parent / f"out/_scratch/dedup/{step}"):
            break
        n_kills += 1
    command(shuffled_config, "dedup")
    result = verdict(digest(shuffled_config), expected)
    print(f"  killed -9 {n_kills} times, as each intermediate result appeared, then run: {result}")


def verdict(result: str, expected: str) -> str:
    """Describe whether two digests are equal."""
    return "the same" if result == expected else f"DIFFERENT {result}"


def ways() -> Iterator[tuple[str, str]]:
    """List names, and arguments for Spark."""
    for partitions in (1, 7, 64):
        off = "--conf spark.sql.adaptive.enabled=false" if partitions > 1 else ""
        yield f"{partitions} partitions", f"--conf spark.sql.shuffle.partitions={partitions} {off}"
    yield "one core", "--master local[1]"


def killed(config: Path, appears: Path) -> bool:
    """Start the stage and kill all its processes as soon as a path exists; False if the stage ends first."""
    arguments: list[Any] = [sys.executable, "-m", "betr_spark", "dedup", "--config", str(config)]
    shutil.rmtree(config.parent / "out/_scratch", ignore_errors=True)
    process = subprocess.Popen(arguments, start_new_session=True, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        if appears.exists():
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return True
        time.sleep(0.005)
    return False


if __name__ == "__main__":
    main()
