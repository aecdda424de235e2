"""Arrow buffers of any offset and type, without a copy."""

import pyarrow as pa
import pytest

from betr_spark.kernels.arrow_buffers import string_buffers

WORDS = ["", "a", "é漢", "", "long " * 9]


def texts(array: pa.Array) -> list[str]:
    data, offsets = string_buffers(array)
    return [data[a:b].tobytes().decode() for a, b in zip(offsets[:-1], offsets[1:], strict=True)]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary(), pa.large_binary()])
def test_any_slice_of_any_type(kind: pa.DataType) -> None:
    array = pa.array([w.encode() for w in WORDS], pa.binary()).cast(kind)
    for start in range(len(WORDS) + 1):
        for length in range(len(WORDS) - start + 1):
            assert texts(array.slice(start, length)) == WORDS[start : start + length]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_nulls_and_empty_columns_have_rows_without_bytes(kind: pa.DataType) -> None:
    assert texts(pa.array(["a", None, "b", None], kind).slice(1)) == ["", "b", ""]
    for array in (pa.array([], kind), pa.array(["", ""], kind), pa.nulls(3, kind)):
        assert texts(array) == [""] * len(array)


def test_each_chunk_of_a_chunked_column_has_its_own_buffers() -> None:
    column = pa.chunked_array([WORDS[:2], WORDS[2:], []], pa.string()).slice(1, 3)
    assert [text for chunk in column.chunks for text in texts(chunk)] == WORDS[1:4]


def test_buffers_read_back_from_ipc_are_the_same() -> None:
    batch = pa.record_batch({"text": pa.array(WORDS)})
    stream = pa.BufferOutputStream()
    with pa.ipc.new_stream(stream, batch.schema) as writer:
        writer.write_batch(batch.slice(1, 3))
    with pa.ipc.open_stream(stream.getvalue()) as reader:
        assert [texts(read.column("text")) for read in reader] == [WORDS[1:4]]


def test_the_text_is_not_copied() -> None:
    array = pa.array(WORDS)
    data, _ = string_buffers(array)
    assert data.ctypes.data == array.buffers()[2].address


def test_other_types_are_refused() -> None:
    with pytest.raises(TypeError, match="found type int64"):
        string_buffers(pa.array([1]))
