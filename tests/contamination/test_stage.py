"""Stage `decontaminate` in whole runs: rows, what is looked at again, and that no selection has a document with a test item."""

import json
import random
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import functions as F

from betr_spark.config import Config, DecontaminateConfig
from betr_spark.contamination.test_files import item_problems, read_items
from betr_spark.errors import DataError
from betr_spark.pipeline.run import run_all, stages_after_forget
from betr_spark.pipeline.runner import run_stages
from betr_spark.pipeline.stage import RunContext
from betr_spark.report.figures import selection_figures
from betr_spark.storage import delta
from betr_spark.upkeep.forget import Forget

PICK = random.Random(3)
WORDS = [f"{a}{b}" for a in ("ma", "ne", "ti", "so", "ru", "le") for b in ("ra", "ko", "la", "mi", "tu", "ne", "vo")]


def sentence(n: int) -> str:
    return " ".join(PICK.choice(WORDS) + str(PICK.randrange(50)) for _ in range(n))


ITEMS = [{"question": sentence(15), "answer": sentence(3)} for _ in range(4)] + [
    {"question": "who ran", "answer": "he"}
]
TRAIN = [{"question": sentence(12), "answer": sentence(3)} for _ in range(6)]


def write_json(path: Path, rows: list[dict[str, str]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def documents(folder: Path, name: str, texts: dict[str, str]) -> None:
    (folder / "docs").mkdir(exist_ok=True)
    columns = {"id": list(texts), "text": list(texts.values()), "quality": [float(n) for n in range(len(texts))]}
    pq.write_table(pa.table(columns), folder / f"docs/{name}.parquet")


def leak(item: int) -> str:
    """An item in a page, with other lines, case and punctuation."""
    words = f"{ITEMS[item]['question']} {ITEMS[item]['answer']}".upper().split()
    return f"{sentence(30)}.\n{', '.join(words[:7])}\n\n{'  '.join(words[7:])}! {sentence(20)}"


def configured(folder: Path, **settings: Any) -> Config:
    template = "{question}\n{answer}"
    target = {
        "path": write_json(folder / "train.jsonl", TRAIN), "template": template,
        "test": write_json(folder / "test.jsonl", ITEMS),
    }  # fmt: skip
    return Config.model_validate({
        "input": {"path": str(folder / "docs"), "id": "id"}, "output": str(folder / "out"), "targets": {"quiz": target},
        "decontaminate": settings, "sample": {"documents": 40},
        "scorers": {"quality": {"kind": "expression", "column": "quality"}},
        "selections": {"best": {"scorer": "quality", "keep": {"documents": 10}}},
    })  # fmt: skip


def rows_of(spark: Any, config: Config) -> list[tuple[Any, ...]]:
    found = delta.read(spark, config.table("contamination")).orderBy("doc_id", "item").collect()
    return [
        tuple(row[name] for name in ("doc_id", "benchmark", "item", "longest_match", "coverage", "action"))
        for row in found
    ]


def selected(spark: Any, config: Config) -> list[str]:
    return [row["doc_id"] for row in delta.read(spark, config.table("selected/best")).orderBy("rank").collect()]


def test_documents_with_test_items_are_found_once_and_dropped_by_action(spark: Any, tmp_path: Path) -> None:
    texts = {f"d{n:02d}": sentence(40) for n in range(30)}
    texts |= {"d28": leak(0), "d27": leak(1), "d26": f"who ran? it was he. {sentence(9)}", "d03": leak(1)}
    documents(tmp_path, "a", texts)
    config = configured(tmp_path)
    done = {run.stage: run for run in run_all(spark, config)}
    expected = [("d03", 1), ("d27", 1), ("d28", 0)]
    assert rows_of(spark, config) == [(doc_id, "quiz", item, 18, 1.0, "report") for doc_id, item in expected]
    metrics = done["decontaminate"].metrics
    assert (metrics["items"], metrics["items_without_answer"], metrics["documents_contaminated"]) == (5, 1, 3)
    assert (metrics["documents_new"], metrics["documents_read"]) == (30, 0)
    assert selected(spark, config) == [f"d{n}" for n in range(29, 19, -1)]
    for amplified in selection_figures(spark, config, ["best"])["best"].contamination or []:
        assert (amplified.pool[:2], amplified.selected[:2]) == ((3, 30), (2, 10))
        assert amplified.ratio == pytest.approx(2.0)
        assert 0 < amplified.low < 2 < amplified.high <= 3

    dropping = configured(tmp_path, action="drop")
    with pytest.raises(DataError, match="contamination: is missing or not up to date; run `betr-spark decontaminate`"):
        run_all(spark, dropping, "select")
    done = {run.stage: run for run in run_all(spark, dropping)}
    assert selected(spark, dropping) == ["d29", *[f"d{n}" for n in range(26, 17, -1)]]
    figures = selection_figures(spark, dropping, ["best"])["best"]
    assert [row.benchmark for row in figures.contamination or []] == ["(any)", "quiz"]
    assert [row.selected[:2] for row in figures.contamination or []] == [(0, 10), (0, 10)]
    assert "  `action: drop` leaves them out of the selection" in figures.lines()
    assert figures.to_mapping()["contamination_action"] == "drop"
    assert done["select/best"].dropped["contaminated"] == 3
    assert sum(done["select/best"].dropped.values()) == 20
    assert done["features"].skipped

    documents(tmp_path, "b", {"e1": leak(2), "e2": sentence(40)})  # only the new ones are looked at
    done = {run.stage: run for run in run_all(spark, dropping)}
    metrics = done["decontaminate"].metrics
    assert (metrics["documents_new"], metrics["documents_read"]) == (2, 0)
    expected.append(("e1", 2))
    assert rows_of(spark, dropping) == [(doc_id, "quiz", item, 18, 1.0, "drop") for doc_id, item in expected]

    (tmp_path / "ids").write_text("d27\n")
    run_stages(
        RunContext(spark, dropping),
        [Forget(str(tmp_path / "ids"), copies=False, why=""), *stages_after_forget(dropping)],
    )
    assert [row[:3:2] for row in rows_of(spark, dropping)] == [("d03", 1), ("d28", 0), ("e1", 2)]


def test_common_words_of_an_item_leave_documents_in(
    spark: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    page = f"{ITEMS[0]['question']} and more"
    texts = {f"d{n}": f"{page} {sentence(30)}" for n in range(3)} | {"d3": leak(0), "d4": leak(1), "d5": sentence(50)}
    documents(tmp_path, "a", texts)
    config = configured(tmp_path, action="drop", common=3)
    done = {run.stage: run for run in run_all(spark, config)}
    actions = {"d0": "ignored", "d1": "ignored", "d2": "ignored", "d3": "drop", "d4": "drop"}
    assert {row[0]: row[-1] for row in rows_of(spark, config)} == actions
    metrics = done["decontaminate"].metrics
    assert (metrics["documents_contaminated"], metrics["items_found"], metrics["rows_ignored"]) == (2, 2, 3)
    assert "items are ignored wherever" not in caplog.text
    assert sorted(selected(spark, config)) == ["d0", "d1", "d2", "d5"]
    assert [row.pool[:2] for row in selection_figures(spark, config, ["best"])["best"].contamination or []] == [
        (2, 6),
        (2, 6),
    ]
    other = configured(tmp_path, action="drop", common=9)
    done = {run.stage: run for run in run_all(spark, other)}
    assert done["decontaminate"].metrics["documents_read"] == 0
    assert {row[0]: row[-1] for row in rows_of(spark, other)} == dict.fromkeys(actions, "drop")
    documents(tmp_path, "b", {"d6": f"{page} {sentence(30)}", "d7": leak(1)})
    run_all(spark, config)
    actions |= {"d6": "ignored", "d7": "drop"}
    assert {row[0]: row[-1] for row in rows_of(spark, config)} == actions
    run_all(spark, configured(tmp_path, common=1), "decontaminate")
    assert "1 items are ignored wherever they occur, for example item 2 of quiz: more than 1 documents" in caplog.text


def test_drop_leaves_out_only_documents_with_test_items(spark: Any, tmp_path: Path) -> None:
    texts = {f"d{n:02d}": sentence(40) for n in range(20)} | {"d18": leak(0), "d12": leak(1), "d05": leak(2)}
    documents(tmp_path, "a", texts)
    rows = {}
    for action in ("report", "drop"):
        config = configured(tmp_path, action=action)
        config = Config.model_validate({
            **config.model_dump(),
            "selections": {
                "best": {"scorer": "quality", "keep": {"documents": 10}}, "all": {"scorer": "quality", "keep": {"documents": 99}}
            },
        })  # fmt: skip
        run_all(spark, config)
        tables = [delta.read(spark, config.table(f"selected/{name}")) for name in ("best", "all")]
        rows[action] = [[r.asDict() for r in table.orderBy("rank").collect()] for table in tables]
        if action == "drop":
            contaminated = {r["doc_id"] for r in delta.read(spark, config.table("contamination")).collect()}
    assert contaminated == {"d18", "d12", "d05"}
    clean = [row for row in rows["report"][1] if row["doc_id"] not in contaminated]
    clean = [{**row, "rank": rank} for rank, row in enumerate(clean, 1)]
    assert rows["drop"][1] == clean
    assert rows["drop"][0] == clean[:10]


def test_tables_of_an_older_version_get_the_columns_that_they_lack(spark: Any, tmp_path: Path) -> None:
    documents(tmp_path, "a", {"a": leak(0), "b": sentence(40)})
    config = configured(tmp_path)
    run_all(spark, config)
    for name in ("_test_items", "contamination"):
        old = delta.read(spark, config.table(name)).drop("ngrams")
        old = old.withColumn("looked_for", F.lit("before")) if name == "_test_items" else old
        delta.overwrite(old.localCheckpoint(), config.table(name), user_metadata="{}")
    documents(tmp_path, "b", {"c": leak(1)})
    done = {run.stage: run for run in run_all(spark, config)}
    assert [row[:3] for row in rows_of(spark, config)] == [("a", "quiz", 0), ("c", "quiz", 1)]
    assert done["decontaminate"].metrics["documents_read"] == 2


def test_the_sample_has_no_document_with_a_test_item(spark: Any, tmp_path: Path) -> None:
    texts = {"d0": leak(0), "d1": sentence(40), "d2": sentence(40)}
    documents(tmp_path, "a", texts)
    config = configured(tmp_path, action="drop")
    config = Config.model_validate({**config.model_dump(), "scorers": {"dsir": {"kind": "dsir"}}, "selections": {}})
    (run,) = run_all(spark, config, "rank")
    assert run.dropped["contaminated"] == 1
    assert {row["doc_id"] for row in delta.read(spark, config.table("_sample")).collect()} == {"d1", "d2"}
    kept = config.model_copy(update={"decontaminate": DecontaminateConfig()})
    (run,) = run_all(spark, kept, "rank")
    assert {row["doc_id"] for row in delta.read(spark, kept.table("_sample")).collect()} == set(texts)


def test_other_items_are_looked_for_in_all_documents_without_new_features(
    spark: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TRAIN[2], "question", ITEMS[1]["question"])
    documents(tmp_path, "a", {"a": leak(0), "b": f"who ran home was it he {sentence(20)}", "c": sentence(50)})
    more = {"path": write_json(tmp_path / "more.jsonl", ITEMS), "template": "{question} {answer}"}
    parts = {"question": "{question}", "answer": "{answer}"}
    config = configured(tmp_path, tests={"more": {**more, **parts}})
    run_all(spark, config)
    assert (
        "targets.quiz: 1 of 6 examples contain test items, for example example 3, item 2 of quiz (15 words in a row)"
        in (caplog.text)
    )
    assert sorted(row[:3] for row in rows_of(spark, config)) == [("a", "more", 0), ("a", "quiz", 0), ("b", "more", 4)]
    version = delta.newest_version(spark, config.table("features"))
    other = configured(tmp_path)
    done = {run.stage: run for run in run_all(spark, other)}
    assert done["features"].skipped
    assert done["decontaminate"].metrics["documents_read"] == 3
    assert delta.newest_version(spark, config.table("features")) == version
    assert [row[:3] for row in rows_of(spark, other)] == [("a", "quiz", 0)]


def test_settings_of_decontaminate_are_checked(spark: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ngram: \[13, 8\]: the first number is above the second"):
        configured(tmp_path, ngram=[13, 8])
    rows = [*ITEMS, {"question": "", "answer": "he"}]
    more = {"path": write_json(tmp_path / "more.jsonl", rows), "question": "{question}", "answer": "{answer}"}
    config = configured(tmp_path, tests={"more": {**more, "template": "{question} {answer}"}})
    assert [item.question for item in read_items(spark, config)][-1] == ""  # such an item is not looked for
    config = configured(tmp_path, tests={"more": {**more, "template": "{question}"}})
    wrong = r"more.jsonl: line 6: decontaminate.tests.more.template gives an empty example; remove the row"
    assert [bool(re.search(wrong, line)) for line in item_problems(spark, config)] == [True]
    with pytest.raises(ValueError, match="question and answer are required together"):
        configured(tmp_path, tests={"t": {"path": "t", "template": "{q}", "question": "{q}"}})
    values = {"input": {"path": "d"}, "output": "o", "scorers": {}, "selections": {}, "decontaminate": {}}
    with pytest.raises(
        ValueError, match="decontaminate: no test file; set `test` or `split` of a target, or `decontaminate.tests`"
    ):
        Config.model_validate(values)
