"""Recall of the detector by the length of the item, on leaks that are planted in documents: forms of leaks, and figures."""

import itertools
import random
import re
import textwrap
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from betr_spark.contamination.items import Item, normalised
from betr_spark.intervals import Rate
from betr_spark.kernels.arrow_buffers import string_buffers
from betr_spark.schemas import BENCHMARK, COVERAGE, DOC_ID, ITEM, LONGEST_MATCH

MAX_ITEMS = 500  # of each length; if all of them are found, the lower end of the interval is above 0.99
_MAX_SHOWN = 20
_PAGE_DOCUMENTS = 5
_BETWEEN = 200  # characters
_MARKS = ".,;:!?()*/"
_GAP = re.compile(r"\s+")

Form = Callable[[str, Sequence[str], random.Random], str]
Detector = Callable[[Sequence[str]], Sequence[Mapping[str, Any]]]


def verbatim(leak: str, hosts: Sequence[str], pick: random.Random) -> str:
    """Plant a leak as a paragraph of a document."""
    before, after = _cut(hosts[0], pick)
    return f"{before}\n\n{leak}\n\n{after}"


def rewrapped(leak: str, hosts: Sequence[str], pick: random.Random) -> str:
    """Break the lines at another width, and only there."""
    lines = textwrap.wrap(leak, pick.randint(20, 60), break_long_words=False, break_on_hyphens=False)
    return verbatim("\n".join(lines), hosts, pick)


def recased(leak: str, hosts: Sequence[str], pick: random.Random) -> str:
    """Change the case, and replace each punctuation mark and symbol by another mark; no mark is added or deleted."""
    changed = pick.choice([str.upper, str.lower, str.swapcase])(leak)
    is_mark = [unicodedata.category(character)[0] in "PS" for character in changed]
    characters = [pick.choice(_MARKS) if mark else old for old, mark in zip(changed, is_mark, strict=True)]
    return verbatim("".join(characters), hosts, pick)


def embedded(leak: str, hosts: Sequence[str], pick: random.Random) -> str:
    """Put a leak, as part of a line, inside a page of several documents."""
    before, after = _cut(" ".join(hosts), pick)
    return f"{before} {leak} {after}"


def split_over_paragraphs(leak: str, hosts: Sequence[str], pick: random.Random) -> str:
    """Cut a leak into two paragraphs with one of another document between them."""
    words = leak.split()
    cut = pick.randint(1, max(len(words) - 1, 1))
    before, after = _cut(hosts[0], pick)
    return "\n\n".join([before, " ".join(words[:cut]), hosts[1][:_BETWEEN], " ".join(words[cut:]), after])


def _with_changed_words(share: float) -> Form:
    def changed(leak: str, hosts: Sequence[str], pick: random.Random) -> str:
        words = leak.split()
        replacements = [word for word in hosts[0].split() if word.isalpha()] or ["something"]
        for position in pick.sample(range(len(words)), max(1, round(share * len(words)))):
            others = [word for word in replacements if word.lower() not in words[position].lower()] or ["something"]
            words[position] = pick.choice(others)
        return verbatim(" ".join(words), hosts, pick)

    return changed


FORMS: dict[str, Form] = {
    "verbatim": verbatim,
    "lines wrapped again": rewrapped,
    "other case and punctuation": recased,
    "inside a longer page": embedded,
    "split over paragraphs": split_over_paragraphs,
    "5 % of the words changed": _with_changed_words(0.05),
    "10 % of the words changed": _with_changed_words(0.10),
}


class FormRecall(NamedTuple):
    """Of the items of one length that were planted in one form, those that were found."""

    words: str
    form: str
    recall: Rate


class Evaluation(NamedTuple):
    """Figures of the detector.

    Attributes:
        n_items: test items of the configuration.
        n_without_answer: items of few words without a question and an answer, which are not looked for.
        recall: by length of the item and by form.
        documents_with_rows: of the sampled documents as they are, those that have rows.
        rows: the first rows of these documents.
    """

    n_items: int
    n_without_answer: int
    recall: list[FormRecall]
    documents_with_rows: Rate
    rows: list[dict[str, Any]]

    def lines(self) -> list[str]:
        """Return the figures as lines of text."""
        lines = [f"recall: planted test items ({self.n_items} in all) that are found, by words of the item"]
        if self.n_without_answer:
            lines.append(
                f"{self.n_without_answer} items of few words are not looked for: without `question` and `answer`"
            )
        for words, group in itertools.groupby(self.recall, lambda figures: figures.words):
            rows = [f"  {form:27} {recall}" for _, form, recall in group if recall.of]
            lines += [words, *(rows or ["  no items"])]
        lines.append(f"documents with rows before an item is planted, to be read: {self.documents_with_rows}")
        for row in self.rows:
            match = f"{row[LONGEST_MATCH]} words in a row, coverage {row[COVERAGE]:.2f}"
            lines.append(f"  {row[DOC_ID]}: item {row[ITEM]} of {row[BENCHMARK]}, {match}")
        return lines


