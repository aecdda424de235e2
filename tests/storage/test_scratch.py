"""Intermediate results: computed once, the same rows in local mode as from files, and gone at the end."""

from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import functions as F

from betr_spark.storage import scratch as module
from betr_spark.storage.scratch import counted, scratch


@pytest.mark.parametrize("is_local", [True, False])
def test_a_frame_is_computed_once_and_its_rows_are_deleted(
    spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_local: bool
) -> None:
    monkeypatch.setattr(module, "_is_local", lambda _: is_local)
    computed = spark.sparkContext.accumulator(0)

    def seen(number: int) -> int:
        computed.add(1)
        return number

    numbers = spark.range(100).select(
        "id", F.udf(seen, "bigint", useArrow=False)("id").alias("n"), F.lit(None).cast("binary").alias("none")
    )
    before = spark.sparkContext._jsc.getPersistentRDDs().size()
    with scratch(spark, str(tmp_path / "scratch")) as materialise:
        rows, counts = counted(materialise, numbers, {"n": F.count("*"), "none": F.sum(F.length("none"))})
        assert counts == {"n": 100, "none": 0}
        assert rows.agg(F.sum("n")).collect() == [(4950,)]
        assert rows.join(rows.withColumnRenamed("n", "m"), on="id").where("n = m").count() == 100
        assert [field.dataType for field in rows.schema] == [field.dataType for field in numbers.schema]
        assert computed.value == 100
        assert (tmp_path / "scratch").exists() != is_local
    assert not (tmp_path / "scratch").exists()
    assert spark.sparkContext._jsc.getPersistentRDDs().size() == before


def test_two_shuffles_of_the_same_rows_are_one(spark: Any, tmp_path: Path) -> None:
    numbers = spark.range(100).select("id", (F.col("id") % 7).alias("rest")).repartition(3, "rest")
    with scratch(spark, str(tmp_path / "scratch")) as materialise:
        parts = materialise(numbers).repartition(5, "id")
        left, right = (parts.withColumnsRenamed({"id": "key", "rest": name}) for name in ("a", "b"))
        plan = left.join(right.hint("shuffle_hash"), on="key")._jdf.queryExecution().executedPlan().toString()
    assert "ReusedExchange" in plan
