"""Arrow buffers of any offset and type, without a copy."""

import pyarrow as pa
import pytest

from betr_spark.features.buffers import string_buffers

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


def test_the_text_is_not_copied() -> None:
    array = pa.array(WORDS)
    data, _ = string_buffers(array)
    assert data.ctypes.data == array.buffers()[2].address


def test_other_types_are_refused() -> None:
    with pytest.raises(TypeError, match="found int64"):
        string_buffers(pa.array([1]))
