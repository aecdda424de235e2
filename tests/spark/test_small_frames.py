"""Frames of a few rows: the same as Spark makes of Python objects."""

import datetime as dt
from typing import Any

import pyarrow as pa
import pytest

from betr_spark import schemas
from betr_spark.spark.small_frames import frame_of, small_frame
from betr_spark.storage import delta

SCHEMA = "name string, n int, x double, ok boolean, at timestamp, key binary, counts map<string,bigint>"
AT = dt.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=dt.UTC)
ROWS = [("ünï", 1, 0.5, True, AT, b"\x00\xff", {"a": 1, "b": 2}), (None, None, None, None, None, None, {})]


@pytest.mark.parametrize("rows", [ROWS, ROWS[:1], []])
def test_rows_equal_those_of_spark(spark: Any, rows: list[Any]) -> None:
    frame = small_frame(spark, rows, SCHEMA)
    expected = spark.createDataFrame(rows, SCHEMA)
    assert frame.schema == expected.schema
    assert frame.collect() == expected.collect()


@pytest.mark.parametrize("limit", ["0", "-1"])
def test_arrow_batches_without_a_limit(spark: Any, limit: str) -> None:
    with delta.session_conf(spark, "spark.sql.execution.arrow.maxRecordsPerBatch", limit):
        assert small_frame(spark, ROWS, SCHEMA).count() == len(ROWS)
        assert frame_of(spark, pa.table({"n": [1, 2, 3]})).count() == 3
        assert spark.conf.get("spark.sql.execution.arrow.maxRecordsPerBatch") == limit


def test_no_python_worker_is_in_the_plan(spark: Any) -> None:
    plan = small_frame(spark, [], schemas.RUNS)._jdf.queryExecution().executedPlan().toString()
    assert "Scan ExistingRDD" not in plan
    assert small_frame(spark, [], schemas.QUARANTINED).count() == 0
