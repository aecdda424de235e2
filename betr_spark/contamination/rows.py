"""Rows of the table `contamination`: one for each document and test item that it contains."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from betr_spark.contamination.index import Index
from betr_spark.contamination.items import Members, normalised
from betr_spark.contamination.matches import Matches
from betr_spark.kernels.arrow_buffers import string_buffers
from betr_spark.schemas import (
    BENCHMARK,
    COUNT,
    COVERAGE,
    DOC_ID,
    FIRST,
    ITEM,
    LONGEST_MATCH,
    MATCHED_WORDS,
    NGRAMS,
    POSITION,
)

WINDOW = 50  # words of a document among which a short item's question and answer both occur


class Contamination(NamedTuple):
    """What documents have of test items.

    Attributes:
        rows: rows of the table `contamination`.
        matches: the matches of the rows' documents and items.
    """

    rows: pa.RecordBatch
    matches: Matches


class _Pairs(NamedTuple):
    """Pairs of a document and a text, or a document and an item: their positions, and columns of the rows.

    All are int64 [n], but `ngrams`, which has for each pair the runs of n-grams of the item that the document has.
    """

    document: NDArray[np.int64]
    text: NDArray[np.int64]
    matched_words: NDArray[np.int64]
    longest_match: NDArray[np.int64]
    position: NDArray[np.int64]
    ngrams: pa.ListArray

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> "_Pairs":
        """Return some pairs, by position or by a mask."""
        positions = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        return _Pairs._make([*(column[positions] for column in self[:-1]), self.ngrams.take(pa.array(positions))])


def contamination_of(
    doc_ids: pa.Array, texts: pa.Array, matches: Matches, index: Index, *, min_coverage: float
) -> Contamination:
    """Decide which test items documents contain.

    A document contains a short item if the whole question and the whole answer occur, without a common word, among WINDOW
    consecutive words. The row has the first such place, the question as its match, and coverage 1.

    Args:
        doc_ids: ids of the documents, string.
        texts: the documents, string, large_string, binary or large_binary without nulls.
        matches: what `find_matches` returns for these documents.
        index: the test items.
        min_coverage: the least coverage of a row.

    Returns:
        Rows: doc_id; benchmark; item, the row in the benchmark's file; matched_words, the words of the item in any match;
        longest_match, in words; coverage, matched_words divided by the words of the item; position, the word of the document
        at which the longest match begins, the first of several; ngrams, runs of n-grams of the item that the document has:
        the first word of the first n-gram, and the number of n-grams, ascending and without overlaps; of a short item one.
        In order of document, text of the index, and item.
    """
    data, offsets = string_buffers(texts)
    members, pairs = index.members, _pairs(matches, index)
    coverage = pairs.matched_words / index.ngrams.n_words[pairs.text]
    pairs, coverage = pairs.take(coverage >= min_coverage), coverage[coverage >= min_coverage]
    n_members = members.bounds[pairs.text + 1] - members.bounds[pairs.text]
    pair = np.repeat(np.arange(len(n_members)), n_members)
    member = members.bounds[pairs.text][pair] + np.arange(len(pair)) - (np.cumsum(n_members) - n_members)[pair]
    by_text = np.diff(members.answer_bounds)[member] == 1
    of_items = pairs.take(pair[by_text])._replace(text=member[by_text])
    short = np.array(list(_short_items(data, offsets, matches, index)), np.int64).reshape(-1, len(_Pairs._fields) - 1)
    both = [np.concatenate([a, b]) for a, b in zip(of_items[:-1], short.T, strict=True)]
    whole = _runs(np.arange(len(short) + 1), np.zeros(len(short), np.int64), np.ones(len(short), np.int64))
    order = np.lexsort((both[1], both[0]))
    rows = _Pairs._make([*both, pa.concat_arrays([of_items.ngrams, whole])]).take(order)
    coverage = np.concatenate([coverage[pair[by_text]], np.ones(len(short))])[order]
    table = pa.RecordBatch.from_pydict({
        DOC_ID: doc_ids.take(pa.array(rows.document)),
        BENCHMARK: pa.array(index.benchmarks, pa.string()).take(pa.array(members.benchmark[rows.text])),
        ITEM: pa.array(members.row[rows.text]),
        MATCHED_WORDS: pa.array(rows.matched_words, pa.int32()),
        LONGEST_MATCH: pa.array(rows.longest_match, pa.int32()),
        COVERAGE: pa.array(coverage, pa.float32()),
        POSITION: pa.array(rows.position, pa.int32()),
        NGRAMS: rows.ngrams,
    })  # fmt: skip
    n_texts, text = len(index.ngrams.n_words), np.searchsorted(members.bounds, rows.text, side="right") - 1
    has_row = np.isin(matches.document * n_texts + matches.text, rows.document * n_texts + text)
    return Contamination(table, Matches(*(a[has_row] for a in matches)))


def _pairs(matches: Matches, index: Index) -> _Pairs:
    """Combine the matches of each document and text."""
    order = np.lexsort((matches.word, matches.text_word, matches.text, matches.document))
    document, word, text, begin, n_words = (a[order] for a in matches[:5])
    is_first = np.diff(document, prepend=-1) != 0
    is_first |= np.diff(text, prepend=-1) != 0
    firsts = np.flatnonzero(is_first)
    _, new_words = _without_overlaps(begin, begin + n_words, is_first)
    n = np.minimum(index.ngrams.n_words[text], index.ngrams.n_max[0])
    first, count = _without_overlaps(begin, begin + n_words - n + 1, is_first)
    bounds = np.searchsorted(np.flatnonzero(count > 0), [*firsts, len(count)])
    longest = np.lexsort((word, -n_words, text, document))[firsts]
    return _Pairs(
        document[firsts],
        text[firsts],
        np.add.reduceat(new_words, firsts) if len(firsts) else firsts,
        n_words[longest],
        word[longest],
        _runs(bounds, first[count > 0], count[count > 0]),
    )


def _without_overlaps(
    begin: NDArray[np.int64], end: NDArray[np.int64], is_first: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cut off the part of each run that earlier runs of its pair have: begins and lengths, which may be 0.

    Args:
        begin: of the runs of a pair ascending, int64 [n].
        end: int64 [n].
        is_first: whether a run is the first of its pair, bool [n].
    """
    # The furthest end among the runs so far, those of other pairs left out: their ends are shifted below this pair's words.
    shift = np.cumsum(is_first) * (end.max(initial=0) + 1)
    furthest = np.maximum.accumulate(np.concatenate([[0], end + shift]))[:-1] - shift
    first = np.maximum(begin, furthest)
    return first, np.maximum(end - first, 0)


