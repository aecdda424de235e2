"""fastText's tokens on raw UTF-8 bytes, and their hashes."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from betr_spark.kernels.bits import byte_mask, clear_bit, last_block, lowest_bit
from betr_spark.kernels.jit import jit
from betr_spark.kernels.token_runs import first_eight, long_runs, prefixes_of, token_runs
from betr_spark.kernels.utf8 import separator_length
from betr_spark.scoring.ngram_table import END_OF_LINE, FNV_PRIME, FNV_START

_END_PREFIX, _END_LENGTH = np.uint64(int.from_bytes(END_OF_LINE.encode(), "little")), len(END_OF_LINE)
_1 = np.uint64(1)
# White space of one byte and NUL, which also pads the last block; and the first bytes of longer white space.
_short_separators, _long_leads = byte_mask((0, 0), (0x09, 0x0D), (0x1C, 0x20)), byte_mask((0xC2, 0xC2), (0xE1, 0xE3))
_LABEL = np.frombuffer(b"__label__", np.uint8)


class Tokens(NamedTuple):
    """Tokens of documents, with `</s>` at the end of each document that has a word.

    Attributes:
        starts: first byte of each token, int32; undefined for `</s>`.
        lengths: bytes of each token, int32.
        prefixes: first eight bytes of each token as a little-endian number, uint64.
        long: positions of the tokens of more than eight bytes, int32.
        tails: the next eight bytes of each long token, uint64.
        hashes: FNV-1a hash of each token, uint32.
    """

    starts: NDArray[np.int32]
    lengths: NDArray[np.int32]
    prefixes: NDArray[np.uint64]
    long: NDArray[np.int32]
    tails: NDArray[np.uint64]
    hashes: NDArray[np.uint32]


@jit
def tokenise(data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> tuple[NDArray[np.int64], Tokens]:
    """Split documents into tokens.

    Args:
        data: bytes of all documents, uint8.
        offsets: int64 [n + 1].

    Returns:
        The position of each document's first token, and the number of tokens, int64 [n + 1]; and the tokens, whose starts count
        from offsets[0].
    """
    base, marks = offsets[0], _marks(data, offsets)
    first, starts, lengths = token_runs(marks, np.zeros_like(marks), offsets, 1)
    prefixes = _prefixes(data, base, first, starts, lengths)
    long, tail_starts, tail_lengths = long_runs(starts, lengths)
    tails = prefixes_of(data, base, tail_starts, tail_lengths)
    hashes = _hashes(data, base, starts, lengths, prefixes, long, tails, tail_lengths)
    return first, Tokens(starts, lengths, prefixes, long, tails, hashes)


@jit
def _marks(data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Mark the bytes of words: one bit for each byte, 0 for the bytes of separators."""
    text = data[offsets[0] : offsets[-1]]
    full, end = len(text) // 64, last_block(text)
    marks, leads = np.zeros(full + 1, np.uint64), np.zeros(full + 1, np.uint64)
    for block in range(full):
        marks[block], leads[block] = ~_short_separators(text, 64 * block), _long_leads(text, 64 * block)
    marks[full], leads[full] = ~_short_separators(end, 0), _long_leads(end, 0)
    document = 0
    for block in range(full + 1):
        while leads[block] != 0:
            i = 64 * block + lowest_bit(leads[block])
            leads[block] &= leads[block] - _1
            while offsets[document + 1] - offsets[0] <= i:
                document += 1
            for k in range(separator_length(text, i, offsets[document + 1] - offsets[0])):
                clear_bit(marks, i + k)
    return marks


@jit
def _prefixes(
    data: NDArray[np.uint8],
    base: int,
    first: NDArray[np.int64],
    starts: NDArray[np.int32],
    lengths: NDArray[np.int32],
) -> NDArray[np.uint64]:
    """Return the first eight bytes of every token; `</s>` ends each document that has a word.

    `prepare` removes two bytes from the front of `__label__...` and `</s>`; this does the same to `starts` and `lengths`.
    """
    prefixes = prefixes_of(data, base, starts, lengths)
    for t in range(len(prefixes)):
        first_byte = prefixes[t] & np.uint64(0xFF)
        if first_byte == 0x5F or first_byte == 0x3C:  # '_' or '<'
            start = base + starts[t]
            skip = prefixes[t] == _END_PREFIX
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
            prefixes[last], lengths[last] = _END_PREFIX, _END_LENGTH
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
    """Compute the FNV hash of every token."""
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
    """Continue the FNV hash of each token with up to eight more bytes."""
    fours = eights.view(np.int32)
    for t in range(len(hashes)):  # without a branch and in 32 bits, so that the loop vectorises
        value, length = hashes[t], lengths[t]
        for half in range(2):
            four = fours[2 * t + half]
            for k in range(4):
                signed = np.uint32(np.int32(four << np.int32(24 - 8 * k)) >> np.int32(24))
                following = np.uint32((value ^ signed) * FNV_PRIME)
                value = following if 4 * half + k < length else value
        hashes[t] = value
