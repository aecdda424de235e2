"""What a snapshot pins: the files of one listing, the files or the table version that `features` scored."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mmh3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from betr_spark.config import Config
from betr_spark.corpus import files, listing
from betr_spark.corpus.content_hash import with_content_hash
from betr_spark.corpus.listing import FILE, FileFilter
from betr_spark.corpus.snapshot import InputSnapshot
from betr_spark.errors import DataError
from betr_spark.schemas import FEATURES
from betr_spark.storage import delta, hadoop_files


def write(folder: Path, name: str, ids: str, **columns: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.parquet"
    pq.write_table(pa.table({"id": [*ids], "text": [f"text {letter}" for letter in ids], **columns}), path)
    return path


def configured(tmp_path: Path, **source: Any) -> Config:
    values = {
        "input": {"path": str(tmp_path / "docs"), "id": "id", **source},
        "output": str(tmp_path / "out"),
        "scorers": {},
    }
    return Config.model_validate(values)


def ids(snapshot: InputSnapshot) -> str:
    return "".join(sorted(row["doc_id"] for row in snapshot.documents().collect()))


def as_scored(spark: Any, config: Config) -> None:
    """Say in the tables of the output what `features` says after it has scored the input as it is now."""
    snapshot = InputSnapshot.current(spark, config)
    metadata: dict[str, Any] = {"input_version": None}
    if config.input.format == "delta":
        metadata = {"input_version": snapshot.content.number, "input_table": snapshot.content.table_id}
    else:
        about = json.dumps(snapshot.content.to_metadata())
        delta.overwrite(snapshot.content.inventory, config.table("_inputs"), user_metadata=about)
        metadata = {"input_version": delta.newest_version(spark, config.table("_inputs"))}
    delta.overwrite(spark.createDataFrame([], FEATURES), config.table("features"), user_metadata=json.dumps(metadata))


def test_files_that_come_after_the_listing_are_not_read(spark: Any, tmp_path: Path) -> None:
    config = configured(tmp_path)
    write(tmp_path / "docs", "one", "ab")
    snapshot = InputSnapshot.current(spark, config)
    version = snapshot.version
    write(tmp_path / "docs", "two", "cd")
    assert ids(snapshot) == "ab"
    assert snapshot.ids().count() == 2
    later = InputSnapshot.current(spark, config)
    assert ids(later) == "abcd"
    assert later.version != version == InputSnapshot.version.func(snapshot)  # type: ignore[attr-defined]


def test_files_that_were_only_added_are_left_out_of_what_was_scored(
    spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(tmp_path, columns=["n"])
    for name, letters in (("one", "ab"), ("sp ace", "cd"), ("größe", "ef")):
        write(tmp_path / "docs", name, letters, n=[1, 2])
    as_scored(spark, config)
    assert ids(InputSnapshot.scored(spark, config)) == "abcdef"
    write(tmp_path / "docs", "late", "xy", n=["not", "a number"])
    scored = InputSnapshot.scored(spark, config)
    assert ids(scored) == "abcdef"
    assert [row["n"] for row in scored.documents(carried=True).collect()].count(1) == 3
    file = next(row[FILE] for row in scored.content.inventory.collect() if "ace" in row[FILE])
    assert sorted(row["doc_id"] for row in scored.documents(only_files=[file]).collect()) == ["c", "d"]
    monkeypatch.setattr(listing, "_MAX_NAMED", 2)  # one file to leave out, three to read
    assert ids(InputSnapshot.scored(spark, config)) == "abcdef"
    monkeypatch.setattr(listing, "_MAX_NAMED", 0)  # both lists are long
    assert ids(InputSnapshot.scored(spark, config)) == "abcdef"


def test_a_condition_on_files_opens_no_other_file(spark: Any, tmp_path: Path) -> None:
    config = configured(tmp_path)
    for letter in "abcd":
        write(tmp_path / "docs", letter, letter)
    snapshot = InputSnapshot.current(spark, config)
    content = snapshot.content
    chosen = content.inventory.where(f"{FILE} LIKE '%b.parquet'")
    only = FileFilter.of(content.inventory, chosen)
    assert only is not None
    assert (len(only.names or ()), only.listed) == (1, True)  # the shorter list
    narrow = snapshot.documents(only_files=only.names)
    assert [row["doc_id"] for row in narrow.collect()] == ["b"]
    scan = narrow._jdf.queryExecution().executedPlan().collectLeaves().head()
    assert scan.metrics().apply("numFiles").value() == 1


def test_scored_files_that_changed_are_named(spark: Any, tmp_path: Path) -> None:
    config = configured(tmp_path)
    paths = [write(tmp_path / "docs", f"f{n}", f"{n}") for n in range(6)]
    as_scored(spark, config)
    write(tmp_path / "docs", "f0", "qq")
    with pytest.raises(DataError) as caught:
        InputSnapshot.scored(spark, config)
    assert str(caught.value) == (
        f"input.path: {tmp_path}/docs: 1 file was changed or deleted since `features` scored it: "
        f"file:{paths[0]}; run `betr-spark features`"
    )
    for path in paths[1:5]:
        path.unlink()
    with pytest.raises(DataError) as caught:
        InputSnapshot.scored(spark, config)
    names = ", ".join(f"file:{path}" for path in paths[:3])
    assert str(caught.value) == (
        f"input.path: {tmp_path}/docs: 5 files were changed or deleted since `features` scored them: "
        f"{names}, ...; run `betr-spark features`"
    )


def test_without_features_there_is_no_scored_input(spark: Any, tmp_path: Path) -> None:
    config = configured(tmp_path)
    write(tmp_path / "docs", "one", "ab")
    with pytest.raises(DataError, match="features: does not say which input was scored; run `betr-spark features`"):
        InputSnapshot.scored(spark, config)


def test_files_that_were_scored_are_not_opened_again(
    spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(tmp_path)
    write(tmp_path / "docs", "one", "ab", x=pa.nulls(2))
    write(tmp_path / "docs", "two", "cd", x=[1, 2])
    as_scored(spark, config)
    write(tmp_path / "docs", "three", "ef", x=[3, 4])
    opened: list[str] = []
    layouts_of: Callable[..., dict[str, str]] = files.layouts_of

    def counting(names: list[str], look: Any) -> dict[str, str]:
        opened.extend(names)
        return layouts_of(names, look)

    monkeypatch.setattr(files, "layouts_of", counting)
    carried = configured(tmp_path, columns=["x"])  # named only now; the layouts have all columns
    rows = InputSnapshot.current(spark, carried).documents(carried=True).collect()
    assert {row["doc_id"]: row["x"] for row in rows} == {"a": None, "b": None, "c": 1, "d": 2, "e": 3, "f": 4}
    assert [Path(name).name for name in opened] == ["three.parquet"]


def test_a_delta_table_is_read_at_the_version_that_was_scored(spark: Any, tmp_path: Path) -> None:
    config = configured(tmp_path, format="delta")
    path = config.input.path

    def add(*rows: tuple[str, str]) -> None:
        spark.createDataFrame(rows, "id string, text string").write.format("delta").mode("append").save(path)

    add(("a", "text a"), ("b", "text b"))
    snapshot = InputSnapshot.current(spark, config)
    as_scored(spark, config)
    version = snapshot.version
    spark.sql(f"OPTIMIZE delta.`{path}`")
    assert InputSnapshot.current(spark, config).version == version
    add(("c", "text c"))
    spark.sql(f"UPDATE delta.`{path}` SET text = 'other' WHERE id = 'a'")
    assert ids(snapshot) == "ab"
    scored = InputSnapshot.scored(spark, config)
    assert {row["doc_id"]: row["text"] for row in scored.documents().collect()} == {"a": "text a", "b": "text b"}
    assert InputSnapshot.current(spark, config).version != version
    spark.conf.set("spark.databricks.delta.retentionDurationCheck.enabled", "false")
    spark.sql(f"VACUUM delta.`{path}` RETAIN 0 HOURS")
    spark.conf.unset("spark.databricks.delta.retentionDurationCheck.enabled")
    with pytest.raises(DataError, match="version 0 of the table, which `features` scored, does not exist any more"):
        InputSnapshot.scored(spark, config)


def test_the_content_hash_is_that_of_features(spark: Any) -> None:
    texts = ["", "one two", "größe \0 漢字" * 9, None]
    frame = spark.createDataFrame([(str(n), text) for n, text in enumerate(texts)], "doc_id string, text string")
    rows = with_content_hash(frame).orderBy("doc_id").collect()
    assert [row["content_hash"] for row in rows] == [
        None if text is None else mmh3.hash_bytes(text.encode(), 0, x64arch=True) for text in texts
    ]


def test_a_listing_has_one_fingerprint_with_and_without_a_job(
    spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, name in (("docs/a b%20c", "é=ü"), ("docs", "x+y #1"), ("docs/2024", "日本"), ("docs", "plain")):
        write(tmp_path / folder, name, "ab")
    os.utime(tmp_path / "docs/plain.parquet", (-1.5, -1.5))
    for name in ("empty.parquet", "_metadata", "_common_metadata", "_SUCCESS", ".hidden", "_a=1.parquet"):
        (tmp_path / "docs" / name).write_bytes(b"" if name == "empty.parquet" else b"PAR1")
    listed = listing.Listing.of(spark, str(tmp_path / "docs"))
    scheduler = spark.sparkContext._jsc.sc().dagScheduler()
    before = scheduler.nextJobId()
    digest = listed.fingerprint()
    assert scheduler.nextJobId() == before
    assert digest.startswith("5 files, ")
    assert digest == hadoop_files.fingerprint(listed.files)
    monkeypatch.setattr(listing, "_MAX_WITHOUT_JOB", 3)
    assert listed.fingerprint() == digest
    assert scheduler.nextJobId() > before
