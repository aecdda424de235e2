"""Best rank in two passes: time and peak memory against the number of documents.

    python benchmarks/best_rank.py [--documents 250000 500000 1000000] [--examples 5000] [--width 384]

Each size runs in a separate process on all cores. Vectors are random and generated block by block, which is not timed, so the
memory is that of the passes. Prints the time of each pass, the time per billion cosines, and the peak memory of the process;
then the cost of 10 million documents, 14,000 examples and width 1,024 on a core as fast as this one.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from betr_spark.ranking.best_rank import TopCosines, best_ranks, depth, on_grid

CORES = len(os.sched_getaffinity(0))
BLOCK = 16_384
POSITIVE_FRACTION = 0.10


def blocks(n: int, width: int) -> Iterator[NDArray[np.float32]]:
    """Random documents; every call gives the same documents."""
    for start in range(0, n, BLOCK):
        draw = np.random.default_rng(start)
        yield on_grid(draw.standard_normal((min(BLOCK, n - start), width), np.float32))


def measure(n: int, n_examples: int, width: int) -> dict[str, float]:
    """Time both passes over n documents."""
    examples = on_grid(np.random.default_rng(2**40).standard_normal((n_examples, width), np.float32))
    kept = depth(n_documents=n, n_examples=n_examples, positive_fraction=POSITIVE_FRACTION)
    few = examples[:2]
    warm = TopCosines(few, depth=1)  # compiles
    warm.add(few)
    best_ranks(few, few, top=warm.lists())
    highest = TopCosines(examples, depth=kept)
    first = second = 0.0
    for block in blocks(n, width):
        start = time.perf_counter()
        highest.add(block)
        first += time.perf_counter() - start
    start = time.perf_counter()
    top = highest.lists()
    first += time.perf_counter() - start
    del highest
    beyond = 0
    for block in blocks(n, width):
        start = time.perf_counter()
        ranks = best_ranks(examples, block, top=top)
        second += time.perf_counter() - start
        beyond += int((ranks.rank > kept).sum())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"n": n, "depth": kept, "first": first, "second": second, "beyond": beyond, "peak": peak}


def main() -> None:
    """Measure every size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, nargs="+", default=[250_000, 500_000, 1_000_000])
    parser.add_argument("--examples", type=int, default=5_000)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.size:
        print(json.dumps(measure(arguments.size, arguments.examples, arguments.width)))
        return
    each = 0.0
    for n in arguments.documents:
        sizes = ["--examples", str(arguments.examples), "--width", str(arguments.width)]
        command = [sys.executable, __file__, "--size", str(n), *sizes]
        row = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()[-1])
        seconds = row["first"] + row["second"]
        each = seconds / (n * arguments.examples)
        print(
            f"{n:>9} documents, depth {row['depth']}: {row['first']:.0f} + {row['second']:.0f} s, {each * 1e9:.1f} s per "
            f"billion cosines, peak {row['peak']:.0f} MiB, {row['beyond']} documents are in no list",
            flush=True,
        )
    hours = each * 10e6 * 14_000 * (1024 / arguments.width) * CORES / 3600
    lists = 14_000 * depth(n_documents=10_000_000, n_examples=14_000, positive_fraction=POSITIVE_FRACTION) * 8 / 1e6
    print(
        f"10,000,000 documents, 14,000 examples, width 1,024: about {hours:.0f} core-hours for both passes; "
        f"lists on the driver {lists:.0f} MB"
    )


if __name__ == "__main__":
    main()
