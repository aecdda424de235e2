"""JSON Lines as users have them: what parsers write, what tools compress, and lines that are no documents."""

import bz2
import gzip
import json
import logging
import lzma
from pathlib import Path
from typing import Any

import pytest
import zstandard

from betr_spark.config import InputConfig
from betr_spark.corpus import json_lines
from betr_spark.corpus.snapshot import InputSnapshot
from betr_spark.errors import DataError, SchemaError
from betr_spark.spark.error_messages import spark_error_line


def write(path: Path, *lines: str | dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("".join(f"{line}\n" for line in texts), encoding="utf-8")
    return path


def resolved(spark: Any, path: Path, *, numbers: dict[str, str] | None = None, **source: Any) -> InputSnapshot:
    config = InputConfig(path=str(path), format="json", **{"id": "id", **source})
    return InputSnapshot.resolve(spark, config, numbers=numbers)


def documents(spark: Any, path: Path, **source: Any) -> list[Any]:
    rows: list[Any] = resolved(spark, path, **source).documents(carried=True).collect()
    return rows


def test_the_last_of_repeated_keys_counts_and_numbers_that_are_none_do_not_matter(spark: Any, tmp_path: Path) -> None:
    write(
        tmp_path / "a.jsonl",
        '{"id":"twice","text":"first","text":"second","doc":{"u":1},"doc":{"u":2}}',
        '{"id":"nan","text":"four","score":NaN,"other":[Infinity,-Infinity]}',
        '\ufeff{"id":"bom","text":"five"}',
    )
    rows = documents(spark, tmp_path, columns=["doc.u"])
    assert [(row["doc_id"], row["text"], row["u"]) for row in rows] == [
        ("twice", "second", "2"), ("nan", "four", None), ("bom", "five", None),
    ]  # fmt: skip


def test_long_numbers_deep_nesting_and_integer_ids_are_whole(spark: Any, tmp_path: Path) -> None:
    deep = "[" * 1_100 + "]" * 1_100
    write(
        tmp_path / "a.jsonl",
        '{"id":338770000845734292534325025077361652240,"text":"one two"}',
        f'{{"id":12,"text":"three","n":{"7" * 1_200},"deep":{deep}}}',
        '{"id":3,"text":"a lone \\ud83d surrogate"}',
    )
    rows = documents(spark, tmp_path)
    assert [row["doc_id"] for row in rows] == ["338770000845734292534325025077361652240", "12", "3"]
    assert [row["reason"] for row in rows] == [None] * 3
    assert rows[2]["text"] == "a lone ? surrogate"  # Java's replacement


@pytest.mark.parametrize(
    ("line", "reason", "detail"),
    [
        ("{not json", "invalid_json", "the line is not one JSON object"),
        ('{"id":"a","text":"b"', "invalid_json", "the line is not one JSON object"),
        ('[{"id":"a","text":"b"}]', "invalid_json", "the line is not one JSON object"),
        ('{"id":"a","text":"b"}{"id":"c","text":"d"}', "invalid_json", "the line is not one JSON object"),
        ('{"id":"a","text":"b"},', "invalid_json", "the line is not one JSON object"),
        ('{"id":"a","text":"b"} trailing', "invalid_json", "the line is not one JSON object"),
        ("null", "invalid_json", "the line is not one JSON object"),
        ("{'id':'a','text':'b'}", "invalid_json", "the line is not one JSON object"),
        ('{"id":"a","text":7}', "text_not_a_string", "text is BIGINT"),
        ('{"id":"a","text":{"a":[1]}}', "text_not_a_string", "text is OBJECT<a: ARRAY<BIGINT>>"),
        ('{"id":"a","text":[]}', "text_not_a_string", "text is ARRAY<VOID>"),
        ('{"id":"a","text":true}', "text_not_a_string", "text is BOOLEAN"),
        ('{"id":"a","text":{"k":1,"k":2}}', "text_not_a_string", "text is not a string"),
        ('{"id":"a","text":null}', "null_text", "text is null"),
        ('{"id":"a"}', "null_text", "text is null"),
        ('{"text":"b"}', "null_id", "id is null or empty"),
        ('{"id":"","text":"b"}', "null_id", "id is null or empty"),
    ],
)
def test_a_line_that_cannot_be_used_says_why(spark: Any, tmp_path: Path, line: str, reason: str, detail: str) -> None:
    write(tmp_path / "a.jsonl", {"id": "good", "text": "x"}, line)
    good, bad = documents(spark, tmp_path)
    assert (good["doc_id"], good["reason"]) == ("good", None)
    assert (bad["reason"], bad["detail"], bad["row"], bad["text"]) == (reason, detail, line, None)


def test_strings_that_look_like_other_values_are_texts(spark: Any, tmp_path: Path) -> None:
    texts = ['{"a": 1}', "[1, 2]", "42", "-1.5e3", "true", "NaN", '"NaN"', "{not json}", "null"]
    write(tmp_path / "a.jsonl", *[{"id": str(n), "text": text} for n, text in enumerate(texts)])
    assert [row["text"] for row in documents(spark, tmp_path)] == texts


def test_dotted_names_reach_into_objects_and_backticks_quote(spark: Any, tmp_path: Path) -> None:
    write(
        tmp_path / "a.jsonl",
        {"id": "a", "doc": {"text": "deep", "meta": {"url": "u", "n": 1.5}}, "doc.text": "dotted", "text": "flat"},
        {"id": "b", "doc": "not an object", "text": "flat"},
    )
    first, second = documents(spark, tmp_path, text="doc.text", columns=["doc.meta.url", "doc.meta.n"])
    assert (first["text"], first["url"], first["n"]) == ("deep", "u", "1.5")
    assert (second["reason"], second["detail"]) == ("invalid_json", "the value of doc.text cannot be parsed")
    assert documents(spark, tmp_path, text="`doc.text`")[0]["text"] == "dotted"
    with pytest.raises(SchemaError, match="input.columns: 'doc' contains 'doc.text'"):
        resolved(spark, tmp_path, text="doc.text", columns=["doc"])
    write(tmp_path / "more/a.jsonl", {"id": "a", "x.y": "dotted"})
    with pytest.raises(SchemaError, match=r"a column has a dot in its name; write it as `x\.y`"):
        resolved(spark, tmp_path / "more", text="x.y")


def test_keys_that_come_after_the_first_lines_are_found(
    spark: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = [{"id": str(n), "text": "x"} for n in range(1_500)] + [
        {"id": "late", "text": "y", "url": "u", "q": 0.5, "doc": {"s": "t"}}
    ]
    write(tmp_path / "a.jsonl", *lines)
    with caplog.at_level(logging.WARNING, logger=json_lines.__name__):
        snapshot = resolved(spark, tmp_path, source="doc.s", columns=["url", "ulr"], numbers={"q": "q"})
    (late,) = snapshot.documents(carried=True, numbers=True).where("doc_id = 'late'").collect()
    assert (late["url"], late["ulr"], late["source"], late["logit_q"]) == ("u", None, "t", 0.5)
    (warning,) = caplog.messages
    assert warning.startswith("input.columns: no column 'ulr' in ")
    assert warning.endswith("; its values are null")
    with pytest.raises(SchemaError, match=r"input.text: no column 'txt' in .* \(did you mean 'text'\?\)"):
        resolved(spark, tmp_path, text="txt")


def test_folders_give_columns(spark: Any, tmp_path: Path) -> None:
    write(tmp_path / "dump=007/a.jsonl", {"id": "a", "text": "x"})
    write(tmp_path / "dump=008/b.jsonl", {"id": "b", "text": "x"})
    rows = documents(spark, tmp_path / "dump=*", source="dump")
    assert {row["doc_id"]: row["source"] for row in rows} == {"a": "007", "b": "008"}


def test_files_are_read_at_any_depth_and_jsonl_is_a_name_of_the_format(spark: Any, tmp_path: Path) -> None:
    for number, place in enumerate(("", "shard_0/", "shard_1/deep/")):
        write(tmp_path / place / "a.jsonl", {"id": str(number), "text": "x"})
    source = InputConfig(path=str(tmp_path), format="jsonl", id="id")
    rows = InputSnapshot.resolve(spark, source).documents().collect()
    assert sorted(row["doc_id"] for row in rows) == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("name", "pack", "message"),
    [
        ("b.jsonl.xz", lzma.compress, "xz data; Spark reads .gz, .bz2 and .zst"),
        ("b.jsonl.br", bytes, "files that end in .br cannot be read; Spark reads .gz"),
        ("b.jsonl", gzip.compress, "compressed with gzip; its name must end in .gz"),
        ("b.jsonl.gz", bytes, "not compressed with gzip, but its name says so"),
        ("b.jsonl", lambda text: text.decode().encode("utf-16"), "UTF-16 data"),
    ],
)
def test_a_file_that_cannot_be_decompressed_is_named(
    spark: Any, tmp_path: Path, name: str, pack: Any, message: str
) -> None:
    text = write(tmp_path / "a.jsonl", {"id": "a", "text": "x"}).read_bytes()
    (tmp_path / name).write_bytes(pack(text))
    with pytest.raises(DataError) as caught:
        resolved(spark, tmp_path)
    assert str(caught.value).startswith(f"input.path: file:{tmp_path}/{name}: {message}")
    assert "\n" not in str(caught.value)


def test_files_that_can_be_decompressed_are_read(spark: Any, tmp_path: Path) -> None:
    packs = {
        "a.jsonl": bytes,
        "b.gz": gzip.compress,
        "c.bz2": bz2.compress,
        "d.zst": zstandard.ZstdCompressor().compress,
    }
    for name, pack in packs.items():
        (tmp_path / name).write_bytes(pack(json.dumps({"id": name, "text": "x"}).encode()))  # type: ignore[operator]
    assert sorted(row["doc_id"] for row in documents(spark, tmp_path)) == sorted(packs)


def test_a_truncated_file_is_named_with_what_is_wrong(spark: Any, tmp_path: Path) -> None:
    whole = gzip.compress(
        "".join(json.dumps({"id": str(n), "text": f"text {n * n}"}) + "\n" for n in range(9_000)).encode()
    )
    (tmp_path / "b.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Exception, match="FAILED_READ_FILE") as caught:
        resolved(spark, tmp_path).documents().collect()
    line = spark_error_line(caught.value)
    assert line is not None
    assert line.endswith(f"{tmp_path}/b.jsonl.gz: cannot be read (truncated file: Unexpected end of input stream)")
