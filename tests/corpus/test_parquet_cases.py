"""Parquet inputs as users have them: columns that nobody asked for, odd types, old writers, partition folders."""

import datetime as dt
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from betr_spark.config import InputConfig
from betr_spark.corpus.snapshot import InputSnapshot
from betr_spark.errors import DataError, SchemaError

NANOSECONDS = pa.array([dt.datetime(2024, 1, 1, tzinfo=dt.UTC)] * 2, pa.timestamp("ns", tz="UTC"))


def write(path: Path, *, ids: Any = ("a", "b"), text: Any = ("text one", "text two"), **columns: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"compression": columns.pop("compression")} if "compression" in columns else {}
    pq.write_table(pa.table({"id": ids, "text": text, **columns}), path, **options)
    return path


def resolved(spark: Any, path: Path, **source: Any) -> InputSnapshot:
    return InputSnapshot.resolve(spark, InputConfig(path=str(path), **{"id": "id", **source}))


def documents(spark: Any, path: Path, **source: Any) -> dict[str, Any]:
    rows = resolved(spark, path, **source).documents(carried=True).collect()
    return {row["doc_id"]: row for row in rows}


def problem(spark: Any, path: Path, **source: Any) -> str:
    with pytest.raises((DataError, SchemaError)) as caught:
        resolved(spark, path, **source)
    lines = str(caught.value).splitlines()
    assert len(lines) == 1, lines
    return lines[0].replace(f"{path}/", "").replace(f"file:{path.parent}/", "")


