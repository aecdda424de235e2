"""Test items of benchmarks, and their normalised texts: the words that documents are compared with.

A word is a token of `kernels.shingle_tokens` with its case folded, so case, punctuation, white space and line breaks do not
matter, and each character of a script without spaces is a word.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from betr_spark.kernels.arrow_buffers import string_buffers
from betr_spark.kernels.case_folding import fold_case
from betr_spark.kernels.jit import jit
from betr_spark.kernels.shingle_tokens import token_marks
from betr_spark.kernels.shingles import SLICE_BYTES
from betr_spark.kernels.token_runs import end_of_slice, token_runs

NEW_LINE, SPACE = np.uint8(ord("\n")), np.uint8(ord(" "))


class Item(NamedTuple):
    """A test item. `row` is its row in the benchmark's file, as in `targets.examples.Example`.

    A text of few words is found by `question` and `answer`, without the template around them.
    """

    benchmark: str
    row: int
    text: str
    question: str | None = None
    answer: str | None = None


class Members(NamedTuple):
    """The m test items of n distinct texts; items of equal words share a text.

    Attributes:
        bounds: position of each text's first item, int64 [n + 1].
        benchmark: position in the sorted names of the benchmarks, int32 [m].
        row: row in the benchmark's file, int64 [m].
        answers: the normalised answers of short items, uint8; of other items a line break alone.
        answer_bounds: bytes of each item's answer, int64 [m + 1].
    """

    bounds: NDArray[np.int64]
    benchmark: NDArray[np.int32]
    row: NDArray[np.int64]
    answers: NDArray[np.uint8]
    answer_bounds: NDArray[np.int64]


class DistinctTexts(NamedTuple):
    """What is looked for: the texts of items, and the questions of short items.

    Attributes:
        texts: normalised texts, uint8; each begins with a line break, and one more follows the last.
        bounds: position of each line break, int64 [n + 1].
        n_words: int64 [n].
        members: the items of each text.
        n_without_words: items that have no word; they cannot be found.
        n_without_answer: short items without the words of a question or of an answer, which are not looked for.
    """

    texts: NDArray[np.uint8]
    bounds: NDArray[np.int64]
    n_words: NDArray[np.int64]
    members: Members
    n_without_words: int
    n_without_answer: int


def distinct_texts(items: Sequence[Item], benchmarks: Sequence[str], *, n_min: int) -> DistinctTexts:
    """Normalise the items, and give equal texts one entry.

    The texts are in ascending order of min(words, n_min), then in the order of their first item.

    Args:
        items: in any order, on which the order of the texts depends.
        benchmarks: the names of the items' benchmarks.
        n_min: an item of fewer words is short.
    """
    whole = normalised(*string_buffers(pa.array([item.text for item in items], pa.large_string())))
    short = (whole.n_words > 0) & (whole.n_words < n_min)
    questions, answers = (
        normalised(*string_buffers(pa.array(texts, pa.large_string())))
        for texts in (
            [item.question or "" if is_short else "" for item, is_short in zip(items, short, strict=True)],
            [item.answer or "" if is_short else "" for item, is_short in zip(items, short, strict=True)],
        )
    )
    unanswered = short & ((questions.n_words == 0) | (answers.n_words == 0))
    rows = np.flatnonzero((whole.n_words > 0) & ~unanswered)
    keys = pa.concat_arrays([whole.texts, questions.texts]).take(pa.array(rows + np.where(short, len(items), 0)[rows]))
    encoded = keys.dictionary_encode()
    n_words = np.where(short, questions.n_words, whole.n_words)[rows]
    text_of_row = encoded.indices.to_numpy().astype(np.int64)
    words_of_text = np.zeros(len(encoded.dictionary), np.int64)
    words_of_text[text_of_row] = n_words
    order = np.argsort(np.minimum(words_of_text, n_min), kind="stable")
    position = np.empty(len(order), np.int64)
    position[order] = np.arange(len(order))
    texts = pa.concat_arrays([encoded.dictionary.take(pa.array(order)), pa.array([b"\n"], pa.large_binary())])
    data, bounds = string_buffers(texts)
    by_text = np.argsort(position[text_of_row], kind="stable")
    numbers = {name: number for number, name in enumerate(benchmarks)}
    answer_data, answer_bounds = string_buffers(answers.texts.take(pa.array(rows[by_text])))
    members = Members(
        np.searchsorted(position[text_of_row][by_text], np.arange(len(order) + 1)).astype(np.int64),
        np.array([numbers[items[row].benchmark] for row in rows[by_text]], np.int32),
        np.array([items[row].row for row in rows[by_text]], np.int64),
        answer_data,
        answer_bounds,
    )
    return DistinctTexts(
        data, bounds[:-1], words_of_text[order], members, int((whole.n_words == 0).sum()), int(unanswered.sum())
    )


class Normalised(NamedTuple):
    """Normalised texts as a large_binary column, and the words of each, int64 [n]."""

    texts: pa.Array
    n_words: NDArray[np.int64]


def normalised(data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> Normalised:
    """Write each text as a line break and its words, case folded, with a space between two words."""
    content, bounds, n_words = _normalise(data, offsets)
    buffers: list[Any] = [None, pa.py_buffer(bounds), pa.py_buffer(content)]
    return Normalised(pa.Array.from_buffers(pa.large_binary(), len(n_words), buffers), n_words)


class Words(NamedTuple):
    """The words of a slice of documents.

    Attributes:
        folded: the bytes of the documents, case folded, uint8.
        changed: whether a character that is not ASCII has changed.
        bounds: first byte of each document, and the end, int64 [n + 1].
        first: position of each document's first word, and the number of words, int64 [n + 1].
        starts: first byte of each word, int32 [words].
        lengths: bytes of each word, int32 [words].
    """

    folded: NDArray[np.uint8]
    changed: bool
    bounds: NDArray[np.int64]
    first: NDArray[np.int64]
    starts: NDArray[np.int32]
    lengths: NDArray[np.int32]


@jit
def words_of_slice(data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> Words:
    """Fold the case of a few documents, and find their words."""
    folded, changed = fold_case(data[offsets[0] : offsets[-1]])
    bounds = offsets - offsets[0]
    marks, breaks = token_marks(folded, bounds)
    first, starts, lengths = token_runs(marks, breaks, bounds, 0)
    return Words(folded, changed, bounds, first, starts, lengths)


@jit
def _normalise(
    data: NDArray[np.uint8], offsets: NDArray[np.int64]
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    n = len(offsets) - 1
    content = np.empty(2 * (offsets[n] - offsets[0]) + n, np.uint8)  # entries that are not written to cost no memory
    bounds, n_words, at, a = np.zeros(n + 1, np.int64), np.zeros(n, np.int64), 0, 0
    while a < n:
        b = end_of_slice(offsets, a, SLICE_BYTES)
        folded, _, _, first, starts, lengths = words_of_slice(data, offsets[a : b + 1])
        for document in range(b - a):
            content[at] = NEW_LINE
            at += 1
            for word in range(first[document], first[document + 1]):
                if word > first[document]:
                    content[at] = SPACE
                    at += 1
                for k in range(lengths[word]):
                    content[at + k] = folded[starts[word] + k]
                at += lengths[word]
            bounds[a + document + 1] = at
            n_words[a + document] = first[document + 1] - first[document]
        a = b
    return content[:at].copy(), bounds, n_words
