"""Documents in: three formats, ids, quarantine, sampling, and mistakes that are named."""

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from conftest import settings, write_config

from betr_spark.config import InputConfig, load_config
from betr_spark.corpus.documents import check_unique
from betr_spark.corpus.sampling import sample
from betr_spark.corpus.snapshot import InputSnapshot
from betr_spark.errors import DataError, SchemaError
from betr_spark.pipeline.check import problems

LINES = [
    {"id": 1, "text": "plain", "n": {"a": 1}},
    {"id": 2, "text": 5},
    {"id": 3, "text": None},
    {"id": None, "text": "no id"},
    {"id": 5, "text": "long " * 30},
    {"id": 6, "text": ""},
]


def write_lines(path: Path) -> None:
    content = ("".join(json.dumps(line) + "\n" for line in LINES) + "{not json\n\n[1]\n").encode()
    pack = {".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}.get(path.suffix, bytes)
    path.write_bytes(pack(content))


@pytest.mark.parametrize("name", ["docs.jsonl", "docs.jsonl.gz", "docs.jsonl.zst"])
def test_json_lines_rows_that_cannot_be_used_have_a_reason(spark: Any, tmp_path: Path, name: str) -> None:
    write_lines(tmp_path / name)
    source = InputConfig(path=str(tmp_path / name), format="json", id="id", columns={"n": "n"}, max_text_bytes=100)
    rows = InputSnapshot.resolve(spark, source).documents(carried=True).collect()
    assert Counter(row["reason"] for row in rows) == Counter(
        [None, None, "text_not_a_string", "null_text", "null_id", "text_too_long", "invalid_json", "invalid_json"]
    )
    good = {row["doc_id"]: row for row in rows if row["reason"] is None}
    assert (good["1"]["text"], good["1"]["n"], good["6"]["text"]) == ("plain", '{"a":1}', "")
    details = {row["detail"] for row in rows if row["reason"] in ("invalid_json", "text_not_a_string")}
    assert details == {"the line is not one JSON object", "text is BIGINT"}
    bad = next(row for row in rows if row["row"] == "{not json")
    assert bad["input_file"].endswith(name)
    assert all(row["text"] is None for row in rows if row["reason"])


def test_a_line_has_no_limit_but_that_of_the_text(spark: Any, tmp_path: Path) -> None:
    lines = [{"text": "w" * 20_000_001}, {"text": "short", "other": "w" * 20_000_001}]
    (tmp_path / "docs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    source = InputConfig(path=str(tmp_path / "docs.jsonl"), format="json", max_text_bytes=20_000_000)
    rows = InputSnapshot.resolve(spark, source).documents().collect()
    assert [(row["text"], row["reason"], row["detail"]) for row in rows] == [
        (None, "text_too_long", "20000001 bytes, input.max_text_bytes is 20000000"), ("short", None, None),
    ]  # fmt: skip
    assert len(rows[0]["row"]) == 10_000


def test_columns_of_our_own_names_and_broken_utf8_go_through(spark: Any, tmp_path: Path) -> None:
    broken = pa.array([b"ok", b"a\xff"], pa.binary()).view(pa.string())
    table = pa.table({"id": ["a", "b"], "text": ["x", None], "reason": broken, "url": broken})
    pq.write_table(table, tmp_path / "a.parquet")
    source = InputConfig(path=str(tmp_path), id="id", source="reason", columns={"url": "url"})
    rows = sorted(InputSnapshot.resolve(spark, source).documents(carried=True).collect())
    assert [(row["source"], row["url"]) for row in rows] == [("ok", "ok"), ("a\ufffd", "a\ufffd")]
    assert [row["reason"] for row in rows] == [None, "null_text"]


def test_files_that_disagree_on_a_type_are_named(spark: Any, tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [1], "text": ["x"]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"id": ["1"], "text": ["x"]}), tmp_path / "b.parquet")
    with pytest.raises(SchemaError, match=r"input.id: .*b\.parquet: column 'id' is string, but bigint in .*a\.parquet"):
        InputSnapshot.resolve(spark, InputConfig(path=str(tmp_path), id="id"))


def test_parquet_rows_too(spark: Any, tmp_path: Path) -> None:
    broken = pa.array([b"ok", b"\xff\xfe", None], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"id": [1, 2, 3], "body": broken}), tmp_path / "a.parquet")
    source = InputConfig(path=str(tmp_path), id="id", text="body")
    rows = {row["doc_id"]: row for row in InputSnapshot.resolve(spark, source).documents(carried=True).collect()}
    assert [rows[i]["reason"] for i in "123"] == [None, "invalid_utf8", "null_text"]