def test_columns_that_nobody_asked_for_do_not_matter(spark: Any, tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", crawled=NANOSECONDS, _metadata=["x", "y"], n=pa.nulls(2), ID2=[1, 2])
    write(tmp_path / "b.parquet", ids=["c", "d"], crawled=["never"] * 2, n=["s", "t"], ID2=[0.5, 1.5])
    rows = documents(spark, tmp_path)
    assert {doc: row["text"] for doc, row in rows.items()} == dict(
        zip("abcd", ["text one", "text two"] * 2, strict=True)
    )


def test_only_used_columns_are_in_the_scan(spark: Any, tmp_path: Path) -> None:
    html = pa.array([{"raw": "<p>", "title": "t"}] * 2)
    write(tmp_path / "a.parquet", html=html, url=["u", "v"], site=["s", "t"], score=[0.5, 1.5])
    snapshot = InputSnapshot.resolve(
        spark,
        InputConfig(path=str(tmp_path), id="id", source="html.title", columns=["url"]),
        numbers={"q": "score"},
    )

    def read(plan: Any) -> str:
        # Spark adds a number of the row, which no file has, where the name of the file is not used in the end.
        schema = str(plan).split("ReadSchema: ", 1)[1].splitlines()[0]
        return schema.replace(",_tmp_metadata_row_index:bigint", "")

    def scanned(frame: Any) -> str:
        return read(frame._jdf.queryExecution().executedPlan().toString())

    of_the_pass = "struct<text:string,id:string,score:double,html:struct<title:string>>"
    assert scanned(snapshot.documents(leave_utf8=True, numbers=True)) == of_the_pass
    assert scanned(snapshot.documents().select("doc_id", "text")) == "struct<text:string,id:string>"
    assert scanned(snapshot.ids()) == "struct<id:string>"
    carried = snapshot.documents(carried=True).select("doc_id", "text", "url").where("reason is null")
    assert scanned(carried) == "struct<text:string,id:string,url:string>"
    rows: list[Any] = []
    query = (
        snapshot.stream()
        .writeStream.foreachBatch(lambda batch, _: rows.extend(sorted(batch.collect())))
        .trigger(availableNow=True)
        .option("checkpointLocation", str(tmp_path / "_checkpoint"))
        .start()
    )
    query.awaitTermination()
    assert read(query._jsq.explainInternal(False)) == of_the_pass
    assert [(row["doc_id"], row["source"], row["logit_q"]) for row in rows] == [("a", "t", 0.5), ("b", "t", 1.5)]


def test_a_timestamp_with_nanoseconds_is_refused_by_name_if_it_is_carried(spark: Any, tmp_path: Path) -> None:
    struct = pa.array(
        [{"at": dt.datetime(2024, 1, 1, tzinfo=dt.UTC), "lang": "en"}] * 2,
        pa.struct({"at": pa.timestamp("ns"), "lang": pa.string()}),
    )
    write(tmp_path / "a.parquet", crawled=NANOSECONDS, meta=struct)
    line = problem(spark, tmp_path, columns=["crawled"])
    assert line.startswith("input.columns: file:a.parquet: column 'crawled' is a timestamp with nanoseconds")
    assert problem(spark, tmp_path, columns=["meta.at"]).startswith(
        "input.columns: file:a.parquet: column 'meta.at' is a"
    )
    assert [row["lang"] for row in documents(spark, tmp_path, columns=["meta.lang"]).values()] == ["en", "en"]


@pytest.mark.parametrize("use", ["unused", "source", "carried"])
def test_a_column_of_the_name_of_spark_s_hidden_one(spark: Any, tmp_path: Path, use: str) -> None:
    write(tmp_path / "a.parquet", _metadata=["x", "y"], text=["text one", None])
    source = {"unused": {}, "source": {"source": "_metadata"}, "carried": {"columns": ["_metadata"]}}[use]
    rows = documents(spark, tmp_path, **source)
    assert rows["b"]["input_file"].endswith("a.parquet")
    if use != "unused":
        assert rows["a"]["source" if use == "source" else "_metadata"] == "x"


def test_binary_columns_without_an_annotation_are_utf8(spark: Any, tmp_path: Path) -> None:
    text = pa.array(["größe".encode(), b"\xff\xfe"], pa.binary())
    write(tmp_path / "a.parquet", ids=pa.array([b"a", b"b"]), text=text, site=pa.array([b"s", b"t"]))
    write(tmp_path / "b.parquet", ids=["c", "d"], text=["x", "y"], site=["u", "v"])
    rows = documents(spark, tmp_path, source="site")
    assert [rows[doc]["text"] for doc in "abc"] == ["größe", None, "x"]
    assert (rows["b"]["reason"], rows["a"]["source"], rows["c"]["source"]) == ("invalid_utf8", "s", "u")


def test_a_column_without_a_type_takes_that_of_other_files(spark: Any, tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", x=pa.nulls(2), y=[1, 2])
    write(tmp_path / "b.parquet", ids=["c", "d"], x=["s", "t"], y=[3, 4])
    write(tmp_path / "c.parquet", ids=["e", "f"], x=["u", "v"], y=pa.nulls(2))
    rows = documents(spark, tmp_path, columns=["x", "y"])
    assert {doc: (row["x"], row["y"]) for doc, row in rows.items()} == {
        "a": (None, 1), "b": (None, 2), "c": ("s", 3), "d": ("t", 4), "e": ("u", None), "f": ("v", None),
    }  # fmt: skip
    for use in ({"source": "x"}, {"id": "x"}, {"text": "x"}):
        assert "a.parquet: column 'x' has no type, because all its values are null" in problem(spark, tmp_path, **use)
    only = write(tmp_path / "only/a.parquet", x=pa.nulls(2)).parent
    assert [row["x"] for row in documents(spark, only, columns=["x"]).values()] == [None, None]


def test_types_that_differ_among_files_are_widened(spark: Any, tmp_path: Path) -> None:
    first = {
        "n": pa.array([1, 2], pa.int32()),
        "x": pa.array([0.5, 1.5], pa.float32()),
        "d": pa.array([Decimal("1.5")] * 2),
    }
    second = {"n": pa.array([2**40, 4], pa.int64()), "x": [2.1, 3.5], "d": pa.array([Decimal("12345.678")] * 2)}
    nested = [pa.array([{"a": 1}] * 2, pa.struct({"a": pa.int32()})), pa.array([{"a": 2**40, "b": "z"}] * 2)]
    write(tmp_path / "a.parquet", ids=pa.array([1, 2], pa.int16()), s=nested[0], **first)
    write(tmp_path / "b.parquet", ids=pa.array([3, 2**40], pa.int64()), s=nested[1], **second)
    rows = documents(spark, tmp_path, columns=["n", "x", "d", "s"])
    assert {doc: (row["n"], row["x"], row["d"], tuple(row["s"])) for doc, row in rows.items()} == {
        "1": (1, 0.5, Decimal("1.5"), (1, None)), "2": (2, 1.5, Decimal("1.5"), (1, None)),
        "3": (2**40, 2.1, Decimal("12345.678"), (2**40, "z")), str(2**40): (4, 3.5, Decimal("12345.678"), (2**40, "z")),
    }  # fmt: skip


def test_integers_without_a_sign_are_ids(spark: Any, tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", ids=pa.array([1, 2**64 - 1], pa.uint64()))
    write(tmp_path / "b.parquet", ids=pa.array([7, 2**62], pa.int64()))
    assert set(documents(spark, tmp_path)) == {"1", str(2**64 - 1), "7", str(2**62)}


def test_a_codec_that_spark_has_not_is_found_with_the_file(spark: Any, tmp_path: Path) -> None:
    write(tmp_path / "a.parquet")
    write(tmp_path / "b.parquet", ids=["c", "d"], compression={"id": "zstd", "text": "brotli"})
    line = problem(spark, tmp_path)
    assert "input.path: file:b.parquet: compressed with BROTLI, which Spark cannot read here" in line
    assert "write the file with zstd or snappy" in line
    assert set(documents(spark, tmp_path, text="id")) == set("abcd")  # the column alone has this codec
    write(tmp_path / "b.parquet", ids=["c", "d"], compression="brotli")
    assert "compressed with BROTLI" in problem(spark, tmp_path)  # one line for both columns


def test_folders_give_values_as_they_are_written(spark: Any, tmp_path: Path) -> None:
    write(tmp_path / "dump=007/lang=a%20b+c/x.parquet")
    write(tmp_path / "dump=008/lang=größe/x.parquet", ids=["c", "d"])
    write(tmp_path / "dump=008/lang=__HIVE_DEFAULT_PARTITION__/x y.parquet", ids=["e", "f"])
    expected = {
        **dict.fromkeys("ab", ("007", "a b+c")),
        **dict.fromkeys("cd", ("008", "größe")),
        **dict.fromkeys("ef", ("008", None)),
    }
    for path in (tmp_path, tmp_path / "dump=*", tmp_path / "dump=*/lang=*"):
        rows = documents(spark, path, source="dump", columns=["lang"])
        assert {doc: (row["source"], row["lang"]) for doc, row in rows.items()} == expected
    assert "no column 'dumb' in" in problem(spark, tmp_path, source="dumb")
    assert problem(spark, tmp_path, source="dumb").endswith("(did you mean 'dump'?)")


def test_a_reserved_name_is_carried_under_another(spark: Any, tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", rank=[1, 2], score=[0.5, 1.5])
    rows = documents(spark, tmp_path, columns={"input_rank": "rank", "quality": "score", "again": "score"})
    assert [rows["b"][name] for name in ("input_rank", "quality", "again")] == [2, 1.5, 1.5]


def test_dotted_names_reach_into_structs_and_backticks_quote(spark: Any, tmp_path: Path) -> None:
    doc = pa.array([{"text": "deep one", "meta": {"url": "u"}}, {"text": "deep two", "meta": None}])
    write(tmp_path / "a.parquet", doc=doc, **{"the.text": ["dotted", "dotted too"]})
    rows = documents(spark, tmp_path, text="doc.text", columns=["doc.meta.url"])
    assert [(row["text"], row["url"]) for row in rows.values()] == [("deep one", "u"), ("deep two", None)]
    assert documents(spark, tmp_path, text="`the.text`")["a"]["text"] == "dotted"
    assert problem(spark, tmp_path, text="the.text").endswith(
        "(a column has a dot in its name; write it as `the.text`)"
    )
    assert "column 'id' is string; a dotted name reaches into structs only" in problem(spark, tmp_path, source="id.x")


def test_names_that_differ_in_case_only_cannot_be_told_apart(spark: Any, tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", Text=["x", "y"], URL=["u", "v"])
    assert "columns 'text' and 'Text' differ only in case" in problem(spark, tmp_path)
    assert documents(spark, tmp_path, text="url", columns=["Url"])["a"]["Url"] == "u"


def test_a_delta_table_is_not_read_as_parquet(spark: Any, tmp_path: Path) -> None:
    spark.range(3).selectExpr("id", "'x' AS text").write.format("delta").save(str(tmp_path / "table"))
    for path in (tmp_path / "table", tmp_path / "table/*.parquet"):
        assert problem(spark, path).endswith("table is a Delta table; read it with input.format: delta")


def test_files_are_read_at_any_depth(spark: Any, tmp_path: Path) -> None:
    for number, place in enumerate(("", "shard_0/", "shard_1/deep/", "_hidden/", "shard_1/.hidden/")):
        write(tmp_path / place / "a.parquet", ids=[f"{number}a", f"{number}b"])
    assert sorted(documents(spark, tmp_path)) == ["0a", "0b", "1a", "1b", "2a", "2b"]


def test_a_giant_row_costs_no_more_than_what_is_kept_of_it(spark: Any, tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", ids=["big", "ok"], text=["\0" * 100_000_000, "fine"])
    rows = {row["doc_id"]: row for row in resolved(spark, tmp_path).documents(leave_utf8=True).collect()}
    assert (rows["big"]["reason"], rows["big"]["text"], rows["ok"]["text"]) == ("text_too_long", None, "fine")
    assert rows["big"]["row"] == ('{"text":"' + r"\u0000" * 10_000)[:10_000]


def test_the_quarantined_row_has_only_the_columns_that_are_read(spark: Any, tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", text=["x", None], url=["u", "v"], site=["s", "t"], html=["<p>"] * 2)
    rows = documents(spark, tmp_path, source="site", columns=["url"])
    assert rows["b"]["row"] == '{"id":"b","site":"t"}'


def test_all_unreadable_files_are_counted_and_the_first_ones_named(spark: Any, tmp_path: Path) -> None:
    whole = write(tmp_path / "a.parquet").read_bytes()
    for name in "bcdef":
        (tmp_path / f"{name}.parquet").write_bytes(whole[:-20])
    with pytest.raises(DataError) as caught:
        resolved(spark, tmp_path)
    lines = str(caught.value).splitlines()
    assert Counter(line.split(":")[0] for line in lines) == {"input.path": 4}
    assert [f"{name}.parquet: cannot be read (" in line for name, line in zip("bcd", lines, strict=False)] == [True] * 3
    assert lines[3] == "input.path: 2 more files cannot be read"


@pytest.mark.parametrize("name", ["[a", "{a", "a\\"])
def test_a_glob_that_is_not_one_is_said_in_one_line(spark: Any, tmp_path: Path, name: str) -> None:
    assert f"input.path: {name}: not a path or a glob (" in problem(spark, tmp_path / name).replace(f"{tmp_path}/", "")
