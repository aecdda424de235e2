"""What the task of a shard writes, read back by each format's own reader; no JVM."""

import hashlib
import io
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from export_texts import AWKWARD
from hypothesis import given
from hypothesis import strategies as st

from betr_spark.errors import DataError, SetupError
from betr_spark.export.encoding import RECORD, ROW_BYTES, SHARD, ByteRows, encode
from betr_spark.export.formats import FORMATS, Format, Megatron

TEXTS = [*AWKWARD, "plain", *[f"{n} " * (n % 70) for n in range(3_000)]]


def batches_of(table: pa.Table, *, rows: int, shard: int = 7) -> Iterator[pa.RecordBatch]:
    for batch in table.to_batches(max_chunksize=rows):
        numbers = pa.array(np.full(batch.num_rows, shard, np.int32))
        yield pa.record_batch([numbers, *batch.columns], names=[SHARD, *batch.schema.names])


def files_of(batches: Iterator[pa.RecordBatch], output_format: Format) -> dict[str, bytes]:
    """Put the files together as Spark's writer of text does."""
    files: dict[str, bytearray] = defaultdict(bytearray)
    parts: dict[str, list[int]] = defaultdict(list)
    for batch in encode(batches, output_format):
        for row in batch.to_pylist():
            files[row["file"]] += row["content"] + output_format.separator.encode()
            parts[row["file"]].append(row["part"])
    assert all(numbers == sorted(set(numbers)) for numbers in parts.values())
    return {name: bytes(content) for name, content in files.items()}


def payload(texts: list[str]) -> pa.Table:
    columns = {
        "text": texts,
        "source": [None if i % 3 else "web" for i in range(len(texts))],
        "rank": list(range(len(texts))),
    }
    return pa.table(columns, schema=pa.schema([("text", pa.string()), ("source", pa.string()), ("rank", pa.int64())]))


@pytest.fixture(scope="session")
def tokenizer() -> str:
    """A byte-level tokenizer, which gives each text back, with the token <end>."""
    pytest.importorskip("tokenizers")
    from betr_spark.evaluate.byte_pairs import train_tokenizer

    trained = train_tokenizer(TEXTS[:50], n_vocabulary=300)
    trained.add_special_tokens(["<end>"])
    return trained.to_str()


