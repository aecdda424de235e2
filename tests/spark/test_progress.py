"""What Spark has done is counted once, and a run shows what it is doing."""

import io
import re
import sys
import time
from typing import Any

import pytest
from pyspark.sql import functions as F

from betr_spark.spark import progress
from betr_spark.spark.jobs import described
from betr_spark.spark.progress import Progress
from betr_spark.spark.work import WorkMeter


def test_work_is_that_of_the_stages_since_the_last_reset(spark: Any, tmp_path: Any) -> None:
    spark.range(10, numPartitions=2).count()
    meter = WorkMeter(spark)
    assert meter.total().spark_stages == 0
    spark.range(1000, numPartitions=3).write.parquet(str(tmp_path / "rows"))
    first = meter.total()
    assert (first.spark_stages, first.spark_tasks) == (1, 3)
    assert first.bytes_written > 1000
    assert first.bytes_read == 0
    assert meter.total() == first
    spark.read.parquet(str(tmp_path / "rows")).groupBy((F.col("id") % 7).alias("k")).count().collect()
    both = meter.total()
    assert both.spark_stages >= 3
    assert both.bytes_read > 1000
    assert both.task_seconds > first.task_seconds > 0
    meter.reset()
    assert meter.total().spark_stages == 0


def test_many_stages_are_counted_though_the_store_is_read_in_parts(spark: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("betr_spark.spark.work._FIRST_LOOK", 2)
    meter = WorkMeter(spark)
    for _ in range(9):
        spark.range(5, numPartitions=1).foreach(lambda _: None)
    assert meter.total().spark_stages == 9


def slow(batches: Any) -> Any:
    for batch in batches:
        time.sleep(1.2)
        yield batch


def test_a_line_without_a_terminal_tells_tasks_parts_and_what_runs(
    spark: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress, "_LIVE_S", 0.1)
    monkeypatch.setattr(progress, "_LINE_S", 0.5)
    caplog.set_level("INFO", "betr_spark.spark.progress")
    with Progress(spark, ["features"], live=False) as shown:
        shown.begin("features")
        shown.part(0, 3)
        with described(spark, "features: score batch 1 of 3", group="some-run"):
            spark.range(4, numPartitions=4).mapInArrow(slow, "id bigint").count()
        shown.part(1, 3)
        time.sleep(0.8)
        shown.end("features", "done")
    lines = [record.getMessage() for record in caplog.records]
    running = [line for line in lines if "score batch 1 of 3" in line]
    assert re.match(r"features: \d+ s, score batch 1 of 3, part 1 of 3, \d of 4 tasks", running[0])
    assert re.search(r"part 2 of 3, .*about \d+ s left", lines[-1])


def test_a_terminal_shows_every_stage(spark: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setattr(progress, "_LIVE_S", 0.1)
    with Progress(spark, ["rank", "dedup"], live=True) as shown:
        shown.begin("rank")
        time.sleep(0.5)
        shown.end("rank", "7 in, 5 out; 0.5 s")
        shown.begin("dedup")
        time.sleep(0.5)
        shown.end("dedup", "skipped, up to date")
    last = stderr.getvalue()[-300:]
    assert "7 in, 5 out; 0.5 s" in last
    assert "skipped, up to date" in last
