"""Test items cut out of documents: what is left are pieces, each a document of its own."""

import unicodedata
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from betr_spark.contamination.index import Index
from betr_spark.contamination.matches import find_matches
from betr_spark.contamination.rows import contamination_of
from betr_spark.kernels.arrow_buffers import string_buffers
from betr_spark.schemas import DOC_ID

AROUND = 200
"""Characters that are cut on each side of a match, and those of the word in which the cut would end."""
MOST_CUTS = 10
"""A document with more cuts has no pieces."""
SHORTEST = 200
"""Characters of the shortest piece."""
_LONGEST_WORD = 50  # scripts without spaces are cut within a word
_JOINER, _SKIN_TONES = "\u200d", "\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff"

CUTS, PIECES, N_SHORT, N_UNCLEAN = "cuts", "pieces", "short", "unclean"
CUT = f"{DOC_ID} string, {CUTS} int, {PIECES} array<string>, {N_SHORT} int, {N_UNCLEAN} int"


class _Rest(NamedTuple):
    """What is left of a document: the number of places cut out, the pieces, and the number of those too short to keep."""

    cuts: int
    pieces: list[str]
    short: int


def cut_documents(doc_ids: pa.Array, texts: pa.Array, index: Index, *, min_coverage: float) -> pa.RecordBatch:
    """Cut the test items out of documents.

    Each piece is looked at again, and left out if it has a test item.

    Args:
        doc_ids: string [n].
        texts: string or large_string [n], without nulls.
        index: the test items.
        min_coverage: share of an item's words that a document must have.

    Returns:
        Rows of CUT: doc_id; cuts, the places that were cut out; pieces, in order; the number of pieces that were too short, and
        of those with a test item.
    """
    data, offsets = string_buffers(texts)
    matches = find_matches(data, offsets, index.ngrams)
    found = contamination_of(doc_ids, texts, matches, index, min_coverage=min_coverage).matches
    bounds = np.searchsorted(found.document, np.arange(len(texts) + 1))
    rests = list[_Rest]()
    for number, text in enumerate(texts.to_pylist()):
        of_document = slice(bounds[number], bounds[number + 1])
        rests.append(_rest(text, zip(found.start[of_document], found.end[of_document], strict=True)))
    owners = np.repeat(np.arange(len(rests)), [len(rest.pieces) for rest in rests])
    pieces = [piece for rest in rests for piece in rest.pieces]
    unclean = _with_items(pieces, index, min_coverage=min_coverage)
    kept: list[list[str]] = [[] for _ in rests]
    for number, (owner, piece) in enumerate(zip(owners.tolist(), pieces, strict=True)):
        if number not in unclean:
            kept[owner].append(piece)
    return pa.RecordBatch.from_pydict({
        DOC_ID: doc_ids,
        CUTS: pa.array([rest.cuts for rest in rests], pa.int32()),
        PIECES: pa.array(kept, pa.list_(pa.string())),
        N_SHORT: pa.array([rest.short for rest in rests], pa.int32()),
        N_UNCLEAN: pa.array(
            [len(rest.pieces) - len(own) for rest, own in zip(rests, kept, strict=True)], pa.int32()
        ),
    })  # fmt: skip


def _with_items(texts: list[str], index: Index, *, min_coverage: float) -> set[int]:
    """Positions of the texts that have a test item."""
    column = pa.array(texts, pa.large_string())
    matches = find_matches(*string_buffers(column), index.ngrams)
    numbers = pa.array(np.arange(len(texts)))
    return set(
        contamination_of(numbers, column, matches, index, min_coverage=min_coverage).rows.column(DOC_ID).to_pylist()
    )


def _rest(text: str, matches: Iterable[tuple[int, int]]) -> _Rest:
    """Cut out the matches, given by their first byte and the byte after them."""
    found = np.array(list(matches), np.int64).reshape(-1, 2)
    starts_character = (np.frombuffer(text.encode(), np.uint8) & 0xC0) != 0x80  # in UTF-8
    spans = np.concatenate([[0], np.cumsum(starts_character)])[found].tolist()
    places = list(_merged((_start(text, start), _end(text, end)) for start, end in spans))
    if len(places) > MOST_CUTS:
        return _Rest(len(places), [], 0)
    edges = [0, *(edge for place in places for edge in place), len(text)]
    pieces = [text[start:end].strip() for start, end in zip(edges[::2], edges[1::2], strict=True)]
    long = [piece for piece in pieces if len(piece) >= SHORTEST]
    return _Rest(len(places), long, sum(0 < len(piece) < SHORTEST for piece in pieces))


def _start(text: str, match: int) -> int:
    """Where the cut begins: before the word that the character AROUND before the match is in."""
    start = max(0, match - AROUND)
    word = start
    while word > max(0, start - _LONGEST_WORD) and not text[word - 1].isspace():
        word -= 1
    if word == 0 or text[word - 1].isspace():
        return word
    while start > word and _continues(text, start):
        start -= 1
    return start


def _end(text: str, match: int) -> int:
    """Where the cut ends: after the word that the character AROUND after the match is in."""
    end = min(len(text), match + AROUND)
    word = end
    while word < min(len(text), end + _LONGEST_WORD) and not text[word].isspace():
        word += 1
    if word == len(text) or text[word].isspace():
        return word
    while end < word and _continues(text, end):
        end += 1
    return end


def _continues(text: str, position: int) -> bool:
    """Whether what a reader sees as one character goes on at a position: a mark, or a part of an emoji."""
    return (
        unicodedata.category(text[position]).startswith("M")
        or _JOINER in text[position - 1 : position + 1]
        or text[position] in _SKIN_TONES
    )


def _merged(places: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Join places that overlap or touch; in order."""
    last: tuple[int, int] | None = None
    for start, end in sorted(places):
        if last is not None and start <= last[1]:
            last = last[0], max(last[1], end)
            continue
        if last is not None:
            yield last
        last = start, end
    if last is not None:
        yield last
