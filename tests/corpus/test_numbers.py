"""Columns of expression scorers: the input's own values as doubles, or one line that says why not."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import functions as F

from betr_spark.config import InputConfig
from betr_spark.corpus.numbers import as_count
from betr_spark.corpus.snapshot import InputSnapshot
from betr_spark.spark.error_messages import spark_error_line

EXACT = 2**53


def logits(spark: Any, tmp_path: Path, values: Any) -> list[Any]:
    values = pa.array(values) if isinstance(values, list) else values
    table = pa.table({"id": [str(n) for n in range(len(values))], "text": ["x"] * len(values), "q": values})
    pq.write_table(table, tmp_path / "a.parquet")
    snapshot = InputSnapshot.resolve(spark, InputConfig(path=str(tmp_path), id="id"), numbers={"s": "q"})
    return [row["logit_s"] for row in snapshot.documents(numbers=True).collect()]


@pytest.mark.parametrize(
    "values",
    [
        [1_700_000_000 + n for n in range(4)],
        [0.9 + n * 1e-9 for n in range(4)],
        [EXACT - 1, -EXACT, EXACT * 4, 2**62, None],
        pa.array([0.1, None], pa.float32()),
        [Decimal("12345.678901"), Decimal("-0.000001"), None],
        pa.array([1, 2**62], pa.uint64()),
    ],
)
def test_values_are_kept(spark: Any, tmp_path: Path, values: Any) -> None:
    python = values if isinstance(values, list) else values.to_pylist()
    assert logits(spark, tmp_path, values) == [None if value is None else float(value) for value in python]


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([1, EXACT + 1], str(EXACT + 1)),
        ([2**63 - 1], str(2**63 - 1)),
        ([Decimal("0.12345678901234567890")], "0.12345678901234567890"),
        (pa.array([2**64 - 1], pa.uint64()), str(2**64 - 1)),
    ],
)
def test_a_value_that_a_double_does_not_keep_stops_the_query_in_one_line(
    spark: Any, tmp_path: Path, values: Any, shown: str
) -> None:
    with pytest.raises(Exception, match="scorers.s.column") as caught:
        logits(spark, tmp_path, values)
    line = spark_error_line(caught.value)
    assert line is not None
    assert line.startswith(f"scorers.s.column: the value {shown} of column 'q' has more digits than a double keeps")
    assert "\n" not in line


def test_numbers_of_tokens_are_whole_and_fit_an_int(spark: Any) -> None:
    values = ["0", "7", "12.0", "2147483647", "2147483648", "-1", "0.5", "NaN", "Infinity", "x", "", None]
    rows = spark.createDataFrame([(value,) for value in values], "n string")
    found = [row[0] for row in rows.select(as_count(F.col("n"))).collect()]
    assert found == [0, 7, 12, 2**31 - 1, *[None] * 8]
    assert spark.sql("select cast(5 as decimal(20,2)) n").select(as_count(F.col("n"))).first()[0] == 5


def test_json_numbers_keep_their_digits(spark: Any, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        "".join(
            f'{{"id":"{n}","text":"x","q":{q}}}\n'
            for n, q in enumerate(("0.1", "1e3", "9007199254740992", '"x"', "NaN"))
        )
    )
    source = InputConfig(path=str(tmp_path), format="json", id="id")
    snapshot = InputSnapshot.resolve(spark, source, numbers={"s": "q"})
    values = [row["logit_s"] for row in snapshot.documents(numbers=True).collect()]
    assert values[:4] == [0.1, 1000.0, 9007199254740992.0, None]
    (tmp_path / "b.jsonl").write_text('{"id":"z","text":"x","q":9007199254740993}\n')
    with pytest.raises(Exception, match="the value 9007199254740993 of column 'q'"):
        InputSnapshot.resolve(spark, source, numbers={"s": "q"}).documents(numbers=True).collect()