@given(pieces=st.lists(st.binary(max_size=40) | st.just(b"\0" * 5) | st.just(b"x" * 50)))
def test_rows_put_together_are_the_file(pieces: list[bytes]) -> None:
    file, joined = ByteRows("name", b"\0"), b"".join([*pieces, b"\0"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("betr_spark.export.encoding.ROW_BYTES", 16)
        rows = [row for piece in [*pieces, b"\0"] for batch in file.add(piece) for row in batch.to_pylist()]
        rows += [row for batch in file.finish() for row in batch.to_pylist()]
    assert b"".join(row["content"] + b"\0" for row in rows) == joined
    assert [row["part"] for row in rows] == list(range(1, len(rows) + 1))
    assert file.described() == {"name": "name", "bytes": len(joined), "sha256": hashlib.sha256(joined).hexdigest()}
    assert all(len(row["content"]) >= 16 for row in rows[:-1])


def test_a_file_that_does_not_end_with_the_separator_is_refused() -> None:
    file = ByteRows("name", b"\0")
    assert list(file.add(b"abc")) == []
    with pytest.raises(ValueError, match="name: ends with b'abc'"):
        list(file.finish())


def test_large_files_have_rows_of_about_a_mebibyte() -> None:
    content = np.random.default_rng(0).bytes(5 * ROW_BYTES) + b"\0"
    file = ByteRows("name", b"\0")
    sizes = [len(row["content"]) for batch in (*file.add(content), *file.finish()) for row in batch.to_pylist()]
    assert len(sizes) == 5
    assert max(sizes) < ROW_BYTES + 10_000


def test_json_lines() -> None:
    zstandard = pytest.importorskip("zstandard")
    lines = pa.table({"line": [json.dumps({"text": text}, ensure_ascii=False) for text in TEXTS]})
    files = files_of(batches_of(lines, rows=100), FORMATS["jsonl.zst"]())
    content = files["shard-00007.jsonl.zst"]
    decoded = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(content), read_across_frames=True).read().decode()
    assert [json.loads(line)["text"] for line in decoded.split("\n")[:-1]] == TEXTS
    assert files == files_of(batches_of(lines, rows=7), FORMATS["jsonl.zst"]())


def test_parquet() -> None:
    table = payload(TEXTS)
    files = files_of(batches_of(table, rows=100), FORMATS["parquet"]())
    assert pq.read_table(io.BytesIO(files["shard-00007.parquet"])).equals(table)
    assert files == files_of(batches_of(table, rows=13), FORMATS["parquet"]())


def test_hugging_face(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    table, output_format = payload(TEXTS), FORMATS["hf"]()
    files = files_of(batches_of(table, rows=100), output_format)
    assert files == files_of(batches_of(table, rows=13), output_format)
    more = output_format.more_files(table.schema, ["shard-00007.arrow"], "0123456789abcdef01")
    for name, content in {**files, **more}.items():
        (tmp_path / name).write_bytes(content)
    loaded = datasets.load_from_disk(str(tmp_path))
    assert loaded.to_list() == table.to_pylist()
    map_type = pa.schema([("text", pa.string()), ("m", pa.map_(pa.string(), pa.int64()))])
    assert list(output_format.problems(table.schema)) == []
    assert list(output_format.problems(map_type)) == [
        "column m: map<string, int64>: not a type of Hugging Face datasets; choose another --format"
    ]


@pytest.mark.parametrize("end_token", [None, "<end>"])
def test_megatron(tmp_path: Path, indexed: Any, tokenizer: str, end_token: str | None) -> None:
    from tokenizers import Tokenizer

    output_format = Megatron(tokenizer, "t.json", end_token)
    output_format.check()
    texts = pa.table({"text": TEXTS})
    files = files_of(batches_of(texts, rows=100), output_format)
    assert files == files_of(batches_of(texts, rows=13), output_format)
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    dataset, decoder = indexed.IndexedDataset(str(tmp_path / "shard-00007")), Tokenizer.from_str(tokenizer)
    ids = [dataset[i].tolist() for i in range(len(dataset))]
    if end_token:
        assert {each.pop() for each in ids} == {decoder.token_to_id("<end>")}
    assert [decoder.decode(each, skip_special_tokens=False) for each in ids] == TEXTS
    assert dataset.document_indices.tolist() == list(range(len(TEXTS) + 1))
    assert dataset[0].dtype == np.uint16
    record = json.loads(files[f"shard-00007{RECORD}"].rstrip(b"\0"))
    assert record["figures"]["token_ids"] == sum(len(each) + bool(end_token) for each in ids)


def test_a_wrong_tokenizer_is_one_line(tokenizer: str) -> None:
    with pytest.raises(DataError, match="--tokenizer: t.json: is not a tokenizer"):
        Megatron("{}", "t.json").check()
    with pytest.raises(DataError, match="--end-token: <none>: the vocabulary of t.json has no such token"):
        Megatron(tokenizer, "t.json", "<none>").check()
    with pytest.raises(DataError, match="requires --tokenizer FILE"):
        Megatron().check()


def test_a_worker_without_the_extra_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SetupError, match="^export: .*: --format hf: datasets is not installed; install betr-spark"):
        list(encode(iter(()), FORMATS["hf"]()))


@pytest.mark.parametrize("name", ["jsonl.zst", "parquet"])
def test_records_of_several_shards_in_one_task(name: str) -> None:
    if name == "jsonl.zst":
        pytest.importorskip("zstandard")
    table = payload(["a", "b", "c"]) if name == "parquet" else pa.table({"line": ["1", "2", "3"]})
    batches = [*batches_of(table, rows=2, shard=0), *batches_of(table.slice(1), rows=2, shard=1)]
    joined = pa.Table.from_batches(batches).combine_chunks().to_batches()
    output_format = FORMATS[name]()
    files = files_of(iter(joined), output_format)
    for number, rows in ((0, 3), (1, 2)):
        record = json.loads(files[f"shard-0000{number}{RECORD}"].decode().removesuffix(output_format.separator))
        (file,) = record["files"]
        content = files[file["name"]]
        assert (record["number"], record["rows"]) == (number, rows)
        assert (file["bytes"], file["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
