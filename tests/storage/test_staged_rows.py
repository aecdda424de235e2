"""Files of a Delta table that are written first and committed later."""

from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import Observation
from pyspark.sql import functions as F

from betr_spark.storage import delta, staged_rows
from betr_spark.storage.staged_rows import staged


@pytest.fixture(params=["files", "kept"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With Delta's classes, and as if it had none of them."""
    if request.param == "kept":
        monkeypatch.setattr(staged_rows, "_WRITE", "org.apache.spark.sql.delta.commands.Absent")


def write(spark: Any, path: Path, number: int, ids: str, *, commit: bool = True) -> list[str]:
    """Stage rows as transaction `number`; return the ids in the staged files."""
    rows = spark.createDataFrame([(doc_id, number) for doc_id in ids], "doc_id string, n int").coalesce(1)
    options = {"transaction": ("name", number), "overwrite": number == 0, "statistics": ["doc_id"]}
    with staged(rows, str(path), **options) as written:
        found = sorted(row["doc_id"] for row in written.read("doc_id").collect())
        if commit:
            written.commit(user_metadata=delta.to_json({"ids": "".join(found)}))
    return found


def table(spark: Any, path: Path) -> str:
    return "".join(sorted(row["doc_id"] for row in delta.read(spark, str(path)).collect()))


@pytest.mark.usefixtures("way")
def test_rows_are_in_the_table_after_the_commit_alone(spark: Any, tmp_path: Path) -> None:
    path = tmp_path / "table"
    assert write(spark, path, 0, "ab") == ["a", "b"]
    assert write(spark, path, 1, "cd", commit=False) == ["c", "d"]
    assert table(spark, path) == "ab"
    assert len(list(path.glob("*.parquet"))) == 1  # files that are not committed are deleted
    write(spark, path, 1, "ef")
    assert table(spark, path) == "abef"
    commits = [delta.as_object(commit.user_metadata) for commit in delta.commits(spark, str(path))]
    assert commits == [{"ids": "ef"}, {"ids": "ab"}]
    statistics = (path / "_delta_log/00000000000000000001.json").read_text(encoding="utf-8")
    assert 'minValues\\":{\\"doc_id\\":\\"e\\"}' in statistics


@pytest.mark.usefixtures("way")
def test_a_repeated_transaction_adds_nothing_and_a_first_one_replaces_the_table(spark: Any, tmp_path: Path) -> None:
    path = tmp_path / "table"
    for _ in range(2):
        write(spark, path, 0, "ab")
        write(spark, path, 1, "cd")
    assert (table(spark, path), delta.newest_version(spark, str(path))) == ("abcd", 1)
    rows = spark.createDataFrame([("x", 1.0)], "doc_id string, other double")
    with staged(rows, str(path), transaction=("another", 0), overwrite=True, statistics=[]) as written:
        written.commit(user_metadata="")
    assert delta.read(spark, str(path)).columns == ["doc_id", "other"]
    assert table(spark, path) == "x"


@pytest.mark.usefixtures("way")
def test_a_table_without_rows_has_a_commit_with_its_record(spark: Any, tmp_path: Path) -> None:
    for number in range(2):
        assert write(spark, tmp_path / "table", number, "") == []
    assert [commit.user_metadata for commit in delta.commits(spark, str(tmp_path / "table"))] == ['{"ids": ""}'] * 2


def test_another_commit_of_the_same_transaction_meanwhile_is_an_error(spark: Any, tmp_path: Path) -> None:
    path = tmp_path / "table"
    write(spark, path, 0, "a")
    rows = spark.createDataFrame([("b", 1)], "doc_id string, n int")
    with staged(rows, str(path), transaction=("name", 1), overwrite=False, statistics=[]) as written:
        write(spark, path, 1, "c")
        with pytest.raises(Exception, match="DELTA_CONCURRENT_TRANSACTION"):
            written.commit(user_metadata="")
    assert table(spark, path) == "ac"


@pytest.mark.usefixtures("way")
def test_rows_are_evaluated_once_and_counted_while_they_are_written(spark: Any, tmp_path: Path) -> None:
    counter, calls = Observation(), spark.sparkContext.accumulator(0)

    def counted(batches: Any) -> Any:
        for batch in batches:
            calls.add(batch.num_rows)
            yield batch

    rows = spark.range(10).select(F.col("id").cast("string").alias("doc_id")).mapInArrow(counted, "doc_id string")
    rows = rows.observe(counter, F.count("*").alias("n"))
    with staged(rows, str(tmp_path / "t"), transaction=("name", 0), overwrite=True, statistics=[]) as written:
        assert (counter.get, written.read("doc_id").count()) == ({"n": 10}, 10)
        written.commit(user_metadata="")
    assert calls.value == 10
