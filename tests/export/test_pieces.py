"""Pieces of contaminated documents are documents of the next run."""

import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from betr_spark.config import Config
from betr_spark.contamination.cutting import cut_documents
from betr_spark.contamination.index import build_index
from betr_spark.contamination.items import Item
from betr_spark.errors import DataError, SchemaError
from betr_spark.export.pieces import check_columns, problems, write_pieces
from betr_spark.pipeline.run import run_all, stages_after_forget
from betr_spark.pipeline.runner import run_stages
from betr_spark.pipeline.stage import RunContext
from betr_spark.storage import delta
from betr_spark.upkeep.forget import Forget

ITEM = "When the quick brown fox jumps over the lazy dog, how many animals are awake?"
PICK = random.Random(5)


def words(n: int) -> str:
    return " ".join("".join(PICK.choice("abcdefgh") for _ in range(6)) for _ in range(n))


LEAK = f"{words(400)} {ITEM} {words(70)}"  # the first piece is nearly the whole document
TEXTS = {"a": words(300), "b": LEAK, "c": words(50), "d": f"{words(5)} {ITEM}"}
UNLISTABLE = "a\nc"  # as lines, the ids of two other documents
HALVES = f"{words(150)} {ITEM} {words(150)}"


def configured(folder: Path, source: dict[str, Any], **more: Any) -> Config:
    (folder / "items.jsonl").write_text(json.dumps({"q": ITEM}) + "\n")
    return Config.model_validate({
        "input": {"path": str(folder / "docs"), **source}, "output": str(folder / "out"), "scorers": {},
        "decontaminate": {"action": "drop", "tests": {"quiz": {"path": str(folder / "items.jsonl"), "template": "{q}"}}},
        "selections": {"all": {"scorer": "random", "keep": {"token_fraction": 1.0}}}, **more,
    })  # fmt: skip


def selected(spark: Any, config: Config) -> dict[str, str]:
    return {row["doc_id"]: row["text"] for row in delta.read(spark, config.table("selected/all")).collect()}


