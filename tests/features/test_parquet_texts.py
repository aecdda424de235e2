"""Texts that Python workers read: the same tables as when Spark reads them, whatever the files look like."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from betr_spark.config import Config
from betr_spark.corpus.parquet_texts import TEXT_ROW, TextColumn, TextsNotReadError
from betr_spark.corpus.snapshot import InputSnapshot
from betr_spark.features.outcome import FeaturesMetrics
from betr_spark.features.stage import Features
from betr_spark.pipeline.runner import run_stages
from betr_spark.pipeline.stage import RunContext
from betr_spark.storage import delta

TEXTS = [None, "", "a b", "日本語 テキスト", "x" * 3000, "word " * 300, "ünï cödé", "\x00 zero", "last one"]


def config_of(tmp_path: Path, **source: Any) -> Config:
    scorers = {"seen": {"kind": "expression", "column": "seen"}}
    settings = {"path": str(tmp_path / "docs"), "id": "id", "max_text_bytes": 2000, **source}
    return Config.model_validate({"input": settings, "output": str(tmp_path / "out"), "scorers": scorers})


def write(path: Path, n: int, *, text: pa.Array | None = None, ids: str = "", **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    names = [f"{ids or path.stem} {i}" if i % 11 else None for i in range(n)]
    texts = pa.array([TEXTS[i % len(TEXTS)] for i in range(n)], pa.string()) if text is None else text
    seen = pa.array(np.arange(n, dtype=np.float64))
    pq.write_table(pa.table({"text": texts, "id": names, "seen": seen}), path, **options)


def tables(spark: Any, config: Config) -> dict[str, list[Any]]:
    run_stages(RunContext(spark, config), [Features()])
    found = {}
    for name in ("features", "quarantine"):
        rows = delta.read(spark, config.table(name)).collect()
        found[name] = sorted(tuple(map(repr, row)) for row in rows)
    return found


def odd_files(folder: Path) -> None:
    write(folder / "small.parquet", 5)
    write(folder / "several groups.parquet", 100, row_group_size=7, compression="zstd")
    write(folder / "pages.parquet", 9_000, data_page_size=500, row_group_size=5_000, ids="p")
    write(folder / "100% #1 [a]{b} é.parquet", 20, ids="q")
    write(folder / "k=v" / "nested.parquet", 30, use_dictionary=False, version="1.0", ids="n")
    write(folder / "empty.parquet", 0)
    binary = pa.array([b"plain", b"\xff\xfe broken", "grün".encode(), None], pa.binary())
    write(folder / "binary.parquet", 4, text=binary, ids="b")
    write(folder / "large.parquet", 3, text=pa.array(["l one", "l two", None], pa.large_string()), ids="l")


def test_tables_equal_those_of_spark(spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd_files(tmp_path / "docs")
    config = config_of(tmp_path)
    assert InputSnapshot.current(spark, config).text_column() == TextColumn("text", 2000)
    by_python = tables(spark, config)
    shutil.rmtree(tmp_path / "out")
    monkeypatch.setattr(InputSnapshot, "text_column", lambda _: None)
    assert tables(spark, config) == by_python
    assert len(by_python["features"]) > 6_000
    assert {"null_id", "null_text", "text_too_long", "invalid_utf8"} == {
        eval(row[1]) for row in by_python["quarantine"]
    }


def test_an_increment_with_bad_rows_is_added(spark: Any, tmp_path: Path) -> None:
    config = config_of(tmp_path)
    write(tmp_path / "docs/one.parquet", 30)
    first = tables(spark, config)
    write(tmp_path / "docs/two.parquet", 30)
    second = tables(spark, config)
    assert [len(second[name]) for name in second] == [2 * len(first[name]) for name in first]
    assert set(first["quarantine"]) < set(second["quarantine"])


def test_spark_reads_what_arrow_cannot(spark: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = pa.array(["one", "two", "one"]).dictionary_encode()  # Arrow reads its own type back
    write(tmp_path / "docs/a.parquet", 3, text=text)
    config = config_of(tmp_path)
    with caplog.at_level("INFO"):
        assert len(tables(spark, config)["features"]) == 2
    (line,) = [record.getMessage() for record in caplog.records if "Arrow cannot" in record.getMessage()]
    assert line.startswith("features: Spark reads the texts, because Arrow cannot: file:")
    assert "dictionary" in line


def test_rows_of_batches_before_the_one_that_arrow_cannot_read_are_counted(spark: Any, tmp_path: Path) -> None:
    write(tmp_path / "docs/a.parquet", 5)
    write(tmp_path / "docs/b.parquet", 3, text=pa.array(["one", "two", "one"]).dictionary_encode())
    config = config_of(tmp_path, max_batch_bytes=1)
    (run,) = run_stages(RunContext(spark, config), [Features()])
    assert run.metrics_as(FeaturesMetrics).rows_new == run.rows_in == 8


@pytest.mark.parametrize("source", [{"id": None}, {"format": "json"}, {"text": "meta.body"}])
def test_spark_reads_other_inputs(spark: Any, tmp_path: Path, source: dict[str, Any]) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    if source.get("format") == "json":
        (folder / "a.jsonl").write_text('{"id": "a", "text": "b", "seen": 1}\n')
    else:
        columns = {"id": ["a"], "text": ["b"], "seen": [1.0], "meta": [{"body": "c"}]}
        pq.write_table(pa.table(columns), folder / "a.parquet")
    assert InputSnapshot.current(spark, config_of(tmp_path, **source)).text_column() is None


def batch(path: Path, rows: list[int]) -> pa.RecordBatch:
    n = len(rows)
    columns = {
        TEXT_ROW: pa.array(rows, pa.int64()),
        "input_file": [path.as_uri()] * n,
        "reason": pa.nulls(n, pa.string()),
    }
    return pa.RecordBatch.from_pydict(columns)


@pytest.mark.parametrize("rows", [[0], [2, 3, 4], [0, 5, 6, 40, 99], [*range(100)], [99, 0, 50, 49], [30, 31, 29]])
def test_any_rows_of_a_file_are_found(tmp_path: Path, rows: list[int]) -> None:
    texts = [f"text {i} " * (i % 5 * 500) for i in range(100)]
    write(tmp_path / "a.parquet", 100, text=pa.array(texts), row_group_size=30)
    write(tmp_path / "b.parquet", 100, text=pa.array(texts[::-1]), row_group_size=100)
    ascending = sorted(rows)
    batches = [batch(tmp_path / name, part) for part in ([*rows], ascending) for name in ("a.parquet", "b.parquet")]
    if rows != ascending:  # each batch is ascending
        batches = [batch(tmp_path / "a.parquet", [row]) for row in rows]
    found = [
        text for piece in TextColumn("text", 10**6).read(iter(batches)) for text in piece.column("text").to_pylist()
    ]
    if rows != ascending:
        assert found == [texts[row] for row in rows]
    else:
        assert found == [(texts if name == "a" else texts[::-1])[row] for name in "abab" for row in rows]


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(TextsNotReadError, match="gone x.parquet: .*No such file"):
        list(TextColumn("text", 10).read(iter([batch(tmp_path / "gone x.parquet", [0])])))
    write(tmp_path / "a.parquet", 3)
    with pytest.raises(TextsNotReadError, match="a.parquet: "):
        list(TextColumn("body", 10).read(iter([batch(tmp_path / "a.parquet", [0])])))


def test_pieces_stay_small_where_a_dictionary_hides_the_size_of_texts(tmp_path: Path) -> None:
    texts = ["x" * 60_000 * (i % 3) for i in range(3000)]
    write(tmp_path / "a.parquet", 3000, text=pa.array(texts, pa.string()), row_group_size=3000)
    found, sizes = [], []
    for piece in TextColumn("text", 10**6).read(iter([batch(tmp_path / "a.parquet", [*range(3000)])])):
        found += piece.column("text").to_pylist()
        sizes.append(piece.column("text").nbytes)
    assert found == texts
    assert sizes[0] > 2**25 > 2 * max(sizes[1:])