def _runs(bounds: NDArray[np.int64], first: NDArray[np.int64], count: NDArray[np.int64]) -> pa.ListArray:
    """Lists of structs of `first` and `count`, int32; `bounds` has the position of each list's first struct, and the end."""
    structs = pa.StructArray.from_arrays([pa.array(first, pa.int32()), pa.array(count, pa.int32())], [FIRST, COUNT])
    return pa.ListArray.from_arrays(pa.array(bounds, pa.int32()), structs)


def _short_items(
    data: NDArray[np.uint8], offsets: NDArray[np.int64], matches: Matches, index: Index
) -> Iterator[tuple[int, int, int, int, int]]:
    """Find the short items whose answer is near the whole question: the fields of `_Pairs`."""
    n_words, members = index.ngrams.n_words, index.members
    has_answer = np.concatenate([[0], np.cumsum(np.diff(members.answer_bounds) > 1)])
    is_question = np.diff(has_answer[members.bounds])[matches.text] > 0
    seen, known, words = set(), -1, []
    for match in np.flatnonzero(is_question & (matches.n_words == n_words[matches.text])):
        document, text, begin = int(matches.document[match]), int(matches.text[match]), int(matches.word[match])
        if document != known:
            known, words = document, _words(data, offsets[document : document + 2])
        end = begin + int(n_words[text])
        near = _between(words[max(end - WINDOW, 0) : begin]) + b"\n" + _between(words[end : begin + WINDOW])
        for member in range(members.bounds[text], members.bounds[text + 1]):
            answer = _answer(members, member)
            if answer and (document, member) not in seen and b" " + answer + b" " in near:
                seen.add((document, member))
                n_question = end - begin
                yield document, member, n_question + answer.count(b" ") + 1, n_question, begin


def _answer(members: Members, member: int) -> bytes:
    start, end = members.answer_bounds[member : member + 2]
    return members.answers[start + 1 : end].tobytes()


def _words(data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> list[bytes]:
    """The words of one document."""
    text: bytes = normalised(data, offsets).texts[0].as_py()
    return text[1:].split(b" ")


def _between(words: list[bytes]) -> bytes:
    return b" " + b" ".join(words) + b" "
