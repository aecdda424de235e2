"""What `features` says about the input that it scored: the files of each batch, the version of a Delta source."""

import json
import os
import random
import shutil
import string
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from betr_spark.config import Config
from betr_spark.corpus.scored_state import scored_state
from betr_spark.corpus.snapshot import InputSnapshot
from betr_spark.errors import DataError
from betr_spark.features.batch_writer import BatchWriter
from betr_spark.features.stage import Features
from betr_spark.pipeline.runner import run_stages
from betr_spark.pipeline.stage import RunContext
from betr_spark.storage import delta
from betr_spark.storage.runs import StageRun


def write(folder: Path, name: str, ids: str, **columns: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.parquet"
    pq.write_table(pa.table({"id": [*ids], "text": [f"text {letter}" for letter in ids], **columns}), path)
    return path


def configured(tmp_path: Path, **more: Any) -> Config:
    source = {"path": str(tmp_path / "docs"), "id": "id", **more.pop("input", {})}
    return Config.model_validate({"input": source, "output": str(tmp_path / "out"), "scorers": {}, **more})


def run(spark: Any, config: Config, context: RunContext | None = None) -> StageRun:
    return run_stages(context or RunContext(spark, config), [Features()])[0]


def scored_ids(spark: Any, config: Config) -> str:
    rows = InputSnapshot.scored(spark, config).documents().collect()
    return "".join(sorted(row["doc_id"] for row in rows))


def listed(spark: Any, config: Config) -> set[str]:
    return {Path(row["file"]).name for row in delta.read(spark, config.table("_inputs")).collect()}


def test_a_file_that_comes_between_the_listing_and_the_query_is_listed_too(spark: Any, tmp_path: Path) -> None:
    config = configured(tmp_path)
    write(tmp_path / "docs", "one", "ab")
    context = RunContext(spark, config)
    assert context.input.version.startswith("1 files")
    write(tmp_path / "docs", "late", "cd")
    write(tmp_path / "docs", "no rows", "")
    assert run(spark, config, context).rows_out == 4
    assert listed(spark, config) == {"one.parquet", "late.parquet", "no%20rows.parquet"}
    assert scored_ids(spark, config) == "abcd"
    write(tmp_path / "docs", "new", "ef")
    assert scored_ids(spark, config) == "abcd"
    done = run(spark, config)
    assert (done.rows_out, done.metrics["rows_new"]) == (6, 2)
    assert listed(spark, config) == {"one.parquet", "late.parquet", "no%20rows.parquet", "new.parquet"}
    assert scored_ids(spark, config) == "abcdef"
    assert run(spark, config).skipped


@pytest.mark.parametrize(
    ("changed", "method"),
    [(InputSnapshot, "stream"), (BatchWriter, "__call__")],
    ids=["before listing", "before reading"],
)
def test_a_file_that_is_deleted_meanwhile_and_put_back_is_not_lost(
    spark: Any, tmp_path: Path, changed: Any, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(tmp_path, input={"max_batch_bytes": 1})  # a batch for each file
    write(tmp_path / "docs", "one", "a")
    moved, away = write(tmp_path / "docs", "two", "b"), tmp_path / "two.parquet"
    os.utime(moved, (2e9, 2e9))  # in the last batch
    original = getattr(changed, method)

    def first_delete(*args: Any, **named: Any) -> Any:
        if moved.exists():
            moved.rename(away)
        return original(*args, **named)

    with monkeypatch.context() as patch:
        patch.setattr(changed, method, first_delete)
        with pytest.raises(
            DataError, match=r"1 file was deleted while `features` read the input: file:\S+/two.parquet"
        ):
            run(spark, config)
    away.rename(moved)
    assert run(spark, config).rows_out == 2
    assert scored_ids(spark, config) == "ab"


def test_each_batch_says_which_files_it_was_started_for(spark: Any, tmp_path: Path) -> None:
    config = configured(tmp_path, input={"max_batch_bytes": 1})
    for name in ("a", "b", "c"):
        write(tmp_path / "docs", name, name)
    run(spark, config)
    commits = [delta.as_object(commit.user_metadata) for commit in delta.commits(spark, config.table("features"))]
    assert [(about["batch"], about["input_version"]) for about in commits] == [(2, 0), (2, 0), (1, 0), (0, 0)]


def test_a_delta_source_is_scored_up_to_a_version(spark: Any, tmp_path: Path) -> None:
    config = configured(tmp_path, input={"format": "delta", "max_batch_bytes": 1})
    path = config.input.path

    def add(*ids: str) -> None:
        rows = [(doc_id, f"text {doc_id}", "x") for doc_id in ids]
        frame = spark.createDataFrame(rows, "id string, text string, unused string").coalesce(1)
        frame.write.format("delta").mode("append").save(path)

    add("a")
    add("b")
    run(spark, config)
    table = delta.table_id(spark, path)
    assert scored_state(spark, config) == (1, table)
    spark.sql(f"OPTIMIZE delta.`{path}`")
    add("c")
    add("d")
    assert scored_ids(spark, config) == "ab"
    assert run(spark, config).metrics["rows_new"] == 2
    assert scored_state(spark, config) == (4, table)
    assert scored_ids(spark, config) == "abcd"
    commits = [delta.as_object(commit.user_metadata) for commit in delta.commits(spark, config.table("features"))]
    assert [about["input_version"] for about in commits if "run_id" not in about] == [4, 3, 1, 1]


def test_a_delta_source_with_a_renamed_column_is_read_again(spark: Any, tmp_path: Path) -> None:
    config = configured(tmp_path, input={"format": "delta"})
    path = config.input.path
    spark.sql(
        f"CREATE TABLE delta.`{path}` (id STRING, text STRING, crawled STRING) USING delta "
        "TBLPROPERTIES ('delta.columnMapping.mode' = 'name')"
    )
    spark.sql(f"INSERT INTO delta.`{path}` VALUES ('a', 'text a', 'x'), ('b', 'text b', 'y')")
    assert run(spark, config).rows_in == 2
    spark.sql(f"ALTER TABLE delta.`{path}` RENAME COLUMN crawled TO seen")
    spark.sql(f"INSERT INTO delta.`{path}` VALUES ('c', 'text c', 'z')")
    done = run(spark, config)
    assert (done.rows_in, done.rows_out, done.metrics["rows_new"]) == (3, 3, 3)
    assert run(spark, config).skipped


@pytest.mark.parametrize(("file_format", "ids"), [("parquet", "id"), ("parquet", None), ("json", "id")])
def test_the_text_is_read_once(spark: Any, tmp_path: Path, file_format: str, ids: str | None) -> None:
    pick = random.Random(0)
    rows = [{"id": str(n), "text": "".join(pick.choices(string.ascii_letters, k=5_000))} for n in range(1_500)]
    folder = tmp_path / "docs"
    folder.mkdir()
    if file_format == "parquet":
        table = pa.Table.from_pylist([{**row, "html": row["text"]} for row in rows])
        pq.write_table(table, folder / "a.parquet", compression="none", use_dictionary=False, row_group_size=200)
    else:
        (folder / "a.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    settings = spark._jsc.hadoopConfiguration()
    vectored = "parquet.hadoop.vectored.io.enabled"  # Hadoop does not count what is read in this way
    settings.set(vectored, "false")
    config = configured(tmp_path, input={"format": file_format, "id": ids})
    try:
        first = bytes_read(spark, lambda: run(spark, config))
        second = bytes_read(spark, lambda: run(spark, config))
    finally:
        settings.unset(vectored)
    n_bytes = sum(len(row["text"]) for row in rows)
    start = 1_000 * 5_000 / n_bytes if file_format == "json" else 0.0  # the first lines are looked at for keys
    if file_format == "parquet" and ids:
        assert first / n_bytes < 0.2  # Python reads the texts
    else:
        assert 1.0 < first / n_bytes < 1.2 + start  # not the column `html`, and nothing twice
    assert second / n_bytes < 0.2 + start


def bytes_read(spark: Any, action: Callable[[], object]) -> int:
    """Bytes that the JVM reads from local files during an action."""

    def total() -> int:
        statistics = spark._jvm.org.apache.hadoop.fs.FileSystem.getAllStatistics()
        return sum(entry.getBytesRead() for entry in statistics if entry.getScheme() == "file")

    before = total()
    action()
    return total() - before


def test_a_column_of_the_input_is_a_logit_of_doubles(spark: Any, tmp_path: Path) -> None:
    scorers = {"seen": {"kind": "expression", "column": "meta.seen"}}
    config = configured(tmp_path, scorers=scorers)
    meta = pa.array([{"seen": 1_700_000_000 + n} for n in range(2)])
    write(tmp_path / "docs", "one", "ab", meta=meta)
    run(spark, config)
    features = delta.read(spark, config.table("features"))
    assert dict(features.dtypes)["logit_seen"] == "double"
    assert sorted(row["logit_seen"] for row in features.collect()) == [1_700_000_000.0, 1_700_000_001.0]


def test_folders_and_files_at_any_depth_are_followed(spark: Any, tmp_path: Path) -> None:
    config = configured(tmp_path, input={"path": str(tmp_path / "docs/dump=*"), "source": "dump", "columns": ["lang"]})
    write(tmp_path / "docs/dump=007/lang=de", "x", "ab")
    run(spark, config)
    write(tmp_path / "docs/dump=008", "y", "cd")
    assert run(spark, config).metrics["rows_new"] == 2
    rows = delta.read(spark, config.table("features")).collect()
    assert {row["doc_id"]: row["source"] for row in rows} == {"a": "007", "b": "007", "c": "008", "d": "008"}
    carried = InputSnapshot.scored(spark, config).documents(carried=True).collect()
    assert {row["doc_id"]: row["lang"] for row in carried} == {"a": "de", "b": "de", "c": None, "d": None}


def test_a_row_in_quarantine_has_the_columns_that_are_read(spark: Any, tmp_path: Path) -> None:
    config = configured(tmp_path, input={"columns": ["url"], "source": "site"})
    write(tmp_path / "docs", "one", "abc", url=["u"] * 3, site=["s", "t", "t"], html=["<p>"] * 3)
    texts = pa.array([b"fine", None, b"bad \xff"], pa.binary())
    table = pq.read_table(tmp_path / "docs/one.parquet").set_column(1, "text", texts)
    pq.write_table(table, tmp_path / "docs/one.parquet")
    run(spark, config)
    rows = {row["reason"]: json.loads(row["row"]) for row in delta.read(spark, config.table("quarantine")).collect()}
    assert rows == {
        "null_text": {"id": "b", "site": "t"},
        "invalid_utf8": {"doc_id": "c", "source": "t", "text": "bad \ufffd"},
    }


def test_a_lost_list_of_scored_files_is_made_again(spark: Any, tmp_path: Path) -> None:
    config = configured(tmp_path)
    write(tmp_path / "docs", "one", "ab")
    run(spark, config)
    shutil.rmtree(config.table("_inputs"))
    assert not run(spark, config).skipped
    assert scored_ids(spark, config) == "ab"


def test_decimal_ids_are_spelled_in_one_way(spark: Any, tmp_path: Path) -> None:
    config = configured(tmp_path)
    write(tmp_path / "docs", "one", "ab")
    for name, ids in (("one", pa.array([7, 8])), ("two", pa.array([Decimal(8), Decimal(9)], pa.decimal128(12, 2)))):
        pq.write_table(pa.table({"id": ids, "text": ["text", "texts"]}), tmp_path / f"docs/{name}.parquet")
        if name == "one":
            run(spark, config)
    with pytest.raises(DataError, match=r"duplicate ids, for example '8\.00'"):
        run(spark, config)
    pq.write_table(pa.table({"id": pa.array([7]), "text": ["text"]}), tmp_path / "docs/one.parquet")
    run(spark, config)
    assert sorted(row["doc_id"] for row in delta.read(spark, config.table("features")).collect()) == [
        "7.00",
        "8.00",
        "9.00",
    ]


@pytest.mark.parametrize("values", [[1.0, 9.0, None], [None, 9.0, 1.0]])
def test_of_copies_with_other_values_of_a_column_the_highest_counts(
    spark: Any, tmp_path: Path, values: list[float | None]
) -> None:
    config = configured(tmp_path, input={"id": None}, scorers={"v": {"kind": "expression", "column": "v"}})
    (tmp_path / "docs").mkdir()
    pq.write_table(pa.table({"text": ["same text"] * 3, "v": values}), tmp_path / "docs/one.parquet")
    run(spark, config)
    assert [row["logit_v"] for row in delta.read(spark, config.table("features")).collect()] == [9.0]
