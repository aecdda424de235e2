"""History of real Delta tables: which commits count as a change, and which files a version is read from."""

import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import CommitProperties, write_deltalake

from betr_spark.corpus.table import InputTable
from betr_spark.errors import DataError
from betr_spark.storage import delta, delta_log, runs

KEEP_ROWS = [  # in this order, on one table
    "ALTER TABLE {table} SET TBLPROPERTIES ('team' = 'search', 'delta.enableTypeWidening' = 'true')",
    "ALTER TABLE {table} UNSET TBLPROPERTIES ('team')",
    "ALTER TABLE {table} ALTER COLUMN text COMMENT 'the text'",
    "ALTER TABLE {table} ALTER COLUMN number AFTER text",
    "COMMENT ON TABLE {table} IS 'documents'",
    "ALTER TABLE {table} ADD CONSTRAINT positive CHECK (number >= 0)",
    "ALTER TABLE {table} DROP CONSTRAINT positive",
    "ALTER TABLE {table} ALTER COLUMN number TYPE bigint",
    "ALTER TABLE {table} CLUSTER BY (number)",
    "OPTIMIZE {table}",
    "ALTER TABLE {table} SET TBLPROPERTIES ('delta.enableDeletionVectors' = 'true')",
    "VACUUM {table}",
]
CHANGE_ROWS = [
    "INSERT INTO {table} VALUES (100, 'new')",
    "UPDATE {table} SET text = 'other' WHERE number = 1",
    "DELETE FROM {table} WHERE number = 2",
    "ALTER TABLE {table} ADD COLUMNS (more string)",
    "RESTORE TABLE {table} TO VERSION AS OF 0",
    "TRUNCATE TABLE {table}",
]


def write(spark: Any, path: Path, *, mode: str = "append", n_files: int = 2) -> None:
    rows = spark.range(6).selectExpr("cast(id as int) as number", "concat('text ', id) as text").repartition(n_files)
    rows.write.format("delta").mode(mode).option("userMetadata", '{"run_id": "r1"}').save(str(path))


def statement(path: Path, text: str) -> str:
    return text.format(table=f"delta.`{path}`")


