"""Marks and runs of tokens against plain loops, on any bytes, across the borders of 64."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from betr_spark.kernels.bits import byte_mask
from betr_spark.kernels.jit import jit
from betr_spark.kernels.token_runs import end_of_slice, first_eight, prefixes_of, token_runs

mask = byte_mask((0, 0), (0x09, 0x0D), (0x80, 0xFF))
documents = st.lists(st.binary(max_size=150), max_size=5)


@jit
def masked(data: np.ndarray, at: int) -> np.uint64:
    return mask(data, at)


def packed(bits: list[bool]) -> np.ndarray:
    padded = np.zeros(len(bits) // 64 * 64 + 64, np.bool_)
    padded[: len(bits)] = bits
    return np.packbits(padded, bitorder="little").view(np.uint64)


@given(st.binary(min_size=64, max_size=200), st.data())
def test_a_mask_tells_of_64_bytes_whether_they_lie_in_a_range(raw: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(raw) - 64))
    bits = int(masked(np.frombuffer(raw, np.uint8), at))
    expected = [b == 0 or 0x09 <= b <= 0x0D or b >= 0x80 for b in raw[at : at + 64]]
    assert [bool(bits >> k & 1) for k in range(64)] == expected


@given(documents, st.integers(0, 1))
def test_runs_are_those_of_a_loop_over_the_bytes(texts: list[bytes], extra: int) -> None:
    """Bit 0 of a byte marks it; bit 1 separates it from the byte before."""
    whole = b"".join(texts)
    offsets = np.cumsum([7, *map(len, texts)]).astype(np.int64)
    marks, breaks = packed([b & 1 == 1 for b in whole]), packed([b & 2 == 2 for b in whole])
    first, starts, lengths = token_runs(marks, breaks, offsets, extra)
    expected_first, expected = [0], []
    for text, begin in zip(texts, offsets - 7, strict=False):
        runs: list[list[int]] = []
        for i, b in enumerate(text):
            if b & 1 and (i == 0 or not text[i - 1] & 1 or b & 2):
                runs.append([int(begin) + i, 0])
            if b & 1:
                runs[-1][1] += 1
        expected += runs + runs[-1:] * extra
        expected_first.append(len(expected))
    assert first.tolist() == expected_first
    assert [[int(a), int(b)] for a, b in zip(starts, lengths, strict=True)] == expected


@given(documents, st.data())
def test_prefixes_are_the_first_eight_bytes(texts: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(texts) + b"end"
    begins = sorted(data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=20)))
    lengths = [data.draw(st.integers(1, len(whole) - begin)) for begin in begins]
    buffer = np.frombuffer(whole, np.uint8)
    prefixes = prefixes_of(buffer, 0, np.array(begins, np.int32), np.array(lengths, np.int32))
    expected = [
        int.from_bytes(whole[begin : begin + min(length, 8)], "little")
        for begin, length in zip(begins, lengths, strict=True)
    ]
    assert prefixes.tolist() == expected
    assert [
        int(first_eight(buffer, begin, min(length, 8))) for begin, length in zip(begins, lengths, strict=True)
    ] == expected


@given(st.lists(st.integers(0, 50), min_size=1, max_size=30), st.integers(1, 60))
def test_slices_hold_every_document_once_and_few_bytes(lengths: list[int], most: int) -> None:
    offsets = np.cumsum([3, *lengths]).astype(np.int64)
    a, n_slices = 0, 0
    while a < len(lengths):
        b = end_of_slice(offsets, a, most)
        assert b == a + 1 or offsets[b] - offsets[a] <= most
        assert b == len(lengths) or offsets[b + 1] - offsets[a] > most
        a, n_slices = b, n_slices + 1
    assert a == len(lengths)
    assert n_slices <= len(lengths)
