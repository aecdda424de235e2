"""Rows against sums over a plain detector; short items; the file of an index."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain_detector import runs_of, words_of

from betr_spark.contamination.index import Index, build_index
from betr_spark.contamination.items import Item
from betr_spark.contamination.matches import find_matches
from betr_spark.contamination.rows import WINDOW, Contamination, contamination_of
from betr_spark.contamination.shared_memory import map_index, write_index
from betr_spark.kernels.arrow_buffers import string_buffers
from betr_spark.schemas import CONTAMINATION

TEXT = "When the quick brown fox jumps over the lazy dog, how many animals are awake?"
texts = st.lists(st.sampled_from(["a", "b", "c", "d", "e", "é", "É"]), max_size=16).map(" ".join)
HAMLET = Item("trivia", 7, "Q: Who wrote Hamlet? A: Shakespeare", "Who wrote Hamlet?", "William Shakespeare")


def found(documents: list[str], index: Index, min_coverage: float) -> Contamination:
    ids, documents = (
        pa.array([f"d{row}" for row in range(len(documents))], pa.string()),
        pa.array(documents, pa.string()),
    )
    matches = find_matches(*string_buffers(documents), index.ngrams)
    return contamination_of(ids, documents, matches, index, min_coverage=min_coverage)


def rows_of(documents: list[str], index: Index, *, min_coverage: float = 0.0) -> list[dict[str, Any]]:
    return found(documents, index, min_coverage).rows.to_pylist()


def hits(documents: list[str], *items: Item) -> list[tuple[str, int]]:
    return [(row["doc_id"], row["item"]) for row in rows_of(documents, build_index(items))]


@given(st.lists(texts, max_size=3), st.lists(texts, max_size=5), st.sampled_from([0.0, 0.5, 1.0]))
def test_rows_are_sums_over_the_plain_detector(documents: list[str], items: list[str], min_coverage: float) -> None:
    benchmarks = [f"b{row % 2}" for row in range(len(items))]
    index = build_index(
        [Item(b, row, text) for row, (b, text) in enumerate(zip(benchmarks, items, strict=True))], n_min=2, n_max=3
    )
    expected = []
    runs = runs_of(documents, items, n_min=2, n_max=3)
    for document, item in sorted({(run.document, run.item) for run in runs}):
        of_pair = [run for run in runs if (run.document, run.item) == (document, item)]
        matched = {run.item_word + k for run in of_pair for k in range(run.n_words)}
        longest, n = max(run.n_words for run in of_pair), min(len(words_of(items[item])), 3)
        coverage = len(matched) / len(words_of(items[item]))
        if coverage >= min_coverage:
            expected.append({
                "doc_id": f"d{document}",
                "benchmark": benchmarks[item],
                "item": item,
                "matched_words": len(matched),
                "longest_match": longest,
                "coverage": float(np.float32(coverage)),
                "position": min(run.word for run in of_pair if run.n_words == longest),
                "ngrams": {k for run in of_pair for k in range(run.item_word, run.item_word + run.n_words - n + 1)},
            })  # fmt: skip
    rows = rows_of(documents, index, min_coverage=min_coverage)
    for row in rows:
        starts = [run["first"] + k for run in row["ngrams"] for k in range(run["count"])]
        assert starts == sorted(set(starts))
        row["ngrams"] = set(starts)
    assert sorted(rows, key=lambda row: (row["doc_id"], row["item"])) == expected


def test_a_row_has_the_columns_of_the_table() -> None:
    batch = found(["x"], build_index([]), 0.0).rows
    types = {"string": "string", "int64": "bigint", "int32": "int", "float": "float"}
    types["list<item: struct<first: int32, count: int32>>"] = "array<struct<first: int, count: int>>"
    assert ", ".join(f"{field.name} {types[str(field.type)]}" for field in batch.schema) == CONTAMINATION


def test_parts_of_an_item_add_up() -> None:
    words = words_of(TEXT)
    document = " ".join(["so", *words[:9], "wrong", *words[4:]])
    rows = rows_of([document, " ".join(words[:9])], build_index([Item("b", 3, TEXT)], n_max=8), min_coverage=0.7)
    assert rows == [
        {
            "doc_id": "d0",
            "benchmark": "b",
            "item": 3,
            "matched_words": 15,
            "longest_match": 11,
            "coverage": 1.0,
            "position": 11,
            "ngrams": [{"first": 0, "count": 2}, {"first": 4, "count": 4}],
        }
    ]


def test_matches_are_those_of_the_rows() -> None:
    words = words_of(TEXT)
    documents = pa.array(
        [" ".join(words[:9]), "who wrote hamlet", TEXT, f"who wrote hamlet? William Shakespeare {TEXT}"]
    )
    index = build_index([HAMLET, Item("b", 3, TEXT)], n_max=8)
    contamination = found(documents, index, 0.7)
    assert contamination.rows.column("doc_id").to_pylist() == ["d2", "d3", "d3"]
    assert contamination.matches.document.tolist() == [2, 3, 3]
    assert contamination.matches.n_words.tolist() == [15, 3, 15]


@pytest.mark.parametrize(
    ("document", "is_hit"),
    [
        ("WHO wrote “Hamlet” ... it was william\nshakespeare!", True),
        ("William Shakespeare is the one who wrote Hamlet.", True),
        ("who wrote hamlet" + " x" * (WINDOW - 5) + " William Shakespeare", True),
        ("who wrote hamlet" + " x" * (WINDOW - 4) + " William Shakespeare", False),
        ("William Shakespeare" + " x" * (WINDOW - 5) + " who wrote hamlet", True),
        ("William Shakespeare" + " x" * (WINDOW - 4) + " who wrote hamlet", False),
        ("who wrote hamlet?" + " x" * 100 + " who wrote hamlet? William Shakespeare", True),
        ("who wrote hamlet? William Shakespeares", False),
        ("who wrote hamlet? Shakespeare, William", False),
        ("who wrote a hamlet? William Shakespeare", False),
        ("Q: Who wrote Hamlet? A: Shakespeare", False),
    ],
)
def test_a_short_item_needs_its_whole_question_and_answer_in_a_window(document: str, is_hit: bool) -> None:
    assert (hits(["", document], HAMLET) == [("d1", 7)]) == is_hit


def test_the_row_of_a_short_item() -> None:
    document = "who wrote hamlet?" + " x" * 100 + " who wrote hamlet? William Shakespeare" * 2
    row = {"benchmark": "trivia", "item": 7, "matched_words": 5, "longest_match": 3, "coverage": 1.0, "position": 103}
    row["ngrams"] = [{"first": 0, "count": 1}]
    assert rows_of([document], build_index([HAMLET]), min_coverage=1.0) == [{"doc_id": "d0", **row}]


def test_question_and_answer_have_no_word_in_common() -> None:
    item = Item("b", 0, "Is it yes or no? No", "Is it yes or no?", "no")
    assert hits(["is it yes or no", "is it yes or no: no", "No, is it yes or no"], item) == [("d1", 0), ("d2", 0)]


def test_short_items_without_an_answer_are_counted_and_not_found() -> None:
    items = [
        HAMLET._replace(row=0, answer=None), HAMLET._replace(row=1, question=None), HAMLET._replace(row=2, answer="?!"), HAMLET,
        Item("b", 3, "..."), Item("b", 4, TEXT),
    ]  # fmt: skip
    index = build_index(items)
    assert (index.n_without_answer, index.n_without_words) == (3, 1)
    assert hits(["who wrote hamlet, william shakespeare"], *items) == [("d0", 7)]


def test_equal_questions_with_different_answers_are_different_items() -> None:
    items = [HAMLET._replace(row=row, answer=answer) for row, answer in enumerate(["Marlowe", "Shakespeare", "Bacon"])]
    assert hits(["Who wrote Hamlet? Not Bacon but Shakespeare."], *items) == [("d0", 1), ("d0", 2)]


def test_a_long_question_of_a_short_text_is_found_by_both_rules() -> None:
    items = [Item("b", 0, "too short", TEXT, "one"), Item("b", 1, TEXT)]
    assert hits([TEXT, f"{TEXT} One", f"{TEXT.removesuffix(' awake?')}: it is one"], *items) == [
        ("d0", 1),
        ("d1", 0),
        ("d1", 1),
        ("d2", 1),
    ]


def test_an_index_mapped_from_its_file_is_the_same(tmp_path: Path) -> None:
    items = [HAMLET, Item("b", 0, TEXT), Item("a", 5, "What is 1 + 1?", "What is 1 + 1?", "2")]
    index = build_index(items)
    description = write_index(index, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [description.name]
    assert write_index(build_index(items), tmp_path) == description  # the name has the hash of the arrays
    mapped = map_index(pickle.loads(pickle.dumps(description)), tmp_path / description.name)
    assert mapped[2:] == index[2:]
    documents = [TEXT, "What is 1 + 1? 2, and who wrote Hamlet? William Shakespeare"]
    assert len(rows_of(documents, mapped)) == 3
    assert rows_of(documents, mapped) == rows_of(documents, index)