@pytest.fixture(scope="module")
def documents(spark: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("delta") / "documents"
    write(spark, path)
    return path


def latest(spark: Any, path: Path) -> int:
    return int(spark.sql(statement(path, "DESCRIBE HISTORY {table} LIMIT 1")).first()["version"])


@pytest.mark.parametrize("text", KEEP_ROWS)
def test_a_commit_that_changes_no_row_does_not_count(spark: Any, documents: Path, text: str) -> None:
    before = latest(spark, documents)
    spark.sql(statement(documents, text))
    assert latest(spark, documents) > before
    assert [commit[:2] for commit in delta.commits(spark, str(documents))] == [(0, '{"run_id": "r1"}')]
    rows = spark.read.format("delta").load(str(documents)).select("number", "text").collect()
    assert sorted(tuple(row) for row in rows) == [(n, f"text {n}") for n in range(6)]


def test_statistics_that_are_computed_again_do_not_count(spark: Any, tmp_path: Path) -> None:
    path, jvm = tmp_path / "table", spark._jvm
    write(spark, path)
    log = jvm.org.apache.spark.sql.delta.DeltaLog.forTable(spark._jsparkSession, str(path))
    statistics = getattr(jvm, "org.apache.spark.sql.delta.stats.StatisticsCollection")
    defaults = [getattr(statistics, f"recompute$default${number}")() for number in (4, 5)]
    statistics.recompute(spark._jsparkSession, log, jvm.scala.Option.empty(), *defaults)  # ANALYZE where SQL has it
    assert latest(spark, path) == 1
    assert [commit.version for commit in delta.commits(spark, str(path))] == [0]


def test_purging_deleted_rows_does_not_count(spark: Any, tmp_path: Path) -> None:
    path = tmp_path / "table"
    write(spark, path)
    properties = "'delta.enableDeletionVectors' = 'true'"
    spark.sql(statement(path, f"ALTER TABLE {{table}} SET TBLPROPERTIES ({properties})"))
    spark.sql(statement(path, "DELETE FROM {table} WHERE number = 2"))
    spark.sql(statement(path, "REORG TABLE {table} APPLY (PURGE)"))
    assert latest(spark, path) == 3
    assert [commit.version for commit in delta.commits(spark, str(path))] == [2, 0]


def test_a_commit_that_changes_rows_or_columns_counts(spark: Any, tmp_path: Path) -> None:
    path = tmp_path / "table"
    write(spark, path)
    for text in CHANGE_ROWS:
        before = [commit.version for commit in delta.commits(spark, str(path))]
        spark.sql(statement(path, text))
        assert [commit.version for commit in delta.commits(spark, str(path))] == [before[0] + 1, *before], text


def test_a_mark_counts_and_a_user_s_property_after_it_does_not(spark: Any, tmp_path: Path) -> None:
    path = tmp_path / "my `table`"
    write(spark, path)
    delta.mark(spark, str(path), name="key", value="k1", user_metadata='{"key": "k1"}')
    marked = delta.newest_commit(spark, str(path))
    assert marked[:2] == (1, '{"key": "k1"}')
    version = runs.input_version(spark, str(path))
    spark.conf.set("spark.databricks.delta.commitInfo.userMetadata", '{"job": "nightly"}')  # a cluster's own
    try:
        quoted = str(path).replace("`", "``")
        spark.sql(f"ALTER TABLE delta.`{quoted}` SET TBLPROPERTIES ('team' = 'search')")
    finally:
        spark.conf.unset("spark.databricks.delta.commitInfo.userMetadata")
    assert delta.newest_commit(spark, str(path)) == marked
    assert runs.input_version(spark, str(path)) == version


def test_the_version_of_an_input_is_that_of_its_rows(spark: Any, tmp_path: Path) -> None:
    path = tmp_path / "docs"
    write(spark, path)
    before = InputTable.current(spark, str(path)).version()
    spark.sql(statement(path, "ALTER TABLE {table} SET TBLPROPERTIES ('team' = 'search')"))
    spark.sql(statement(path, "ALTER TABLE {table} ALTER COLUMN text COMMENT 'the text'"))
    assert InputTable.current(spark, str(path)).version() == before
    write(spark, path)
    assert InputTable.current(spark, str(path)).version() != before


def test_a_version_is_read_although_its_own_files_are_vacuumed(spark: Any, tmp_path: Path) -> None:
    path = tmp_path / "table"
    write(spark, path)
    write(spark, path)
    spark.sql(statement(path, "OPTIMIZE {table}"))
    spark.conf.set("spark.databricks.delta.retentionDurationCheck.enabled", "false")
    spark.sql(statement(path, "VACUUM {table} RETAIN 0 HOURS"))
    spark.conf.unset("spark.databricks.delta.retentionDurationCheck.enabled")
    write(spark, path)
    last = latest(spark, path)

    def n_rows(version: int | None) -> int:
        return len(delta.read(spark, str(path), version=version).collect())

    assert (n_rows(None), n_rows(last), n_rows(1)) == (18, 18, 12)
    with pytest.raises(
        Exception, match="FILE_NOT_EXIST"
    ):  # of the files before the second append, which OPTIMIZE replaced
        n_rows(0)
    with pytest.raises(DataError, match=f"table: version 99 not found; the table's history has versions 0 to {last}$"):
        n_rows(99)
    with pytest.raises(DataError, match="nowhere: table not found; create it with `betr-spark run`"):
        delta.read(spark, str(tmp_path / "nowhere"))


@pytest.mark.parametrize("commit_info", ["first", "last"])  # Delta's writers put it first; the protocol leaves it open
def test_the_history_is_delta_s_own(spark: Any, tmp_path: Path, commit_info: str) -> None:
    path = tmp_path / "table"
    write_deltalake(
        path,
        pa.table({"number": pa.array([1], pa.int32()), "text": ["t"]}),
        commit_properties=CommitProperties(custom_metadata={"userMetadata": "u1"}),
    )
    write(spark, path, mode="overwrite")
    spark.sql(statement(path, KEEP_ROWS[0]))
    expected = [(2, "SET TBLPROPERTIES", ""), (1, "WRITE", '{"run_id": "r1"}'), (0, "WRITE", "u1")]
    if commit_info == "last":
        file = path / f"_delta_log/{1:020d}.json"
        first, *others = file.read_text(encoding="utf-8").splitlines()
        file.write_text("\n".join([*others, first]) + "\n", encoding="utf-8")
        (path / f"_delta_log/.{1:020d}.json.crc").unlink()
    history = list(delta_log._history(spark, str(path)))
    assert [(each.version, each.name, each.user_metadata) for each in history] == expected
    assert [row[:2] for row in statement_rows(spark, path)] == [each[:2] for each in expected]
    assert delta.newest_version(spark, str(path)) == 2
    assert (delta.newest_version(spark, str(tmp_path)), list(delta.commits(spark, str(tmp_path)))) == (-1, [])


def statement_rows(spark: Any, path: Path) -> list[Any]:
    return spark.sql(statement(path, "DESCRIBE HISTORY {table}")).select("version", "operation").collect()


def test_reading_the_history_starts_no_job(spark: Any, documents: Path) -> None:
    spark.sparkContext.setJobGroup("history", "history")
    try:
        assert len(list(delta.commits(spark, str(documents)))) > 0
        assert list(spark.sparkContext.statusTracker().getJobIdsForGroup("history")) == []
    finally:
        spark.sparkContext.setLocalProperty("spark.jobGroup.id", None)


def test_an_empty_table_that_stays_empty_gets_a_commit(spark: Any, tmp_path: Path) -> None:
    path = str(tmp_path / "table")
    for version in range(3):
        delta.overwrite(spark.createDataFrame([], "n int"), path, user_metadata=f"run {version}")
        assert (delta.newest_commit(spark, path) or ())[:2] == (version, f"run {version}")
    assert spark.conf.get("spark.databricks.delta.skipRecordingEmptyCommits") == "true"


def newest_file(path: Path) -> Path:
    return sorted((path / "_delta_log").glob("*.json"))[-1]


@pytest.mark.parametrize(("kept", "checksum"), [(0.0, False), (0.5, True), (0.98, False)])
def test_a_newest_commit_that_is_not_whole_is_named(spark: Any, tmp_path: Path, kept: float, checksum: bool) -> None:
    for _ in range(2):
        write(spark, tmp_path / "table")
    file = newest_file(tmp_path / "table")
    file.write_bytes(file.read_bytes()[: int(kept * file.stat().st_size)])
    if not checksum:
        file.with_name(f".{file.name}.crc").unlink()
    shutil.copytree(tmp_path / "table", tmp_path / "copy")  # of the table itself, Delta remembers the commit
    path = str(tmp_path / "copy")
    for look in (delta.read, delta.newest_commit, runs.made_by, runs.input_version):
        with pytest.raises(DataError, match=rf"^{path}/_delta_log/{file.name}: damaged: .*restore it from a copy; .*"):
            look(spark, path)


def test_an_earlier_commit_that_is_not_whole_is_named(spark: Any, tmp_path: Path) -> None:
    for _ in range(2):
        write(spark, tmp_path / "table")
    file = tmp_path / "table/_delta_log/00000000000000000000.json"
    file.with_name(f".{file.name}.crc").unlink()
    file.write_bytes(file.read_bytes()[:50])
    shutil.copytree(tmp_path / "table", tmp_path / "copy")
    with pytest.raises(DataError, match=rf"^{tmp_path}/copy/_delta_log/{file.name}: damaged: "):
        list(delta.commits(spark, str(tmp_path / "copy")))
