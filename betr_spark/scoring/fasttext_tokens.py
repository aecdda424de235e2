"""Tokens of raw UTF-8 bytes as fastText sees them, and their hashes."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from betr_spark.kernels.bits import byte_mask, clear_bit, last_block, lowest_one
from betr_spark.kernels.jit import jit
from betr_spark.kernels.token_runs import behind_eight, first_eight, prefixes_of, token_runs
from betr_spark.kernels.utf8 import separator_length
from betr_spark.scoring.ngram_table import END_OF_LINE, FNV_PRIME, FNV_START

_END_HEAD, _END_LENGTH = np.uint64(int.from_bytes(END_OF_LINE.encode(), "little")), len(END_OF_LINE)
_1 = np.uint64(1)
# White space of one byte; NUL, which stands behind the last byte too; and the bytes that longer white space begins with.
_short_separators, _long_leads = byte_mask((0, 0), (0x09, 0x0D), (0x1C, 0x20)), byte_mask((0xC2, 0xC2), (0xE1, 0xE3))
_LABEL = np.frombuffer(b"__label__", np.uint8)


class Tokens(NamedTuple):
    """Tokens of some documents, `</s>` at the end of each document that has a word.

    starts, lengths: in bytes, int32; of `</s>` the start means nothing. prefixes: first eight bytes, little-endian, uint64.
    long: the tokens of more than eight bytes, int32. tails: their next eight bytes, uint64. hashes: FNV, uint32.
    """

    starts: NDArray[np.int32]
    lengths: NDArray[np.int32]
    prefixes: NDArray[np.uint64]
    long: NDArray[np.int32]
    tails: NDArray[np.uint64]
    hashes: NDArray[np.uint32]


@jit
def tokenise(data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> tuple[NDArray[np.int64], Tokens]:
    """Cut documents into tokens; the first one of each document, and the end, int64 [n + 1]. Starts count from offsets[0]."""
    base, marks = offsets[0], _marks(data, offsets)
    first, starts, lengths = token_runs(marks, np.zeros_like(marks), offsets, 1)
    prefixes = _heads(data, base, first, starts, lengths)
    long, tail_starts, tail_lengths = behind_eight(starts, lengths)
    tails = prefixes_of(data, base, tail_starts, tail_lengths)
    hashes = _hashes(data, base, starts, lengths, prefixes, long, tails, tail_lengths)
    return first, Tokens(starts, lengths, prefixes, long, tails, hashes)


@jit
def _marks(data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> NDArray[np.uint64]:
    """1 for each byte of a word, 0 for each byte of a separator, a bit a byte."""
    own, last = data[offsets[0] : offsets[-1]], last_block(data[offsets[0] : offsets[-1]])
    full = len(own) // 64
    marks, leads = np.zeros(full + 1, np.uint64), np.zeros(full + 1, np.uint64)
    for block in range(full):
        marks[block], leads[block] = ~_short_separators(own, 64 * block), _long_leads(own, 64 * block)
    marks[full], leads[full] = ~_short_separators(last, 0), _long_leads(last, 0)
    document = 0
    for block in range(full + 1):
        while leads[block] != 0:
            i = 64 * block + lowest_one(leads[block])
            leads[block] &= leads[block] - _1
            while offsets[document + 1] - offsets[0] <= i:
                document += 1
            for k in range(separator_length(own, i, offsets[document + 1] - offsets[0])):
                clear_bit(marks, i + k)
    return marks


@jit
def _heads(
    data: NDArray[np.uint8],
    base: int,
    first: NDArray[np.int64],
    starts: NDArray[np.int32],
    lengths: NDArray[np.int32],
) -> NDArray[np.uint64]:
    """First eight bytes of every token; `</s>` closes each document that has a word.

    Where `prepare` takes two bytes from the front of a token (`__label__...` and `</s>`), so does this.
    """
    prefixes = prefixes_of(data, base, starts, lengths)
    for t in range(len(prefixes)):
        lead = prefixes[t] & np.uint64(0xFF)
        if lead == 0x5F or lead == 0x3C:  # '_' or '<'
            start = base + starts[t]
            skip = prefixes[t] == _END_HEAD
            if lengths[t] >= len(_LABEL):
                skip = True
                for k in range(len(_LABEL)):
                    skip = skip and data[start + k] == _LABEL[k]
            if skip:
                starts[t] += 2
                lengths[t] -= 2
                prefixes[t] = first_eight(data, start + 2, min(lengths[t], 8))
    for document in range(len(first) - 1):
        last = first[document + 1] - 1
        if last >= first[document]:
            prefixes[last], lengths[last] = _END_HEAD, _END_LENGTH
    return prefixes


@jit
def _hashes(
    data: NDArray[np.uint8],
    base: int,
    starts: NDArray[np.int32],
    lengths: NDArray[np.int32],
    prefixes: NDArray[np.uint64],
    long: NDArray[np.int32],
    tails: NDArray[np.uint64],
    tail_lengths: NDArray[np.int32],
) -> NDArray[np.uint32]:
    """FNV hash of every token."""
    hashes = np.full(len(prefixes), FNV_START, np.uint32)
    _continue(hashes, prefixes, lengths)
    of_long = np.empty(len(long), np.uint32)
    for i in range(len(long)):
        of_long[i] = hashes[np.uint32(long[i])]
    _continue(of_long, tails, tail_lengths)
    for i in range(len(long)):
        value, t = of_long[i], np.uint32(long[i])
        if tail_lengths[i] > 8:
            for k in range(base + starts[t] + 16, base + starts[t] + lengths[t]):
                value = np.uint32((value ^ np.uint32(np.int32(np.int8(data[k])))) * FNV_PRIME)
        hashes[t] = value
    return hashes


@jit
def _continue(hashes: NDArray[np.uint32], eights: NDArray[np.uint64], lengths: NDArray[np.int32]) -> None:
    """Take up to eight more bytes a token into its FNV hash."""
    fours = eights.view(np.int32)
    for t in range(len(hashes)):  # without a branch, in 32 bits, so that it vectorises over tokens
        value, length = hashes[t], lengths[t]
        for half in range(2):
            four = fours[2 * t + half]
            for k in range(4):
                signed = np.uint32(np.int32(four << np.int32(24 - 8 * k)) >> np.int32(24))
                following = np.uint32((value ^ signed) * FNV_PRIME)
                value = following if 4 * half + k < length else value
        hashes[t] = value
