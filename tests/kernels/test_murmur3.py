"""The content hash against an independent MurmurHash3."""

import mmh3
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from betr_spark.kernels.murmur3 import content_hashes


@given(st.lists(st.binary(max_size=70), max_size=6))
def test_hashes_equal_murmur3_x64_128(documents: list[bytes]) -> None:
    data = np.frombuffer(b"".join(documents), np.uint8)
    offsets = np.cumsum([0, *map(len, documents)]).astype(np.int64)
    hashes = content_hashes(data, offsets)
    assert [row.tobytes() for row in hashes] == [mmh3.hash_bytes(d, 0, x64arch=True) for d in documents]


def test_documents_may_begin_inside_the_buffer() -> None:
    text = bytes(range(200))
    hashes = content_hashes(np.frombuffer(text, np.uint8), np.array([3, 3, 61, 200], np.int64))
    assert [row.tobytes() for row in hashes] == [
        mmh3.hash_bytes(text[a:b], 0, x64arch=True) for a, b in ((3, 3), (3, 61), (61, 200))
    ]
