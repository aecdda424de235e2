"""Planted leaks: the forms against a detector of plain lists of words, the figures, and the command."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from plain_detector import words_of

from betr_spark.contamination import evaluation
from betr_spark.contamination.evaluation import FORMS, by_length, evaluate
from betr_spark.contamination.items import Item

HOSTS = [f"On the {n} day, {n + 1} ships left. The wind was low:\nnobody spoke." for n in range(6)]
LEAK = "Anna's ducks lay 16 eggs, 3 are eaten; how many $ (at 2 each) does she earn in a week of seven days?"
WHOLE = ("verbatim", "lines wrapped again", "other case and punctuation", "inside a longer page")


def item(row: int, n_words: int, **parts: str) -> Item:
    return Item("quiz", row, " ".join(f"q{row}w{n}" for n in range(n_words)), **parts)


def is_inside(part: list[str], whole: list[str]) -> bool:
    return any(whole[start : start + len(part)] == part for start in range(len(whole)))


def detects(items: list[Item]) -> Any:
    """A detector of whole items."""

    def detect(texts: Sequence[str]) -> list[dict[str, Any]]:
        return [
            {"doc_id": str(number), "benchmark": "quiz", "item": item.row, "longest_match": 1, "coverage": 1.0}
            for number, text in enumerate(texts)
            for item in items
            if is_inside(words_of(item.text), words_of(text))
        ]

    return detect


@pytest.mark.parametrize("name", FORMS)
def test_a_form_changes_what_it_says_and_nothing_else(name: str) -> None:
    leak = words_of(LEAK)
    for seed in range(50):
        planted = FORMS[name](LEAK, HOSTS, random.Random(seed))
        words = words_of(planted)
        assert is_inside(leak, words) == (name in WHOLE)
        assert (LEAK in planted) == (name == "verbatim" or name == "inside a longer page")
        assert (len(words) > 60) == (name == "inside a longer page")
        changed = {"5 % of the words changed": 1, "10 % of the words changed": 2}.get(name)
        if changed:
            paragraph = max(planted.split("\n\n"), key=lambda text: len(set(text.split()) & set(LEAK.split())))
            pairs = zip(LEAK.split(), paragraph.split(), strict=True)
            assert sum(old != new for old, new in pairs) == changed


def test_recall_is_counted_by_length_and_form_and_documents_with_rows_are_no_hosts() -> None:
    items = [item(0, 9), item(1, 13), item(2, 40), item(3, 2, question="who ran", answer="he"), item(4, 3)]
    documents = {"a": f"so {items[1].text} ended", **{f"d{n}": host for n, host in enumerate(HOSTS)}}
    figures = evaluate(documents, items, detects([items[0], items[1]]), ngram=(8, 13), seed=3)
    assert (figures.n_items, figures.n_without_answer) == (5, 1)
    assert figures.documents_with_rows[:2] == (1, 7)
    assert [(row["doc_id"], row["item"]) for row in figures.rows] == [("a", 1)]
    expected = {
        "fewer than 8 words (question and answer)": (0, 1),
        "8 to 12 words": (1, 1),
        "13 words and more": (1, 2),
    }
    assert {r.words: r.recall[:2] for r in figures.recall if r.form in WHOLE} == expected
    assert {r.recall.n for r in figures.recall if r.form not in WHOLE} == {0}
    assert figures == evaluate(documents, items, detects([items[0], items[1]]), ngram=(8, 13), seed=3)


def test_items_are_grouped_by_the_n_grams_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    items = [item(row, row + 1) for row in range(20)]
    groups, _ = by_length(items, ngram=(5, 5))
    assert {name: len(group) for name, group in groups.items()} == {
        "fewer than 5 words (question and answer)": 0,
        "5 words and more": 16,
    }
    monkeypatch.setattr(evaluation, "MAX_ITEMS", 7)
    figures = evaluate({"d": HOSTS[0]}, items, detects(items), ngram=(5, 5), seed=0)
    assert {recall.recall.of for recall in figures.recall} == {0, 7}


def test_the_command_finds_whole_leaks_and_writes_nothing(run_command: Any, tmp_path: Path) -> None:
    items = [
        {"q": " ".join(f"{word}{n}" for word in ["alpha", "beta", "gamma", "delta"]), "a": f"no {n}"} for n in range(9)
    ]
    items += [{"q": f"{LEAK} {n}", "a": "14"} for n in range(3)]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in items))
    texts = [*HOSTS, f"seen: {items[9]['q'].upper()} 14", None]
    pq.write_table(pa.table({"id": [f"d{n}" for n in range(8)], "text": texts}), tmp_path / "docs.parquet")
    test = {"path": str(tmp_path / "test.jsonl"), "template": "{q} {a}", "question": "{q}", "answer": "{a}"}
    values = {
        "input": {"path": str(tmp_path / "docs.parquet"), "id": "id"}, "output": str(tmp_path / "out"), "scorers": {},
        "selections": {}, "decontaminate": {"tests": {"quiz": test}},
    }  # fmt: skip
    (tmp_path / "conf.yaml").write_text(yaml.safe_dump(values))
    code, out, _ = run_command("decontam-eval", "--config", str(tmp_path / "conf.yaml"), "--json")
    figures = json.loads(out)
    assert (code, figures["n_items"], figures["documents_with_rows"]["n"]) == (0, 12, 1)
    assert figures["rows"][0]["doc_id"] == "d6"
    counts = {(r["words"], r["form"]): (r["recall"]["n"], r["recall"]["of"]) for r in figures["recall"]}
    assert len(counts) == 3 * len(FORMS)
    for form in WHOLE:
        assert counts["fewer than 8 words (question and answer)", form] == (9, 9)
        assert counts["13 words and more", form] == (3, 3)
    assert not (tmp_path / "out").exists()
    del values["decontaminate"]
    (tmp_path / "conf.yaml").write_text(yaml.safe_dump(values))
    code, _, errors = run_command("decontam-eval", "--config", str(tmp_path / "conf.yaml"))
    assert (code, errors) == (
        2, ["error: config.decontaminate: is missing; `betr-spark decontam-eval` requires it"],
    )  # fmt: skip
