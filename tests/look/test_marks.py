"""The file of marks: what survives a restart, a kill and a full disk, and where it may be. The characters that a page shows."""

import errno
import json
import os
from pathlib import Path

import pytest

from betr_spark.config import Config
from betr_spark.errors import ConfigError, DataError
from betr_spark.look.marks import Marks, check_place
from betr_spark.look.recent import Recent
from betr_spark.report.characters import pieces


def config(input_path: str) -> Config:
    return Config.model_validate({"input": {"path": input_path}, "output": "out", "scorers": {}, "selections": {}})


def test_marks_survive_a_restart_and_the_last_one_counts(tmp_path: Path) -> None:
    file = tmp_path / "a.marks.jsonl"
    marks = Marks(file)
    assert not file.exists()
    for doc_id, mark in (("a", "good"), ("b\n\u202e", "bad"), ("c", "good"), ("a", "bad"), ("c", None)):
        marks.set(doc_id, mark, view="sample")
    again = Marks(file)
    assert again.all() == marks.all() == {"b\n\u202e": "bad", "a": "bad"}
    assert again.counts() == (0, 2)
    assert again.of("c") is None
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(line["doc_id"], line["mark"]) for line in lines[-2:]] == [("a", "bad"), ("c", None)]
    assert lines[0]["view"] == "sample"
    with pytest.raises(ValueError, match="mark: good, bad or None"):
        marks.set("a", "great", view="sample")


def test_a_line_that_was_cut_is_dropped_and_the_next_mark_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "marks.jsonl"
    Marks(file).set("a", "good", view="v")
    whole = file.read_bytes()
    file.write_bytes(whole + whole[:20])
    marks = Marks(file)
    assert marks.all() == {"a": "good"}
    marks.set("b", "bad", view="v")
    assert Marks(file).all() == {"a": "good", "b": "bad"}


def test_a_last_line_without_a_break_counts_and_stays(tmp_path: Path) -> None:
    file = tmp_path / "marks.jsonl"
    Marks(file).set("a", "good", view="v")
    file.write_bytes(file.read_bytes().rstrip(b"\n"))
    marks = Marks(file)
    assert marks.all() == {"a": "good"}
    marks.set("b", "bad", view="v")
    marks.set("c", "bad", view="v")
    assert Marks(file).all() == {"a": "good", "b": "bad", "c": "bad"}


def test_a_cut_line_is_removed_only_if_nobody_wrote_after_it(tmp_path: Path) -> None:
    file = tmp_path / "marks.jsonl"
    Marks(file).set("a", "good", view="v")
    file.write_bytes(file.read_bytes() + b'{"doc_id": "x')
    one, other = Marks(file), Marks(file)
    one.set("b", "bad", view="v")
    other.set("c", "bad", view="v")
    assert Marks(file).all() == {"a": "good", "b": "bad", "c": "bad"}


def test_a_mark_that_a_full_disk_cuts_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "marks.jsonl"
    marks = Marks(file)
    marks.set("a", "good", view="v")
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, line: write(descriptor, line[:10]))
    with pytest.raises(OSError, match=str(file)) as error:
        marks.set("b", "bad", view="v")
    assert error.value.errno == errno.ENOSPC
    monkeypatch.undo()
    assert marks.all() == Marks(file).all() == {"a": "good"}


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"doc_id": 3, "mark": "good"}', '{"doc_id": "a", "mark": "x"}', '{"doc_id": "a"}']
)
def test_a_line_that_is_no_mark_is_an_error_that_names_it(tmp_path: Path, line: str) -> None:
    file = tmp_path / "marks.jsonl"
    Marks(file).set("a", "good", view="v")
    file.write_text(file.read_text() + line + "\n")
    with pytest.raises(DataError, match=r"marks\.jsonl: line 2: an object"):
        Marks(file)


def test_marks_are_not_where_a_stage_would_read_them(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    for path in (
        tmp_path / "docs",
        f"file://{tmp_path}/docs",
        tmp_path / "docs/*.jsonl",
        tmp_path / "d*/*",
        tmp_path / "docs/x.jsonl",
    ):
        with pytest.raises(ConfigError, match="is inside input.path"):
            check_place(tmp_path / "docs/x.jsonl", config(str(path)))
    check_place(tmp_path / "x.jsonl", config(str(tmp_path / "docs")))
    (tmp_path / "my docs").mkdir()
    for file, path in (("docs/part-m", f"{tmp_path}/docs/part-?"), ("my docs/x", f"file://{tmp_path}/my%20docs")):
        with pytest.raises(ConfigError, match=r"is inside input\.path"):
            check_place(tmp_path / file, config(path))
    in_output = config("s3a://bucket/docs").model_copy(update={"output": str(tmp_path / "docs")})
    with pytest.raises(ConfigError, match="is inside output"):
        check_place(tmp_path / "docs/x.jsonl", in_output)
    check_place(tmp_path / "x.jsonl", config("s3a://bucket/docs"))
    with pytest.raises(ConfigError, match="does not exist; create it"):
        check_place(tmp_path / "none/x.jsonl", config("s3a://bucket/docs"))
    with pytest.raises(ConfigError, match="is a folder"):
        check_place(tmp_path / "docs", config("s3a://bucket/docs"))


def test_hidden_characters_are_shown_and_those_that_scripts_need_are_not() -> None:
    text = "a\x1b[1m\0\r\n\tb\r \u202ec\u200d\u200c\u00a0\u200f\U000e0041"
    shown = list(pieces(text))
    hidden = [piece.text for piece in shown if piece.kind == "hidden"]
    assert hidden == ["[U+001B]", "[U+0000]", "[U+000D]", "[U+202E]", "[U+E0041]"]
    whole = "".join(piece.text for piece in shown)
    assert whole == "a[U+001B][1m[U+0000]\r\n\tb[U+000D] [U+202E]c\u200d\u200c\u00a0\u200f[U+E0041]"
    found = [piece.text for piece in pieces("A.b a.B axb", "a.b") if piece.kind == "match"]
    assert found == ["A.b", "a.B"]


def test_only_the_last_results_are_kept() -> None:
    recent, computed = Recent[int](2), list[int]()

    def get(key: int, *, again: bool = False) -> int:
        return recent.get(key, lambda: computed.append(key) or key, again=again)  # type: ignore[func-returns-value]

    assert [get(1), get(2), get(1), get(3), get(1)] == [1, 2, 1, 3, 1]
    assert computed == [1, 2, 3]  # 1 was used last, so 2 was dropped for 3
    get(2)
    get(2, again=True)
    assert computed == [1, 2, 3, 2, 2]