def evaluate(
    documents: Mapping[str, str], items: Sequence[Item], detect: Detector, *, ngram: tuple[int, int], seed: int
) -> Evaluation:
    """Plant a sample of the items in documents in every form, and count those that the detector finds.

    Items are planted in documents that have no row as they are. The same input and seed give the same figures.

    Args:
        documents: texts by doc_id, at least one.
        items: all test items that `detect` looks for.
        detect: returns rows of `contamination` for texts; the doc_id of a row is the position of the text.
        ngram: an item of fewer words than the first number is short, and found by its question and answer; one of at least
            the second number has several n-grams.
        seed: of the sample of items, and of where and how they are planted.
    """
    ids, texts = list(documents), list(documents.values())
    before = detect(texts)
    with_rows = {int(row[DOC_ID]) for row in before}
    hosts = [text for number, text in enumerate(texts) if number not in with_rows] or [""]
    groups, n_without_answer = by_length(items, ngram=ngram)
    recall = []
    for words, group in groups.items():
        sampled = random.Random(f"{seed}: {words}").sample(group, min(len(group), MAX_ITEMS))  # noqa: S311
        for name, form in FORMS.items():
            planted = [_planted(form, item, hosts, f"{seed}: {name}: {item.benchmark}: {item.row}") for item in sampled]
            rows = {(int(row[DOC_ID]), row[BENCHMARK], row[ITEM]) for row in detect(planted)}
            n_found = sum((number, item.benchmark, item.row) in rows for number, item in enumerate(sampled))
            recall.append(FormRecall(words, name, Rate.of_counts(n_found, len(sampled))))
    shown = [{**row, DOC_ID: ids[int(row[DOC_ID])]} for row in before[:_MAX_SHOWN]]
    return Evaluation(len(items), n_without_answer, recall, Rate.of_counts(len(with_rows), len(texts)), shown)


def by_length(items: Sequence[Item], *, ngram: tuple[int, int]) -> tuple[dict[str, list[Item]], int]:
    """Group the items that are looked for by their words; also count the short ones without a question and an answer.

    The text of a short item becomes its question and answer, which is how it is planted.
    """
    short, long = ngram
    n_words, n_question, n_answer = (
        normalised(*string_buffers(pa.array(texts, pa.large_string()))).n_words
        for texts in (
            [item.text for item in items],
            [item.question or "" for item in items],
            [item.answer or "" for item in items],
        )
    )
    names = _names(short, long)
    groups: dict[str, list[Item]] = {name: [] for name in names}
    n_without_answer = 0
    for number, item in enumerate(items):
        if n_words[number] >= short:
            groups[names[1 if n_words[number] < long else -1]].append(item)
        elif n_question[number] and n_answer[number]:
            groups[names[0]].append(item._replace(text=f"{item.question}\n{item.answer}"))
        else:
            n_without_answer += int(n_words[number] > 0)
    return groups, n_without_answer


def _names(short: int, long: int) -> list[str]:
    middle = [f"{short} to {long - 1} words"] if short < long else []
    return [f"fewer than {short} words (question and answer)", *middle, f"{long} words and more"]


def _planted(form: Form, item: Item, hosts: Sequence[str], seed: str) -> str:
    pick = random.Random(seed)  # noqa: S311
    return form(item.text, [pick.choice(hosts) for _ in range(_PAGE_DOCUMENTS)], pick)


def _cut(text: str, pick: random.Random) -> tuple[str, str]:
    """Cut a text at one of its gaps between words, or at its ends."""
    start, end = pick.choice([(0, 0), *(gap.span() for gap in _GAP.finditer(text)), (len(text), len(text))])
    return text[:start], text[end:]
