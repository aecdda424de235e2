"""The page of `betr-spark report` on many documents without text, against one aggregation of the same table for each section.

    python benchmarks/report_page.py [--documents 5000000] [--rounds 3]

Writes the tables of an output with made-up documents: 100 sources, lengths and scores by a hash, 5 % duplicates, and two
selections of 10 %, one of them random. Then takes turns: 13 aggregations of `features` by source, one for each section, and
everything that the page shows, from the tables. Prints the seconds of each round, and the median of the ratios. The first round
is not counted: the JVM is cold. It has one compiler, as that of the command. Sections that need an input, examples
or an evaluation are left out, as there are none.
"""

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from betr_spark import schemas
from betr_spark.config import Config
from betr_spark.pipeline.stage import RunContext
from betr_spark.report.page.gather import gather
from betr_spark.schemas import DOC_ID, LOGIT, N_TOKENS, RANK, SOURCE, TEXT
from betr_spark.scoring.logit import random_logit
from betr_spark.spark.session import build_session, jvm_starting
from betr_spark.spark.work import Work
from betr_spark.storage import delta
from betr_spark.storage.runs import Origin, StageKey, StageRun

SECTIONS = 13
SOURCES, SCORER, CONTROL = 100, "quality", "random"


def config_of(folder: Path) -> Config:
    """An output with two selections."""
    keep = {"token_fraction": 0.1}
    return Config.model_validate({
        "input": {"path": str(folder / "none")},
        "output": str(folder / "out"),
        "scorers": {SCORER: {"kind": "expression", "column": "quality"}},
        "selections": {"best": {"scorer": SCORER, "keep": keep}, "control": {"scorer": CONTROL, "keep": keep}},
    })  # fmt: skip


def write_tables(spark: SparkSession, config: Config, n: int) -> None:
    """Write `features`, `duplicates` and the selections of n documents."""

    def share(purpose: str) -> Any:
        return F.pmod(F.xxhash64(F.lit(purpose), DOC_ID), F.lit(1_000_000)) / 1e6

    def write(rows: DataFrame, table: str, stage: str, n_in: int, dropped: dict[str, int]) -> None:
        key = StageKey.of(stage, {})
        run = StageRun.of(
            key, run_id="made up", started_at=time.time(), rows_in=n_in, rows_out=rows.count(), dropped=dropped, metrics=None,
            origin=Origin(), work=Work(),
        )  # fmt: skip
        delta.overwrite(rows, config.table(table), user_metadata=run.to_json(checkpoint="none", batch=0))

    rows = spark.range(0, n, 1, max(2, n // 250_000)).select(F.md5(F.col("id").cast("string")).alias(DOC_ID))
    words = (50 + 2000 * share("length")).cast("int")
    no_bytes = F.lit(None).cast("binary")
    features = rows.select(
        DOC_ID, F.concat(F.lit("site-"), F.floor(SOURCES * share("site"))).alias(SOURCE), (6 * words).alias("n_bytes"),
        words.alias("n_words"), words.alias(N_TOKENS), no_bytes.alias("content_hash"),
        F.lit(None).cast("array<bigint>").alias("bands"), no_bytes.alias("signature"),
        (8 * share("quality") - 4).alias(schemas.logit_column(SCORER)), F.lit("none").alias("input_file"),
        F.lit(0).cast("bigint").alias("batch"),
    )  # fmt: skip
    write(features, schemas.FEATURES_TABLE, "features", n, {})
    features = delta.read(spark, config.table(schemas.FEATURES_TABLE))
    is_removed = share("copy") < 0.05
    removed = features.where(is_removed).selectExpr(
        DOC_ID, f"md5({DOC_ID}) kept_doc_id", "'near' kind", "float(0.9) similarity", "'signature' evidence",
        f"md5({DOC_ID}) component_id", "bigint(2) component_size",
    )  # fmt: skip
    write(removed, schemas.DUPLICATES_TABLE, "dedup", n, {})
    survivors = features.where(~is_removed)
    for name, logit in (("best", F.col(schemas.logit_column(SCORER))), ("control", random_logit(0))):
        scored = survivors.select(DOC_ID, SOURCE, N_TOKENS, logit.cast("double").alias(LOGIT))
        kept = scored.orderBy(F.desc(LOGIT)).limit(n // 10)
        ranked = kept.rdd.zipWithIndex().map(lambda pair: (pair[1] + 1, *pair[0]))
        table = spark.createDataFrame(
            ranked, f"{RANK} int, {DOC_ID} string, {SOURCE} string, {N_TOKENS} int, {LOGIT} double"
        )
        table = table.selectExpr(RANK, DOC_ID, f"'' {TEXT}", SOURCE, f"1 / (1 + exp(-{LOGIT})) score", LOGIT, N_TOKENS)
        write(table, f"selected/{name}", f"select/{name}", n, {})


def timed(work: Callable[[], object]) -> float:
    """Seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the seconds and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="betr-spark-page-"))
    with jvm_starting(is_short=True):  # as the command does
        config = config_of(folder)
    spark = build_session("page")
    try:
        write_tables(spark, config, given.documents)
        features = config.table(schemas.FEATURES_TABLE)

        def aggregate() -> None:
            delta.read(spark, features).groupBy(SOURCE).agg(F.count("*"), F.sum(N_TOKENS)).collect()

        ratios = []
        for number in range(given.rounds + 1):
            all_sections = sum(timed(aggregate) for _ in range(SECTIONS))
            page = timed(lambda: gather(RunContext(spark, config)))
            ratio = page / all_sections
            ratios += [ratio] if number else []
            print(f"{SECTIONS} aggregations {all_sections:.1f} s, page {page:.1f} s, ratio {ratio:.2f}", flush=True)
        print(f"{given.documents:,} documents: median of the ratios {statistics.median(ratios):.2f}")
    finally:
        spark.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
