"""Pieces of contaminated documents are documents of the next run."""

import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from betr_spark.config import Config
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
    columns = {
        "id": list(TEXTS),
        "text": list(TEXTS.values()),
        "url": [f"u/{name}" for name in TEXTS],
        "quality": [1, 2, 3, 4],
        "year": [2024, 2025, 2026, 2027],
    }
    pq.write_table(pa.table(columns), tmp_path / "docs/a.parquet")
    numbers = {"scorers": {"quality": {"kind": "expression", "column": "quality"}}}
    config = configured(tmp_path, {"id": "ID", "source": "year", "columns": {"key": "id", "url": "url"}}, **numbers)
    with pytest.raises(DataError, match="run `betr-spark decontaminate`"):
        write_pieces(RunContext(spark, config), str(tmp_path / "docs/pieces"), str(tmp_path / "cut.txt"))
    run_all(spark, config)
    assert sorted(selected(spark, config)) == ["a", "c"]
    written = write_pieces(RunContext(spark, config), str(tmp_path / "docs/pieces"), str(tmp_path / "cut.txt"))
    assert written[1:] == (2, 2, 0, 2, 0, 0, 0)
    assert sorted(path.name for path in (tmp_path / "docs").iterdir()) == ["a.parquet", "pieces"]
    assert (tmp_path / "cut.txt").read_text() == "b\n"
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
    assert "is in the output" in next(problems(context, str(tmp_path / "out/pieces"), str(tmp_path / "more.txt")))

    run_all(spark, config)
    kept = selected(spark, config)
    assert sorted(kept) == ["a", "b#1", "b#2", "c"]
    assert LEAK.startswith(kept["b#1"])
    assert LEAK.endswith(kept["b#2"])
    rows = delta.read(spark, config.table("selected/all")).where("doc_id like 'b#%'").collect()
    assert {row["url"] for row in rows} == {"u/b"}
    assert {(row["key"], row["source"]) for row in rows} == {("b#1", "2025"), ("b#2", "2025")}
    features = delta.read(spark, config.table("features")).where("doc_id like 'b#%'").collect()
    assert {row["logit_quality"] for row in features} == {2.0}
    again = write_pieces(RunContext(spark, config), str(tmp_path / "docs/more"), str(tmp_path / "more.txt"))
    assert (again.documents, again.pieces) == (1, 0)
    assert again.lines()[-1] == "nothing to write"
    assert not (tmp_path / "docs/more").exists()


@pytest.mark.parametrize("has_id", [True, False])
def test_pieces_of_nested_json_have_its_shape(spark: Any, tmp_path: Path, has_id: bool) -> None:
    (tmp_path / "docs").mkdir()
    rows = [{"doc": {"body": text, "from": "web"}, "meta": {"id": name, "lang": "en"}} for name, text in TEXTS.items()]
    (tmp_path / "docs/a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = {"format": "json", "text": "doc.body", "source": "doc.from", "columns": {"language": "meta.lang"}}
    config = configured(tmp_path, {**source, **({"id": "meta.id"} if has_id else {})})
    run_all(spark, config)
    write_pieces(RunContext(spark, config), str(tmp_path / "docs/pieces"), str(tmp_path / "cut.txt"))
    lines = [line for file in (tmp_path / "docs/pieces").glob("*.json") for line in file.read_text().splitlines()]
    pieces = [json.loads(line) for line in lines]
    assert sorted(pieces[0]) == ["doc", "meta"]
    assert {piece["doc"]["from"] for piece in pieces} == {"web"}
    assert {piece["meta"].pop("lang") for piece in pieces} == {"en"}
    assert [piece["meta"] for piece in pieces] == ([{"id": "b#1"}, {"id": "b#2"}] if has_id else [{}, {}])
    if has_id:
        return  # the other test runs again
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