def test_without_an_id_column_equal_texts_have_equal_ids(spark: Any, tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a", "b", "a"]}), tmp_path / "a.parquet")
    ids = [row["doc_id"] for row in InputSnapshot.resolve(spark, InputConfig(path=str(tmp_path))).ids().collect()]
    assert Counter(len(i) for i in ids) == {32: 3}
    assert len(set(ids)) == 2


def test_duplicate_ids_are_named(spark: Any) -> None:
    ids = spark.createDataFrame([("a",), ("b",), ("a",)], "doc_id string")
    with pytest.raises(DataError, match=r"here: duplicate ids, for example 'a' \(2 times\)"):
        check_unique(ids, "here")


def test_the_sample_is_exact_seeded_and_the_same_for_any_partitioning(spark: Any) -> None:
    documents = spark.createDataFrame([(f"d{i}", i) for i in range(2000)], "doc_id string, n int")

    def drawn(frame: Any, seed: int = 0, n_documents: int = 150) -> set[str]:
        found = sample(frame, frame.select("doc_id"), n_documents=n_documents, seed=seed)
        return {row["doc_id"] for row in found.collect()}

    one = drawn(documents)
    assert len(one) == 150
    assert drawn(documents.orderBy("n", ascending=False).repartition(5)) == one
    assert drawn(documents, n_documents=50) < one
    assert len(drawn(documents, seed=1) & one) < 40
    assert len(drawn(documents, n_documents=5000)) == 2000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text": "txt"}, r"input.text: no column 'txt' in .* \(did you mean 'text'\?\)"),
        (
            {"source": "site", "columns": ["link"]},
            r"input.source: no column 'site'.*\n?.*input.columns: no column 'link'",
        ),
        ({"text": "n"}, r"input.text: column 'n' in .* is bigint; a string column is required"),
        ({"id": "x"}, r"input.id: column 'x' in .* is double; a string or integer column is required"),
    ],
)
def test_a_wrong_column_is_named(spark: Any, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    pq.write_table(pa.table({"text": ["a"], "n": [1], "x": [0.5]}), tmp_path / "a.parquet")
    with pytest.raises(SchemaError, match=f"(?s){message}"):
        InputSnapshot.resolve(spark, InputConfig(**{"path": str(tmp_path), **change}))


def test_a_wrong_input_is_named(spark: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="input.path: .*nowhere"):
        InputSnapshot.resolve(spark, InputConfig(path=str(tmp_path / "nowhere")))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="input.path: .*empty"):
        InputSnapshot.resolve(spark, InputConfig(path=str(tmp_path / "empty")))
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "none.parquet")
    with pytest.raises(DataError, match="the corpus is empty"):
        InputSnapshot.resolve(spark, InputConfig(path=str(tmp_path / "none.parquet")))
    folder = tmp_path / "cut"
    folder.mkdir()
    pq.write_table(pa.table({"text": ["a" * 1000]}), folder / "a.parquet")
    (folder / "b.parquet").write_bytes((folder / "a.parquet").read_bytes()[:-20])
    with pytest.raises(DataError, match=r"input.path: .*b\.parquet.*cannot be read"):
        InputSnapshot.resolve(spark, InputConfig(path=str(folder)))


def test_names_that_delta_refuses_and_folders_that_are_no_table_are_named(spark: Any, tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["x"], "st": [[{"a b": 1}]]}), tmp_path / "a.parquet")
    with pytest.raises(SchemaError, match="'st' in .* has a field 'a b'"):
        InputSnapshot.resolve(spark, InputConfig(path=str(tmp_path), columns={"st": "st"}))
    with pytest.raises(DataError, match="no Delta table found"):
        InputSnapshot.resolve(spark, InputConfig(path=str(tmp_path), format="delta"))


def test_check_finds_every_problem_at_once(spark: Any, tmp_path: Path, encoder: Path, targets: Path) -> None:
    values = settings(tmp_path / "nowhere", tmp_path / "out", encoder, targets)
    values["targets"]["cooking"]["template"] = "{question} {options}"
    values["targets"]["sailing"]["path"] = str(tmp_path / "sailing.jsonl")
    values["encoder"] = {"model": "./no-model"}
    found = problems(load_config(write_config(tmp_path / "conf.yaml", values)), spark)
    assert len(found) == 4
    assert any("encoder.model: ./no-model: folder not found" in line for line in found)
    assert any("cooking.jsonl: line 1: no field 'options'" in line for line in found)
    assert any("sailing.jsonl: no such file" in line for line in found)
    assert any("input.path" in line for line in found)
    values["encoder"] = {"backend": "openvino"}
    found = problems(load_config(write_config(tmp_path / "conf.yaml", values)), spark)
    assert any("encoder.backend: openvino: openvino is not installed" in line for line in found)
    assert not (tmp_path / "out").exists()
