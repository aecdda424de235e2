"""Deduplication without text: how time and driver memory grow with the documents.

    python benchmarks/dedup_scale.py [--documents 500000 5000000 20000000] [--spark "--conf key=value"]

Makes a `features` table of made-up signatures for each size and times the stage on it, each in a process of its own. Of the
documents 5 % share one bucket and are otherwise unlike, 10 % are exact copies (groups of 3), 25 % are near-duplicates
(similarity about 0.996, so that no text is wanted) in groups of 2, 10 and 200, the others are alone. Prints time, time a
million documents, what was found, what Spark's tasks sent to the driver, and the peak memory of the driver's Python.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

BANDS, ROWS = 14, 8
_COLUMNS = (
    "doc_id string, source string, n_bytes int, n_words int, n_tokens int, content_hash binary, bands array<bigint>, "
    "signature binary, logit_betr float, input_file string, batch bigint"
)


def mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Spread the bits of each value (splitmix64)."""
    values = (values + np.uint64(0x9E3779B97F4A7C15)) * np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(27)
    values *= np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def features(ids: NDArray[np.int64], n: int) -> pa.RecordBatch:
    """Make rows of `features`."""
    from betr_spark.kernels.arrow_buffers import binary_column  # noqa: PLC0415
    from betr_spark.kernels.minhash import _band_keys  # noqa: PLC0415

    i = ids.astype(np.uint64)
    share = ids / n
    size = np.select(
        [share < 0.05, share < 0.15, share < 0.2333, share < 0.3167, share < 0.40], [1, 3, 2, 10, 200], 1
    ).astype(np.uint64)
    group = (i // size) * size
    positions = np.arange(BANDS * ROWS, dtype=np.uint64)
    with np.errstate(over="ignore"):
        own = mixed(i)
        base = mixed(mixed(group)[:, None] + positions[None, :] * np.uint64(0xD6E8FEB86659FD93))
        other = mixed(own[:, None] ^ (positions[None, :] * np.uint64(0xA24BAED4963EE407) + np.uint64(1)))
    near = (share >= 0.15) & (share < 0.40)
    changed = near[:, None] & ((other >> np.uint64(40)) % np.uint64(1000) < 2)
    signatures = np.where(changed, other, base).astype(np.uint32)
    signatures[share < 0.05, :ROWS] = np.arange(ROWS)  # one bucket
    exact = (share >= 0.05) & (share < 0.15)
    content = np.where(exact, mixed(group), own)
    hashes = np.ascontiguousarray(np.stack([content, mixed(content)], axis=1)).view(np.uint8)
    bands = _band_keys(signatures, BANDS, ROWS)
    offsets = np.arange(len(ids) + 1, dtype=np.int32) * BANDS
    words = pa.array(np.full(len(ids), 600, np.int32))
    columns = [
        pa.array([f"{h:016x}{j:016x}" for h, j in zip(own.tolist(), ids.tolist(), strict=True)]),
        pa.array([f"site-{j % 997}" for j in ids.tolist()]),
        pa.array(np.full(len(ids), 4000, np.int32)),
        words,
        words,
        binary_column(hashes.reshape(len(ids), 16)),
        pa.ListArray.from_arrays(pa.array(offsets), pa.array(bands.reshape(-1))),
        binary_column(np.ascontiguousarray(signatures).view(np.uint8)),
        pa.array((own >> np.uint64(40)).astype(np.float32) / np.float32(2**24)),
        pa.array(["none"] * len(ids)),
        pa.array(np.zeros(len(ids), np.int64)),
    ]
    return pa.RecordBatch.from_arrays(columns, [column.split()[0] for column in _COLUMNS.split(", ")])


def one(n: int, folder: str) -> None:
    """Make a table of n documents and time the stage; prints JSON."""
    from betr_spark.config import Config  # noqa: PLC0415
    from betr_spark.pipeline.run import run_all  # noqa: PLC0415
    from betr_spark.spark.session import build_session  # noqa: PLC0415
    from betr_spark.storage import delta  # noqa: PLC0415

    spark = build_session("dedup scale")
    config = Config.model_validate(
        {"input": {"path": "none"}, "output": folder, "targets": {"none": {"path": "none", "template": "{none}"}}}
    )

    def make(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield features(batch.column(0).to_numpy(), n)

    made = spark.range(0, n, 1, max(2, n // 250_000)).mapInArrow(make, _COLUMNS)
    metadata = json.dumps({"checkpoint": "scale", "batch": 0})
    delta.overwrite(made, config.table("features"), user_metadata=metadata)
    start = time.perf_counter()
    done = run_all(spark, config, "dedup")[0]
    seconds = time.perf_counter() - start
    spark.stop()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # of the driver's Python, MiB
    print(json.dumps({"n": n, "seconds": seconds, "dropped": dict(done.dropped), "peak": peak, **done.metrics}))


def main() -> None:
    """Measure every size and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, nargs="+", default=[500_000, 5_000_000, 20_000_000])
    parser.add_argument("--spark", default="--conf spark.sql.adaptive.coalescePartitions.initialPartitionNum=64")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        one(int(arguments.one[0]), arguments.one[1])
        return
    found: list[dict[str, Any]] = []
    for n in arguments.documents:
        folder = Path(tempfile.mkdtemp(prefix="betr-spark-scale-"))
        try:
            found.append(measured(Path(__file__), n, folder, arguments.spark))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        row = found[-1]
        print(
            f"{n:>10} documents: {row['seconds']:7.1f} s, {row['seconds'] / n * 1e6:6.1f} s a million, "
            f"{row['dropped']}, sent to the driver {row['sent'] / 2**20:.1f} MiB, most by one job "
            f"{row['most'] / 2**20:.1f} MiB, the driver's Python {row['peak']:.0f} MiB at most",
            flush=True,
        )
    for small, large in zip(found, found[1:], strict=False):
        times = large["n"] / small["n"]
        print(f"{times:.0f} times the documents: {large['seconds'] / small['seconds']:.2f} times the time")


def measured(script: Path, n: int, folder: Path, spark: str) -> dict[str, Any]:
    """Run a script's `one` in a process of its own, with an event log; adds bytes that tasks sent, in all and by one job."""
    events = folder / "events"
    events.mkdir()
    log = f"--conf spark.eventLog.enabled=true --conf spark.eventLog.dir={events.as_uri()}"
    log += " --conf spark.eventLog.rolling.enabled=false --conf spark.eventLog.compress=false"
    environment = {**os.environ, "PYSPARK_SUBMIT_ARGS": f"{log} {spark} pyspark-shell"}
    arguments = [sys.executable, str(script), "--one", str(n), str(folder / "out")]
    done = subprocess.run(arguments, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    sizes: dict[int, int] = {}
    job_of: dict[int, int] = {}
    for line in next(events.iterdir()).open(encoding="utf-8"):
        event = json.loads(line)
        if event["Event"] == "SparkListenerJobStart":
            job_of |= dict.fromkeys(event["Stage IDs"], event["Job ID"])
        elif event["Event"] == "SparkListenerTaskEnd" and (metrics := event.get("Task Metrics")):
            job = job_of[event["Stage ID"]]
            sizes[job] = sizes.get(job, 0) + metrics["Result Size"]
    return {**row, "sent": sum(sizes.values()), "most": max(sizes.values())}


if __name__ == "__main__":
    main()
