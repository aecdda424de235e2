"""`check` finds what is wrong with the inputs of every kind of scorer before any work."""

from pathlib import Path
from typing import Any

import fasttext
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import settings

from betr_spark.config import Config
from betr_spark.pipeline.check import problems
from betr_spark.storage.random_access import open_file

LABEL = "__label__hq"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Inputs of scorers, most of them wrong."""
    path = tmp_path_factory.mktemp("problems")
    for name in ("docs", "scores", "cut", "empty"):
        (path / name).mkdir()
    documents = {"id": ["a", "b"], "text": ["one two", "three"], "Quality": [1, 2], "grade": ["high", "low"]}
    pq.write_table(pa.table({**documents, "source": ["x", "y"], "url": ["u", "v"]}), path / "docs/a.parquet")
    pq.write_table(pa.table({"doc_id": ["a"], "score": [1.5], "grade": ["high"]}), path / "scores/a.parquet")
    (path / "cut/a.parquet").write_bytes((path / "scores/a.parquet").read_bytes())
    (path / "cut/b.parquet").write_bytes((path / "scores/a.parquet").read_bytes()[:-20])
    (path / "lines").write_text(
        "".join(f"{label} w{i} w{i + 1}\n" for i in range(30) for label in (LABEL, "__label__cc"))
    )
    options = {"thread": 1, "verbose": 0, "dim": 16, "epoch": 1, "bucket": 700_000, "wordNgrams": 2}
    fasttext.train_supervised(input=str(path / "lines"), **options).save_model(str(path / "softmax.bin"))
    fasttext.train_supervised(input=str(path / "lines"), loss="hs", **options).save_model(str(path / "hs.bin"))
    whole = (path / "softmax.bin").read_bytes()
    (path / "cut.bin").write_bytes(whole[: len(whole) // 2])
    (path / "bad.jsonl").write_text('{"q": "fine"}\n{"q": "broken \\ud83d"}\n', encoding="utf-8")
    (path / "good.jsonl").write_text('{"q": "fine"}\n', encoding="utf-8")
    return path


def problems_of(spark: Any, folder: Path, scorer: dict[str, Any], **more: Any) -> list[str]:
    values = settings(folder / "docs", folder / "out", folder, folder)
    values |= {"targets": {"t": {"path": str(folder / "good.jsonl"), "template": "{q}"}}, "selections": {}, **more}
    values["scorers"] = {"s": scorer}
    return problems(Config.model_validate(values), spark)


@pytest.mark.parametrize(
    ("scorer", "message"),
    [
        ({"kind": "teacher", "path": "nowhere"}, "nowhere: no such file or folder"),
        ({"kind": "teacher", "path": "empty"}, "scorers.s.path: empty: cannot be read as parquet"),
        ({"kind": "teacher", "path": "cut"}, "cut/b.parquet: cannot be read ("),
        ({"kind": "teacher", "path": "scores", "format": "delta"}, "scorers.s.path: scores: Delta table not found"),
        (
            {"kind": "teacher", "path": "scores", "id": "key"},
            "no column 'key' (scorers.s.id); found doc_id, score, grade",
        ),
        ({"kind": "teacher", "path": "scores", "score": "points"}, "no column 'points' (scorers.s.score)"),
        (
            {"kind": "teacher", "path": "scores", "score": "grade"},
            "column 'grade' (scorers.s.score) is string; a numeric",
        ),
        ({"kind": "fasttext", "path": "none.bin", "label": LABEL}, "scorers.s.path: none.bin: no such file"),
        ({"kind": "fasttext", "path": "docs", "label": LABEL}, "scorers.s.path: docs: is a folder; a file is required"),
        ({"kind": "fasttext", "path": "cut.bin", "label": LABEL}, "scorers.s.path: cut.bin: truncated: "),
        (
            {"kind": "fasttext", "path": "good.jsonl", "label": LABEL},
            "good.jsonl: truncated: 14 bytes are not a complete",
        ),
        ({"kind": "fasttext", "path": "softmax.bin", "label": "__label__x"}, "no label '__label__x'; it has __label__"),
        ({"kind": "fasttext", "path": "hs.bin", "label": LABEL}, "hierarchical softmax; a softmax of two labels"),
        ({"kind": "classifier", "positives": {"path": "none.jsonl", "template": "{q}"}}, "scorers.s.positives.path: "),
        (
            {"kind": "classifier", "positives": {"path": "bad.jsonl", "template": "{q}"}},
            "bad.jsonl: line 2: lone surrogate",
        ),
        (
            {"kind": "classifier", "positives": {"path": "good.jsonl", "template": "{a}"}},
            "good.jsonl: line 1: no field 'a'",
        ),
        (
            {"kind": "expression", "column": "qualty"},
            "scorers.s.column: no column 'qualty' in docs (did you mean 'Quality'?)",
        ),
        (
            {"kind": "expression", "column": "grade"},
            "scorers.s.column: column 'grade' in docs is string; a numeric column",
        ),
    ],
)
def test_a_wrong_input_is_found_by_check(
    spark: Any, folder: Path, scorer: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absolute(value: Any) -> Any:
        return {**value, "path": str(folder / value["path"])} if isinstance(value, dict) and "path" in value else value

    lines = problems_of(spark, folder, {key: absolute(value) for key, value in absolute(scorer).items()})
    assert len(lines) == 1, lines
    assert message in lines[0].replace(f"{folder}/", "")
    assert "\n" not in lines[0]


@pytest.mark.parametrize(
    "scorer",
    [
        {"kind": "teacher", "path": "scores"},
        {"kind": "fasttext", "path": "softmax.bin", "label": LABEL},
        {"kind": "expression", "column": "quality"},
        {"kind": "random"},
        {"kind": "dsir"},
    ],
)
def test_a_right_input_is_no_problem(spark: Any, folder: Path, scorer: dict[str, Any]) -> None:
    scorer = {key: str(folder / value) if key == "path" else value for key, value in scorer.items()}
    assert problems_of(spark, folder, scorer) == []


def test_a_delta_table_is_not_read_as_parquet(spark: Any, folder: Path, tmp_path: Path) -> None:
    path = str(tmp_path / "table")
    spark.createDataFrame([("a", 1.0)], "doc_id string, score double").write.format("delta").save(path)
    (line,) = problems_of(spark, folder, {"kind": "teacher", "path": path})
    assert line == f"scorers.s.path: {path}: is a Delta table; set `format: delta`"
    assert problems_of(spark, folder, {"kind": "teacher", "path": path, "format": "delta"}) == []


def test_a_sample_too_large_for_the_linear_model_is_found_before_it_is_embedded(spark: Any, folder: Path) -> None:
    more = {"sample": {"documents": 60_000}, "encoder": {"model": str(folder)}}
    (line,) = problems_of(spark, folder, {"kind": "betr", "model": "linear"}, **more)
    assert line.startswith("scorers.s.model: linear accepts samples of at most 50000 documents, found 60000")


def test_all_problems_of_targets_are_found_with_their_lines(spark: Any, folder: Path) -> None:
    targets = {
        "a": {"path": str(folder / "bad.jsonl"), "template": "{q}"},
        "b": {"path": str(folder / "good.jsonl"), "template": "{a}"},
    }
    lines = problems_of(spark, folder, {"kind": "dsir"}, targets=targets)
    assert [line.replace(f"{folder}/", "").split(":")[:2] for line in lines] == [
        ["bad.jsonl", " line 2"],
        ["good.jsonl", " line 1"],
    ]
    repeated = {name: {"path": str(folder / "good.jsonl"), "template": "{q}"} for name in ("a", "b")}
    (line,) = problems_of(spark, folder, {"kind": "dsir"}, targets=repeated)
    assert "every example of targets.b is also in an earlier benchmark" in line


def test_parts_of_a_file_are_read_at_any_position(spark: Any, tmp_path: Path) -> None:
    content = bytes(range(256)) * 20_000  # several buffers
    (tmp_path / "file").write_bytes(content)
    with open_file(spark, str(tmp_path / "file")) as (file, n_bytes):
        assert n_bytes == len(content)
        assert file.read(10) == content[:10]
        file.seek(3_000_000, 1)
        assert file.read(5) == content[3_000_010:3_000_015]
        file.seek(10**9, 1)
        assert file.tell() == 3_000_015 + 10**9
        assert file.read(1) == b""
        file.seek(-3, 2)
        assert file.read() == content[-3:]