def test_pieces_are_taken_in_by_the_next_run_and_written_once(spark: Any, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    ((piece, _),) = cut_documents(
        pa.array(["f"]), pa.array([HALVES]), build_index([Item("quiz", 0, ITEM)]), min_coverage=0.0
    )["pieces"].to_pylist()
    texts = {
        **TEXTS, UNLISTABLE: f"{words(100)} {ITEM} {words(100)}", "e": f"{words(100)} {ITEM} {words(100)}", "e#1": words(60),
        "f": HALVES, "f#1": piece,
    }  # fmt: skip
    columns = {
        "id": list(texts),
        "text": list(texts.values()),
        "url": [f"u/{name}" for name in texts],
        "quality": list(range(1, len(texts) + 1)),
        "year": list(range(2024, 2024 + len(texts))),
    }
    pq.write_table(pa.table(columns), tmp_path / "docs/a.parquet")
    numbers = {"scorers": {"quality": {"kind": "expression", "column": "quality"}}}
    config = configured(tmp_path, {"id": "ID", "source": "year", "columns": {"key": "id", "url": "url"}}, **numbers)
    with pytest.raises(DataError, match="run `betr-spark decontaminate`"):
        write_pieces(RunContext(spark, config), str(tmp_path / "docs/pieces"), str(tmp_path / "cut.txt"))
    run_all(spark, config)
    assert sorted(selected(spark, config)) == ["a", "c", "e#1", "f#1"]
    written = write_pieces(RunContext(spark, config), str(tmp_path / "docs/pieces"), str(tmp_path / "cut.txt"))
    assert written[1:] == (5, 4, 0, 3, 0, 0, 1, 1, 1)
    assert "1 of them have no pieces: their ids have line breaks" in written.lines()[1]
    assert written.lines()[2] == "1 of them have no pieces: other documents have the ids of the pieces"
    assert sorted(path.name for path in (tmp_path / "docs").iterdir()) == ["a.parquet", "pieces"]
    assert (tmp_path / "cut.txt").read_text() == "b\nf\n"  # of 'e', a piece would have the id of 'e#1'
    (tmp_path / "cut.txt").write_text("b\nf\nno such document\n")  # people edit it
    forget = [Forget(str(tmp_path / "cut.txt"), copies=False, why="cut")]
    run_stages(RunContext(spark, config), [*forget, *stages_after_forget(config)])
    context = RunContext(spark, config)
    assert "folder that does not exist" in next(
        problems(context, str(tmp_path / "docs/pieces"), str(tmp_path / "more.txt"))
    )
    secret = "s3a://KEY:SECRET@bucket/x"
    assert [line.partition(";")[0] for line in problems(context, secret, "ids.txt")] == [
        "--to: a path with credentials in it"
    ]

    run_all(spark, config)
    kept = selected(spark, config)
    assert sorted(kept) == ["a", "b#1", "b#2", "c", "e#1", "f#1", "f#2"]
    assert LEAK.startswith(kept["b#1"])
    assert LEAK.endswith(kept["b#2"])
    rows = delta.read(spark, config.table("selected/all")).where("doc_id like 'b#%'").collect()
    assert {row["url"] for row in rows} == {"u/b"}
    assert {(row["key"], row["source"]) for row in rows} == {("b#1", "2025"), ("b#2", "2025")}
    features = delta.read(spark, config.table("features")).where("doc_id like 'b#%'").collect()
    assert {row["logit_quality"] for row in features} == {2.0}
    again = write_pieces(RunContext(spark, config), str(tmp_path / "docs/more"), str(tmp_path / "more.txt"))
    assert (again.documents, again.pieces, again.id_taken) == (3, 0, 1)
    assert again.lines()[-1] == "nothing to write"
    assert not (tmp_path / "docs/more").exists()


@pytest.mark.parametrize("has_id", [True, False])
def test_pieces_of_nested_json_have_its_shape(spark: Any, tmp_path: Path, has_id: bool) -> None:
    (tmp_path / "docs").mkdir()
    rows = [
        {"doc": {"body": text, "from": "web"}, "meta": {"id": name, "lang": "en"}, "good": 0.5}
        for name, text in TEXTS.items()
    ]
    (tmp_path / "docs/a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = {"format": "json", "text": "doc.body", "source": "doc.from", "columns": {"language": "meta.lang"}}
    numbers = {"scorers": {"good": {"kind": "expression", "column": "good"}}}
    config = configured(tmp_path, {**source, **({"id": "meta.id"} if has_id else {})}, **numbers)
    run_all(spark, config)
    write_pieces(RunContext(spark, config), str(tmp_path / "docs/pieces"), str(tmp_path / "cut.txt"))
    lines = [line for file in (tmp_path / "docs/pieces").glob("*.json") for line in file.read_text().splitlines()]
    pieces = [json.loads(line) for line in lines]
    assert sorted(pieces[0]) == ["doc", "good", "meta"]
    assert {piece["good"] for piece in pieces} == {0.5}  # a number, not a string
    assert {piece["doc"]["from"] for piece in pieces} == {"web"}
    assert {piece["meta"].pop("lang") for piece in pieces} == {"en"}
    assert [piece["meta"] for piece in pieces] == ([{"id": "b#1"}, {"id": "b#2"}] if has_id else [{}, {}])
    if has_id:  # the other test runs again
        with pytest.raises(DataError, match="could not be given this name"):
            write_pieces(RunContext(spark, config), str(tmp_path / "docs/pieces"), str(tmp_path / "more.txt"))
        assert sorted(path.name for path in tmp_path.iterdir()) == ["cut.txt", "docs", "items.jsonl", "out"]
        return
    run_all(spark, config)
    again = write_pieces(RunContext(spark, config), str(tmp_path / "docs/more"), str(tmp_path / "more.txt"))
    assert (again.pieces, again.known) == (0, 2)
    assert again.lines()[-1] == "nothing to write; left out: 2 in features already"


def test_columns_that_pieces_cannot_have_are_named(spark: Any, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    doc = [{"text": text, "n": row} for row, text in enumerate(TEXTS.values())]
    pq.write_table(pa.table({"doc": doc}), tmp_path / "docs/a.parquet")

    def context(**source: Any) -> RunContext:
        return RunContext(spark, configured(tmp_path, {"text": "doc.text", **source}))

    ids = r"input.id: column 'doc.n' has type bigint; ids of pieces, such as 'ID#1', are strings"
    with pytest.raises(SchemaError, match=ids):
        check_columns(context(id="doc.n").input)
    with pytest.raises(
        SchemaError, match=r"input.columns: 'Doc' contains input.text; name its other fields one by one"
    ):
        check_columns(context(columns=["Doc"]).input)
    check_columns(context(columns={"body": "doc.text", "n": "doc.n"}).input)
    assert list(problems(context(tokens={"column": "doc.n"}), str(tmp_path / "pieces"), str(tmp_path / "ids"))) == [
        "input.tokens.column: 'doc.n' has no numbers for pieces; use a tokenizer"
    ]


@pytest.mark.parametrize(
    ("to", "ids", "problem"),
    [
        ("out/pieces", "cut.txt", "--to: TMP/out/pieces is in the output"),
        ("docs", "cut.txt", "--to: TMP/docs exists"),
        ("docs/_pieces", "cut.txt", "--to: TMP/docs/_pieces: the input reads no folder whose name begins"),
        ("docs/.old/pieces", "cut.txt", "--to: TMP/docs/.old/pieces: the input reads no folder"),
        ("docs/a.jsonl/pieces", "cut.txt", "--to: TMP/docs/a.jsonl is a file; a folder is required"),
        ("pieces", "docs/cut.txt", "--ids: TMP/docs/cut.txt is in the input"),
        ("pieces", "out/cut.txt", "--ids: TMP/out/cut.txt is in the output"),
        ("pieces", "pieces/cut.txt", "--ids: TMP/pieces/cut.txt and --to: TMP/pieces are inside each other"),
        ("docs/pieces", "_cut.txt", "--ids: TMP/_cut.txt: `betr-spark forget` reads no file whose name begins"),
        ("docs/pieces", "docs/a.jsonl/cut.txt", "--ids: TMP/docs/a.jsonl is a file; a folder is required"),
        ("docs/pieces", "items.jsonl", "--ids: TMP/items.jsonl exists"),
    ],
)
def test_places_that_cannot_be_written_or_read_later_are_refused(
    spark: Any, tmp_path: Path, to: str, ids: str, problem: str
) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/a.jsonl").touch()
    context = RunContext(spark, configured(tmp_path, {"format": "json"}))
    (line,) = problems(context, str(tmp_path / to), str(tmp_path / ids))
    assert line.startswith(problem.replace("TMP", str(tmp_path)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["docs", "items.jsonl"]


def test_paths_that_are_none_are_refused_in_one_line(spark: Any, tmp_path: Path) -> None:
    context = RunContext(spark, configured(tmp_path, {}))
    lines = list(problems(context, "", "nosuch://bucket/ids"))
    assert [line.partition(":")[0] for line in lines] == ["--to", "--ids"]
    assert list(problems(context, "/", str(tmp_path / "ids"))) == ["--to: /: is not in a folder"]
