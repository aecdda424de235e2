"""Cost of five nightly batches with equal new data: history grows fourfold from the second night to the fifth.

    python benchmarks/nightly.py --documents 20000

Each night adds a file of made-up documents, a tenth of them near-duplicates of earlier ones, and runs all stages. The costs are
the columns `task_seconds` and `bytes_read` of the table `runs`. The last line is the ratio of night 5 to night 2.
"""

import argparse
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.random import Generator

from betr_spark.config import Config
from betr_spark.pipeline.run import run_all
from betr_spark.spark.session import build_session
from betr_spark.storage import delta

NIGHTS, WORDS, LENGTH = 5, 50_000, 400


def documents(pick: Generator, night: int, n_documents: int, earlier: list[str]) -> list[dict[str, object]]:
    """Make up the documents of a night; a tenth differ from a document of an earlier night in one word."""
    vocabulary = np.array([f"w{number}" for number in range(WORDS)])
    weights = 1 / np.arange(1, WORDS + 1)
    weights /= weights.sum()
    rows = []
    for number in range(n_documents):
        if earlier and number % 10 == 0:
            words = earlier[int(pick.integers(len(earlier)))].split()
            words[len(words) // 2] = f"changed{night}"
            text = " ".join(words)
        else:
            text = " ".join(pick.choice(vocabulary, LENGTH, p=weights))
            if number % 50 == 1:
                earlier.append(text)
        rows.append({"id": f"{night}-{number:07d}", "text": text, "quality": float(pick.random())})
    return rows


def main() -> None:
    """Print a line for each night."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=20_000, help="new documents of each night")
    n_documents = parser.parse_args().documents
    spark, pick = build_session("nightly"), np.random.default_rng(0)
    earlier: list[str] = []
    seen: set[tuple[str, str]] = set()
    totals = []
    print(f"{'night':5} {'features':>9} {'dedup':>9} {'select':>9} {'total':>9}  task seconds; MB read; seconds")
    with tempfile.TemporaryDirectory(prefix="betr-spark-nightly-") as name:
        folder = Path(name)
        (folder / "docs").mkdir()
        config = Config.model_validate({
            "input": {"path": str(folder / "docs"), "id": "id"},
            "output": str(folder / "out"),
            "scorers": {"quality": {"kind": "expression", "column": "quality"}},
            "selections": {"best": {"scorer": "quality", "keep": {"token_fraction": 0.1}}},
        })  # fmt: skip
        for night in range(1, NIGHTS + 1):
            rows = documents(pick, night, n_documents, earlier)
            pq.write_table(pa.Table.from_pylist(rows), folder / f"docs/night-{night}.parquet")
            run_all(spark, config)
            costs: dict[str, float] = defaultdict(float)
            mb_read = seconds = 0.0
            for row in delta.read(spark, config.table("runs")).collect():  # one row a stage and night
                if (row["run_id"], row["stage"]) not in seen:
                    seen.add((row["run_id"], row["stage"]))
                    costs[row["stage"].partition("/")[0]] += row["task_seconds"]
                    mb_read += row["bytes_read"] / 1e6
                    seconds += row["seconds"]
            totals.append(sum(costs.values()))
            parts = " ".join(f"{costs[stage]:9.1f}" for stage in ("features", "dedup", "select"))
            print(f"{night:5} {parts} {totals[-1]:9.1f}  {mb_read:.0f} MB; {seconds:.1f} s", flush=True)
    print(f"night 5 / night 2: {totals[4] / totals[1]:.2f}")
    spark.stop()


if __name__ == "__main__":
    main()
