"""Deduplication without text: how time, driver memory and worker memory grow with the documents and with one bucket.

    python benchmarks/dedup_scale.py [--documents 500000 5000000 20000000] [--giant 0] [--spark "--conf key=value"]

Writes a `features` table of generated signatures for each size and times the stage on it, each in a new process. Of the
documents 5 % share one bucket and are otherwise different, 10 % are exact copies (groups of 3), 25 % are near-duplicates
(similarity about 0.996, so that no text is read) in groups of 2, 10 and 200, the others have no duplicates; `--giant N` makes
N of those one group of near-duplicates. Prints the time, the time for a million documents, the removed documents, what
Spark's tasks sent to the driver, and the peak memory of the driver's Python and of the largest Python worker (on Linux).
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


def features(ids: NDArray[np.int64], n: int, giant: int) -> pa.RecordBatch:
    """Generate rows of `features` for the documents with these ids."""
    from betr_spark.kernels.arrow_buffers import binary_column  # noqa: PLC0415
    from betr_spark.kernels.minhash import low_bytes  # noqa: PLC0415

    i = ids.astype(np.uint64)
    share = ids / n
    size = np.select(
        [share < 0.05, share < 0.15, share < 0.2333, share < 0.3167, share < 0.40], [1, 3, 2, 10, 200], 1
    ).astype(np.uint64)
    in_giant = (share >= 0.40) & (ids < 0.40 * n + giant)
    group = np.where(in_giant, np.uint64(n), (i // size) * size)
    positions = np.arange(BANDS * ROWS, dtype=np.uint64)
    with np.errstate(over="ignore"):
        hash_of_id = mixed(i)
        of_group = mixed(mixed(group)[:, None] + positions[None, :] * np.uint64(0xD6E8FEB86659FD93))
        of_id = mixed(hash_of_id[:, None] ^ (positions[None, :] * np.uint64(0xA24BAED4963EE407) + np.uint64(1)))
    near = ((share >= 0.15) & (share < 0.40)) | in_giant
    changed = near[:, None] & ((of_id >> np.uint64(40)) % np.uint64(1000) < 2)
    signatures = np.where(changed, of_id, of_group).astype(np.uint32)
    signatures[share < 0.05, :ROWS] = np.arange(ROWS)  # one bucket
    exact = (share >= 0.05) & (share < 0.15)
    content = np.where(exact, mixed(group), hash_of_id)
    hashes = np.ascontiguousarray(np.stack([content, mixed(content)], axis=1)).view(np.uint8)
    words = pa.array(np.full(len(ids), 600, np.int32))
    columns = [
        pa.array([f"{h:016x}{j:016x}" for h, j in zip(hash_of_id.tolist(), ids.tolist(), strict=True)]),
        pa.array([f"site-{j % 997}" for j in ids.tolist()]),
        pa.array(np.full(len(ids), 4000, np.int32)),
        words,
        words,
        binary_column(hashes.reshape(len(ids), 16)),
        pa.nulls(len(ids), pa.list_(pa.int64())),
        binary_column(low_bytes(signatures)),
        pa.array((hash_of_id >> np.uint64(40)).astype(np.float32) / np.float32(2**24)),
        pa.array(["none"] * len(ids)),
        pa.array(np.zeros(len(ids), np.int64)),
    ]
    return pa.RecordBatch.from_arrays(columns, [column.split()[0] for column in _COLUMNS.split(", ")])


def measure(n: int, folder: str, giant: int) -> None:
    """Generate a table of n documents and time the stage; print JSON."""
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
            yield features(batch.column(0).to_numpy(), n, giant)

    table = spark.range(0, n, 1, max(2, n // 250_000)).mapInArrow(make, _COLUMNS)
    metadata = json.dumps({"checkpoint": "scale", "batch": 0})
    delta.overwrite(table, config.table("features"), user_metadata=metadata)
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
    parser.add_argument("--giant", type=int, default=0)
    parser.add_argument("--spark", default="--conf spark.sql.adaptive.coalescePartitions.initialPartitionNum=64")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(int(arguments.measure[0]), arguments.measure[1], arguments.giant)
        return
    measurements: list[dict[str, Any]] = []
    for n in arguments.documents:
        folder = Path(tempfile.mkdtemp(prefix="betr-spark-scale-"))
        try:
            giant = ("--giant", str(arguments.giant))
            measurements.append(measured(Path(__file__), n, folder, arguments.spark, *giant))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        row = measurements[-1]
        print(
            f"{n:>10} documents: {row['seconds']:7.1f} s, {row['seconds'] / n * 1e6:6.1f} s per million, "
            f"{row['dropped']}, sent to the driver {row['sent'] / 2**20:.1f} MiB, largest job "
            f"{row['most'] / 2**20:.1f} MiB, peak of the driver's Python {row['peak']:.0f} MiB, "
            f"of a Python worker {row['worker_peak'] / 2**10:.0f} MiB",
            flush=True,
        )
        if "largest_bucket" in row:
            print(
                f"           largest bucket {row['largest_bucket']:.0f} documents, "
                f"{row['bucket_bytes_spilled'] / 2**20:.0f} MiB of members spilled",
                flush=True,
            )
    for small, large in zip(measurements, measurements[1:], strict=False):
        times = large["n"] / small["n"]
        print(f"{times:.0f} times the documents: {large['seconds'] / small['seconds']:.2f} times the time")


def measured(script: Path, n: int, folder: Path, spark: str, *more: str) -> dict[str, Any]:
    """Run a script with `--measure N FOLDER` in a new process, with an event log.

    Adds the bytes that all tasks sent, those of the largest job, and the peak memory of the largest Python worker in KiB.
    """
    events = folder / "events"
    events.mkdir()
    log = f"--conf spark.eventLog.enabled=true --conf spark.eventLog.dir={events.as_uri()}"
    log += " --conf spark.eventLog.rolling.enabled=false --conf spark.eventLog.compress=false"
    environment = {**os.environ, "PYSPARK_SUBMIT_ARGS": f"{log} {spark} pyspark-shell"}
    arguments = [sys.executable, str(script), "--measure", str(n), str(folder / "out"), *more]
    output, worker_peak = folder / "measured.json", 0
    with output.open("w") as stdout, subprocess.Popen(arguments, env=environment, stdout=stdout) as process:
        while process.poll() is None:
            worker_peak = max(worker_peak, largest_worker(process.pid))
            time.sleep(0.25)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, arguments)
    row: dict[str, Any] = json.loads(output.read_text().splitlines()[-1])
    sizes: dict[int, int] = {}
    job_of: dict[int, int] = {}
    for line in next(events.iterdir()).open(encoding="utf-8"):
        event = json.loads(line)
        if event["Event"] == "SparkListenerJobStart":
            job_of |= dict.fromkeys(event["Stage IDs"], event["Job ID"])
        elif event["Event"] == "SparkListenerTaskEnd" and (metrics := event.get("Task Metrics")):
            job = job_of[event["Stage ID"]]
            sizes[job] = sizes.get(job, 0) + metrics["Result Size"]
    return {**row, "sent": sum(sizes.values()), "most": max(sizes.values()), "worker_peak": worker_peak}


def largest_worker(driver: int) -> int:
    """Peak memory so far of the largest Python process below a driver, in KiB; 0 where there is no /proc."""
    parents: dict[int, int] = {}
    peaks: dict[int, int] = {}
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        except OSError:  # the process has ended
            continue
        parents[int(status.parent.name)] = int(fields["PPid"])
        if fields["Name"].strip().startswith("python"):
            peaks[int(status.parent.name)] = int(fields.get("VmHWM", "0").split()[0])

    def is_below(pid: int) -> bool:
        while pid in parents and pid != driver:
            pid = parents[pid]
        return pid == driver

    return max((peak for pid, peak in peaks.items() if pid != driver and is_below(pid)), default=0)


if __name__ == "__main__":
    main()
