"""N-grams that many documents have, against counts made in Python."""

import random
from collections import Counter
from typing import Any

import pytest

from betr_spark.contamination.common import with_action
from betr_spark.schemas import CONTAMINATION

PICK = random.Random(5)


def row(doc_id: str, item: int, runs: list[tuple[int, int]]) -> tuple[Any, ...]:
    return doc_id, f"b{item % 2}", item, 9, 9, 0.5, 3, runs


def firsts(runs: list[tuple[int, int]]) -> list[int]:
    return [first + k for first, count in runs for k in range(count)]


@pytest.mark.parametrize("common", [1, 3, 100])
def test_a_row_is_ignored_if_many_documents_have_each_of_its_ngrams(spark: Any, common: int) -> None:
    rows = []
    for document in range(12):
        for item in PICK.sample(range(3), PICK.randint(1, 3)):
            start, more = PICK.randrange(4), PICK.choice([[], [(9, 1)], [(20, 2)]])
            rows.append(row(f"d{document}", item, [(start, PICK.randint(1, 3)), *more]))
    documents = Counter((item, first) for _, _, item, *_, runs in rows for first in firsts(runs))
    expected = {
        (doc_id, item): "ignored" if all(documents[item, first] > common for first in firsts(runs)) else "drop"
        for doc_id, _, item, *_, runs in rows
    }
    frame = spark.createDataFrame(rows, CONTAMINATION)
    found = with_action(frame, "drop", common=common)
    assert found.columns == [*frame.columns, "action"]
    assert {(r["doc_id"], r["item"]): r["action"] for r in found.collect()} == expected
    assert len(set(expected.values())) == (1 if common == 100 else 2)
