"""Processor seconds of the stage `features`, of this checkout and of another one, against the same pass to `noop`.

    python benchmarks/pass_cost.py --before CHECKOUT [--documents FILE.parquet] [--megabytes 300] [--rounds 3] [--hashed-ids]

Each checkout runs in a process of its own, with the same documents and one scorer; the rounds alternate between the checkouts,
and the first run of each process is not counted. Processor time is that of the process and of all its children (the JVM and
Python workers), user and system: on a shared machine it depends on other work much less than the time on the clock. Prints the
medians, their ratios, and the bytes of a document in `features`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
HERE = Path(__file__).resolve().parents[1]
DOCUMENTS = HERE.parent / "shared/data/corpus/documents.parquet"


def processor_seconds() -> float:
    """Processor time of this process and of all its descendants, with those that ended and were waited for."""
    parents, ticks = {}, {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            fields = (process / "stat").read_text("utf-8").rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        parents[int(process.name)], ticks[int(process.name)] = int(fields[1]), sum(map(int, fields[11:15]))
    total = 0
    for pid, value in ticks.items():
        ancestor = pid
        while ancestor > 1 and ancestor != os.getpid():
            ancestor = parents.get(ancestor, 0)
        total += value if ancestor == os.getpid() else 0
    return total / TICKS


def measure(folder: Path, *, hashed_ids: bool) -> dict[str, float]:
    """Run the pass to `noop` and the stage twice each; return the second figures."""
    import numpy as np  # noqa: PLC0415

    from betr_spark.config import Config  # noqa: PLC0415 - of the checkout in PYTHONPATH
    from betr_spark.features.one_pass import one_pass  # noqa: PLC0415
    from betr_spark.kernels.minhash import MinHasher  # noqa: PLC0415
    from betr_spark.pipeline.run import run_all  # noqa: PLC0415
    from betr_spark.pipeline.stage import RunContext  # noqa: PLC0415
    from betr_spark.schemas import (  # noqa: PLC0415
        DETAIL,
        DOC_ID,
        INPUT_FILE,
        QUARANTINE,
        REASON,
        ROW,
        SOURCE,
        TEXT,
        features_schema,
    )  # fmt: skip
    from betr_spark.scoring import artifact  # noqa: PLC0415
    from betr_spark.scoring.ngram_table import NgramTable, stack  # noqa: PLC0415
    from betr_spark.spark.session import build_session  # noqa: PLC0415

    try:
        from by_row import documents_by_row  # noqa: PLC0415
    except ImportError:  # a checkout of a version that reads texts with Spark
        documents_by_row = None  # type: ignore[assignment]
    spark = build_session("betr-spark bench")
    spark.sparkContext.setLogLevel("ERROR")
    generator = np.random.default_rng(0)
    words = [f"w{n}" for n in range(50_000)]
    table = NgramTable.build(
        words, generator.normal(size=len(words)).astype(np.float32), np.zeros(2**21, np.float32), word_ngrams=2
    )
    source = {"path": str(folder / "docs"), **({} if hashed_ids else {"id": "id"})}
    figures: dict[str, float] = {}
    for _ in range(2):
        with tempfile.TemporaryDirectory() as output:
            values = {"input": source, "output": output, "targets": {"t": {"path": "none", "template": "{q}"}}}
            config = Config.model_validate(values)
            artifact.save(spark, config.table("scorers/betr"), table, {"name": "betr"})
            run = one_pass(MinHasher(**config.minhash.model_dump()), ["betr"], artifact.ship(spark, stack([table])))
            schema = f"{features_schema(['betr'])}, {QUARANTINE}"
            if documents_by_row is not None and not hashed_ids:
                documents, add_texts = documents_by_row(spark, folder / "docs")
                computed = documents.mapInArrow(lambda batches: run(add_texts(batches)), schema)  # noqa: B023
            else:
                columns = (DOC_ID, SOURCE, TEXT, REASON, DETAIL, ROW, INPUT_FILE)
                documents = RunContext(spark, config).input.documents(leave_utf8=True).select(*columns)
                computed = documents.mapInArrow(run, schema)
            before = processor_seconds()
            computed.write.format("noop").mode("overwrite").save()
            figures["noop"] = processor_seconds() - before
            before = processor_seconds()
            n_rows = run_all(spark, config, "features")[0].rows_out
            figures["stage"] = processor_seconds() - before
            size = sum(file.stat().st_size for file in Path(config.table("features")).glob("*.parquet"))
            figures["bytes"] = size / n_rows
    spark.stop()
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=Path, default=DOCUMENTS)
    parser.add_argument("--before", type=Path, required=True)
    parser.add_argument("--megabytes", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--hashed-ids", action="store_true")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)  # a process for one checkout
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, hashed_ids=arguments.hashed_ids)))
        return
    from kernels import texts_of  # noqa: PLC0415 - not in the processes that measure
    from one_pass import tile  # noqa: PLC0415

    figures: dict[str, list[dict[str, float]]] = {"before": [], "now": []}
    with tempfile.TemporaryDirectory(prefix="betr-spark-pass-cost-") as temporary:
        folder = Path(temporary)
        tile(texts_of(arguments.documents), arguments.megabytes * 10**6, folder / "docs")
        command = [sys.executable, str(Path(__file__).resolve()), "--before", ".", "--measure", str(folder)]
        command += ["--hashed-ids"] if arguments.hashed_ids else []
        for _ in range(arguments.rounds):
            for name, checkout in (("before", arguments.before), ("now", HERE)):
                environment = {**os.environ, "PYTHONPATH": str(checkout.resolve())}
                done = subprocess.run(  # Python workers import what is in the working directory first
                    command, check=True, capture_output=True, text=True, env=environment, cwd=folder
                )
                figures[name].append(json.loads(done.stdout.splitlines()[-1]))
                print(name, figures[name][-1], flush=True)
    for name, each in figures.items():
        noop, stage, size = (statistics.median(one[key] for one in each) for key in ("noop", "stage", "bytes"))
        ratio = statistics.median(one["stage"] / one["noop"] for one in each)
        print(f"{name}: noop {noop:.1f} s, stage {stage:.1f} s, ratio {ratio:.2f}, {size:.0f} bytes a document")
    ratios = [now["stage"] / before["stage"] for before, now in zip(figures["before"], figures["now"], strict=True)]
    print(f"stage, now to before: {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
