"""`init` for files of every form: the written configuration has no problem by `check`, and what cannot be read is one line."""

import doctest
import errno
import io
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from draft_files import BENCHMARKS, FIRST_EXAMPLE, lines, write_dataset, write_lines, write_parquet

from betr_spark.config import Config, load_config
from betr_spark.draft import benchmarks, local_files
from betr_spark.draft.benchmarks import guessed_targets, named_paths
from betr_spark.draft.columns import guessed_columns
from betr_spark.draft.documents import _by_spark, look_at
from betr_spark.draft.text import sample_size
from betr_spark.errors import DataError
from betr_spark.pipeline.check import problems
from betr_spark.targets.content import LocalFiles, content_of
from betr_spark.targets.examples import examples_of

DOCUMENTS = [
    {"id": f"d{n}", "text": f"a text of some words, number {n}", "domain": f"site{n % 3}", "url": f"u/{n}", "n": n}
    for n in range(40)
]
NESTED = [
    {"meta": {"doc_id": n, "src": {"source": "abc"[n % 3]}}, "doc": {"a.b": f"words of number {n} " * 3}}
    for n in range(40)
]
EXAMPLES = [{"question": f"who is {n}", "answer": f"it is {n}"} for n in range(9)]


def no_session() -> Any:
    raise AssertionError("Spark is not necessary")


@pytest.fixture
def init(
    run_command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, list[str]]]:
    """Run the command in a folder that has a benchmark."""
    monkeypatch.chdir(tmp_path)
    write_lines(tmp_path / "qa.jsonl", EXAMPLES)

    def run(documents: str, *more: str, target: str = "qa.jsonl") -> tuple[int, str, list[str]]:
        done: tuple[int, str, list[str]] = run_command(
            "init", "--documents", documents, "--target", target, "--output", "out", *more
        )
        return done

    return run


def checked(path: Path, spark: Any, encoder: Path) -> Config:
    """The written configuration, which has no problem: with a smaller encoder, and from the root, as the JVM works elsewhere."""
    config = load_config(path, [f"encoder.model={encoder}"])
    values = config.model_dump()
    for section in (values["input"], *values["targets"].values(), values):
        for key in {"path", "test", "output"} & {key for key, value in section.items() if isinstance(value, str)}:
            section[key] = str(path.parent / section[key])
    assert problems(Config.model_validate(values), spark) == []
    return config


@pytest.mark.parametrize(
    "kind",
    ["parquet", "jsonl", "jsonl.gz", "jsonl.zst", "with-others.jsonl", "delta", "nested.parquet", "nested.jsonl"],
)
def test_documents_of_each_form_give_a_configuration_without_problems(
    init: Any, kind: str, tmp_path: Path, spark: Any, encoder: Path
) -> None:
    rows = NESTED if kind.startswith("nested") else DOCUMENTS
    if kind == "delta":
        spark.createDataFrame(DOCUMENTS).write.format("delta").save(str(tmp_path / "docs"))
    elif kind.endswith("parquet"):
        write_parquet(tmp_path / "docs/crawl=a/part-0.parquet", rows)
    else:
        write_lines(tmp_path / f"docs/part-0.{kind.removeprefix('nested.')}", rows)
    if kind == "with-others.jsonl":
        (tmp_path / "docs/README.md").write_text("about")
    code, out, errors = init(str(tmp_path / "docs") if kind == "delta" else "docs")
    assert (code, errors) == (0, [])
    config = checked(tmp_path / "betr-spark.yaml", spark, encoder)
    used = config.input
    assert used.format == ("delta" if kind == "delta" else "parquet" if kind.endswith("parquet") else "json")
    if rows is NESTED:
        assert (used.id, used.text, used.source) == ("meta.doc_id", "doc.`a.b`", "meta.src.source")
    else:
        assert (used.id, used.text, used.source, used.columns) == ("id", "text", "domain", {"url": "url"})
    assert config.sample.documents == 40
    assert "40 documents are too few to train a scorer" in out
    assert "input.id: " in out
    assert (config.targets["qa"].template, config.output) == ("{question}\n{answer}", "out")
    assert not (tmp_path / "out").exists()


def test_benchmarks_of_each_form_give_a_configuration_without_problems(
    init: Any, tmp_path: Path, spark: Any, encoder: Path
) -> None:
    write_parquet(tmp_path / "docs.parquet", DOCUMENTS)
    write_parquet(tmp_path / "p.train.parquet", [{"query": f"what {n}", "response": "x"} for n in range(20)])
    write_parquet(tmp_path / "p.test.parquet", [{"query": f"where {n}", "response": "x"} for n in range(5)])
    write_dataset(tmp_path / "saved/train", [{"text": f"story {n}"} for n in range(5)])
    write_dataset(tmp_path / "saved/test", [{"text": f"tale {n}"} for n in range(4)])
    (tmp_path / "saved/dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    write_lines(tmp_path / "odd.train.jsonl", [*EXAMPLES[:3], {"question": "q", "answer": "b"}])
    write_lines(tmp_path / "odd.test.jsonl", [{"prompt": "q"}])
    more = [part for path in ("p.train.parquet", "arc=saved", "odd.train.jsonl") for part in ("--target", path)]
    code, out, errors = init("docs.parquet", *more, "--json")
    assert (code, errors) == (0, [])
    assert json.loads(out)["configuration"] == yaml.safe_load(
        (tmp_path / "betr-spark.yaml").read_text(encoding="utf-8")
    )
    targets = checked(tmp_path / "betr-spark.yaml", spark, encoder).targets
    assert {name: (target.path, target.test) for name, target in targets.items()} == {
        "qa": ("qa.jsonl", None), "p": ("p.train.parquet", "p.test.parquet"), "arc": ("saved/train", "saved/test"),
        "odd": ("odd.train.jsonl", None),
    }  # fmt: skip
    guesses = json.loads(out)["guesses"]
    assert "targets.odd: 'odd.test.jsonl' is not used as the test file: odd.test.jsonl: line 1: " in str(guesses)
    assert guesses[-2].startswith("targets: each target contributes as many examples as odd has (4)")


def test_an_example_that_is_a_test_item_stops_init(init: Any, tmp_path: Path) -> None:
    write_parquet(tmp_path / "docs.parquet", DOCUMENTS)
    write_lines(tmp_path / "leak.train.jsonl", [*EXAMPLES[:3], {"question": "q", "answer": "b"}])
    write_lines(tmp_path / "leak.test.jsonl", [{"question": "Q", "answer": "B"}])
    code, out, errors = init("docs.parquet", "--target", "leak.train.jsonl")
    assert (code, out, len(errors)) == (2, "", 1)
    assert errors[0].startswith("error: leak.train.jsonl: example 4 of targets.leak is ")


def test_benchmarks_among_the_documents_stop_init(init: Any, tmp_path: Path) -> None:
    """Their test items would be documents, and could be selected."""
    write_lines(tmp_path / "data/docs.jsonl", DOCUMENTS)
    write_lines(tmp_path / "data/b.train.jsonl", [{"question": f"why {n}", "answer": "so"} for n in range(3)])
    write_lines(tmp_path / "data/b.test.jsonl", [{"question": "z", "answer": "y"}])
    more = ("--target", "data/b.train.jsonl", "--to", "data/c.yaml")
    code, out, errors = init("data", *more)
    assert (code, out) == (2, "")
    advice = "is among the documents (data); move it, or name the documents by a glob that leaves it out"
    assert errors == [
        f"error: --target: data/b.train.jsonl: {advice}", f"error: --target: data/b.test.jsonl: {advice}",
        "error: --to: data/c.yaml: is inside the documents (data); choose another folder",
    ]  # fmt: skip
    assert init("data/docs.jsonl", *more)[0] == 0


@pytest.mark.parametrize(
    ("row", "answers", "is_open"),
    [
        ({"goal": "g", "sol1": "a", "sol2": "b"}, [1, 1], True),
        ({"goal": "g", "sol1": "a", "sol2": "b"}, [1, 0], False),
        ({"goal": "g", "sol1": "a", "sol2": "b"}, [1, 2], False),
        ({"goal": "g", "choices": ["a", "b", "c"]}, [1, 2], True),
        ({"goal": "g", "choices": ["a", "b", "c"]}, [1, 2, 0], False),
    ],
)
def test_numbers_of_options_that_can_begin_at_0_or_1_are_to_be_checked(
    row: dict[str, Any], answers: list[int], is_open: bool, tmp_path: Path
) -> None:
    path = write_lines(
        tmp_path / "b.jsonl", [{**row, "goal": f"g{n}", "label": answer} for n, answer in enumerate(answers)]
    )
    (guessed,) = guessed_targets({"b": str(path)}, no_session)
    assert (guessed.target.jinja is not None, guessed.why[0].endswith(": check it")) == (True, is_open)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_templates_are_guessed_for_known_fields(name: str, tmp_path: Path) -> None:
    path = write_lines(tmp_path / f"{name}.jsonl", BENCHMARKS[name])
    (guessed,) = guessed_targets({name: str(path)}, no_session)
    assert examples_of(name, guessed.target, path.read_bytes())[0].text == FIRST_EXAMPLE[name]
    assert guessed.is_known == (name != "odd")
    if name == "odd":
        assert guessed.why[0].endswith("found prose, verse, n, ref; check it")
    if name != "chat":  # Arrow's types are stricter than JSON's
        folder = write_dataset(tmp_path / "saved", BENCHMARKS[name])
        (same,) = guessed_targets({name: str(folder)}, no_session)
        assert examples_of(name, same.target, content_of(LocalFiles(), str(folder)))[0].text == FIRST_EXAMPLE[name]


def refused(folder: Path, name: str, content: bytes) -> str:
    (folder / name).write_bytes(content)
    return name


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "d.csv",
            b"id,text\n1,a\n",
            r"^documents: d\.csv: \.csv files cannot be read; Parquet, Delta or JSON Lines is required$",
        ),
        ("d.parquet", b"PAR1 and no more", r"^documents: d\.parquet: not a readable Parquet file \("),
        ("d.parquet", b"no", r"^documents: d\.parquet: is not a Parquet file, but its name says so"),
        ("d.jsonl.gz", b"\x1f\x8b but nothing", r"^documents: d\.jsonl\.gz: cannot be read \("),
        ("d.jsonl.gz", b'{"text": "a"}', r"^documents: d\.jsonl\.gz: not compressed with gzip, but its name says so$"),
        ("d.jsonl", b"\x28\xb5\x2f\xfdxx", r"^documents: d\.jsonl: compressed with zstd; its name must end in \.zst$"),
        ("d.jsonl.xz", b"\xfd7zXZ\x00", r"^documents: d\.jsonl\.xz: \.xz files cannot be read|xz data; Spark reads"),
        (
            "d.json",
            b'[{"text": "a"}]',
            r"^documents: d\.json: is a JSON array; JSON Lines has one JSON object in each line$",
        ),
        ("d.json", b'[\n{"text": "a"}\n]', r"^documents: d\.json: is a JSON array; JSON Lines has"),
        ("d.jsonl", b"text", r"^documents: d\.jsonl: line 1 is not valid JSON \(Expecting value"),
        ("d.jsonl", b"\n \n", r"^documents: d\.jsonl: the file has no lines"),
        ("d.jsonl", b"", r"^documents: d\.jsonl: has no files with data$"),
        (
            "d.jsonl",
            b'{"n": 1, "id": "x"}',
            r"^documents: d\.jsonl: no column can be the text; found n \(int\), id \(str\)",
        ),
    ],
)
def test_documents_that_cannot_be_read_are_one_line(
    init: Any, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    code, out, errors = init(refused(tmp_path, name, content))
    assert (code, out, len(errors)) == (2, "", 1)
    assert re.search(message, errors[0].removeprefix("error: ")), errors
    assert not (tmp_path / "betr-spark.yaml").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("b.csv", b"q,a\nx,y\n", r"^targets\.b: b\.csv: \.csv files cannot be read; JSON Lines, Parquet or a folder"),
        (
            "b.jsonl.gz",
            b"\x1f\x8bxx",
            r"^targets\.b: b\.jsonl\.gz: gzip data; benchmark files are read as they are: decompress it$",
        ),
        ("b.json", b'[{"question": "a"}]', r"^targets\.b: b\.json: a JSON array; JSON Lines is required"),
        ("b.parquet", b"PAR1 and no more", r"^b\.parquet: not a readable Parquet file"),
        ("b.jsonl", b'{"question": "a"}\n{', r"^b\.jsonl: line 2: not valid JSON"),
        (
            "b.jsonl",
            b'{"question": " ", "answer": ""}\n',
            r"^b\.jsonl: line 1: targets\.b\.template gives an empty example",
        ),
        ("b.jsonl", b'{"scores": {"a": 1}}\n', r"^targets\.b: b\.jsonl: no field has text; found scores$"),
        ("b.jsonl", b"", r"^targets\.b: b\.jsonl: no field has text; found no row$"),
        ("b.jsonl", lines(EXAMPLES), r"^b\.jsonl: every example of targets\.b is also in an earlier benchmark"),
    ],
)
def test_benchmarks_that_cannot_be_read_are_one_line(
    init: Any, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    write_parquet(tmp_path / "docs.parquet", DOCUMENTS)
    code, out, errors = init("docs.parquet", "--target", refused(tmp_path, name, content))
    assert (code, out, len(errors)) == (2, "", 1)
    assert re.search(message, errors[0].removeprefix("error: ")), errors


def test_wrong_answers_are_named(init: Any, run_command: Any, tmp_path: Path) -> None:
    write_parquet(tmp_path / "docs/a.parquet", DOCUMENTS)
    write_dataset(tmp_path / "saved", DOCUMENTS)
    assert init("nowhere")[2] == ["error: documents: nowhere: no such file or folder"]
    assert "a folder of Hugging Face `datasets`, which is read for benchmark examples alone" in init("saved")[2][0]
    assert init("docs", target="nothing.jsonl")[2] == ["error: nothing.jsonl: no such file"]
    assert init("docs", target="docs")[2] == [
        "error: docs: is a folder; a file is required, or a folder that `Dataset.save_to_disk` wrote"
    ]
    assert "two benchmarks have the name 'qa': qa.jsonl and x/qa.jsonl" in init("docs", "--target", "x/qa.jsonl")[2][0]
    assert init("docs", "--to", "no/c.yaml")[2] == ["error: --to: no/c.yaml: folder no not found; create it"]
    inside = run_command("init", "--documents", "docs", "--target", "qa.jsonl", "--output", "docs/out")[2]
    assert inside == ["error: --output: docs/out: is inside the documents (docs); choose another folder"]
    secret = run_command(
        "init", "--documents", "docs", "--target", "qa.jsonl", "--output", "s3a://key:secret@bucket/out"
    )
    assert (secret[0], len(secret[2])) == (2, 1)
    assert "secret@" not in secret[2][0]
    missing = run_command("init", "--documents", "docs")
    assert (missing[0], missing[2]) == (
        2,
        [f"error: {name}: missing; it is asked for only in a terminal" for name in ("--target", "--output")],
    )
    assert not list(tmp_path.glob("*.yaml"))


def test_a_file_is_replaced_only_by_force(init: Any, tmp_path: Path) -> None:
    write_parquet(tmp_path / "docs/a.parquet", DOCUMENTS)
    (tmp_path / "c.yaml").write_text("mine")
    assert init("docs", "--to", "c.yaml")[2] == [
        "error: --to: c.yaml: exists; choose another file, or replace it with --force"
    ]
    assert (tmp_path / "c.yaml").read_text() == "mine"
    assert init("docs", "--to", "c.yaml", "--force")[0] == 0
    assert "input:\n  path: docs\n" in (tmp_path / "c.yaml").read_text()


def test_what_is_missing_is_asked_for_in_a_terminal(
    run_command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    write_parquet(tmp_path / "my docs/a.parquet", DOCUMENTS)
    write_lines(tmp_path / "b.jsonl", EXAMPLES)
    write_lines(tmp_path / "my c.jsonl", [{"text": "a story"}])

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal("~/my docs\nq=b.jsonl '~/my c.jsonl'\n\n"))
    code, out, errors = run_command("init", "--json")
    assert (code, errors) == (0, [])
    config = load_config(tmp_path / "betr-spark.yaml")
    assert json.loads(out)["to"] == "betr-spark.yaml"
    assert (config.input.path, config.output) == (f"{tmp_path}/my docs", "out/betr")
    assert {name: target.path for name, target in config.targets.items()} == {
        "q": "b.jsonl",
        "my-c": f"{tmp_path}/my c.jsonl",
    }


def test_other_files_in_the_folder_are_left_out_by_a_glob(tmp_path: Path) -> None:
    write_lines(tmp_path / "docs/a.jsonl.gz", DOCUMENTS)
    (tmp_path / "docs/_SUCCESS").write_text("x")
    (tmp_path / "docs/.part.crc").write_text("x")
    assert look_at(str(tmp_path / "docs"), no_session).path == str(tmp_path / "docs")
    (tmp_path / "docs/README.md").write_text("about")
    assert look_at(str(tmp_path / "docs"), no_session).path == f"{tmp_path}/docs/*.jsonl.gz"
    write_lines(tmp_path / "docs/more/b.jsonl.gz", DOCUMENTS)
    with pytest.raises(DataError, match=r"docs: has files that cannot be read: .*README\.md; move them"):
        look_at(str(tmp_path / "docs"), no_session)
    write_parquet(tmp_path / "docs/more/b.parquet", DOCUMENTS)
    with pytest.raises(DataError, match=r"has Parquet and JSON files, for example .*b\.parquet and .*a\.jsonl\.gz"):
        look_at(str(tmp_path / "docs"), no_session)


def test_the_number_of_documents_is_estimated_from_a_part(tmp_path: Path) -> None:
    rows = [{"text": f"{n} " + "word " * (n % 50)} for n in range(20_000)]
    for name in ("plain.jsonl", "packed.jsonl.gz"):
        found = look_at(str(write_lines(tmp_path / name, rows)), no_session)
        assert abs(found.n_documents / 20_000 - 1) < 0.1
        assert len(found.rows) == 1_000
    for number in range(7):
        write_parquet(tmp_path / f"docs/{number}.parquet", rows[:3_000])
    found = look_at(str(tmp_path / "docs"), no_session)
    assert (found.n_documents, len(found.rows)) == (21_000, 1_000)
    sizes = {n: sample_size(n)[0] for n in (40, 1_500, 5_000, 32_000, 400_000, 5_000_000)}
    assert sizes == {40: 40, 1_500: 1_500, 5_000: 1_500, 32_000: 6_400, 400_000: 10_000, 5_000_000: 20_000}


def test_other_file_systems_are_read_by_spark(spark: Any, tmp_path: Path) -> None:
    parquet, packed = tmp_path / "p/a.parquet", tmp_path / "j/a.jsonl.gz"
    write_parquet(parquet, DOCUMENTS)
    write_lines(packed, DOCUMENTS)
    for folder, kind in ((parquet.parent, "parquet"), (packed.parent, "json")):
        found = _by_spark(spark, str(folder))
        assert (found.format, found.n_documents, sorted(row["id"] for row in found.rows)[0]) == (kind, 40, "d0")
    (tmp_path / "c").mkdir()
    (tmp_path / "c/a.csv").write_text("a,b")
    with pytest.raises(DataError, match=r"c/a\.csv: files of this kind cannot be read"):
        _by_spark(spark, str(tmp_path / "c"))
    with pytest.raises(DataError, match="no such file or folder"):
        _by_spark(spark, str(tmp_path / "none"))


def test_columns_are_guessed_by_name_and_value() -> None:
    rows = [
        {"ID": 7, "url": "u", "n": n, "label": f"{n}", "prose": "long words in a row " * 4, "page_id": f"p{n}"}
        for n in range(30)
    ]
    guessed = guessed_columns(rows, ["part", "dump"], where="docs")
    assert (guessed.id.value, guessed.text.value, guessed.source.value, guessed.carried) == (
        "page_id",
        "prose",
        "dump",
        ["url"],
    )
    assert guessed.text.why == "the longest strings, 80 characters on average; check it"
    assert guessed.source.why == "the folders `dump=...`"
    twice = guessed_columns([{"text": "a", "Text": "b", "body": "c", "id": n and None} for n in range(3)], where="docs")
    assert (twice.text.value, twice.id.value) == ("body", None)
    assert twice.id.why.startswith(
        "no column looks like a unique id ('id' is empty in 2 of 3 rows); a hash of the text is the id"
    )
    few_empty = guessed_columns([{"text": f"a {n}", "id": n or None} for n in range(100)], where="docs")
    assert few_empty.id.value == "id"
    assert few_empty.id.why.startswith(
        "by its name; 1 of 100 rows have none, and a run puts such rows into `quarantine`"
    )
    unique = guessed_columns([{"text": "a", "source": f"s{n}", "extra": 1.5} for n in range(30)], where="docs")
    assert unique.source.value is None
    assert unique.source.why == "no column looks like a source of documents; found source (str), extra (float)"


def test_what_a_terminal_would_act_on_is_escaped(init: Any, tmp_path: Path) -> None:
    odd = "x\x1b[2J\n# y"
    write_lines(tmp_path / "docs.jsonl", [{"text": f"words {n}", odd: 1} for n in range(5)])
    write_lines(tmp_path / "b.jsonl", [{"question": "who", odd: "me"}])
    code, out, _ = init("docs.jsonl", "--target", "b.jsonl")
    written = (tmp_path / "betr-spark.yaml").read_text(encoding="utf-8")
    assert code == 0
    assert "\x1b" not in out + written
    assert r"not used: x\x1b[2J\n# y" in written
    assert set(yaml.safe_load(written)) == {"input", "output", "targets", "sample", "selections"}


def test_files_that_the_system_refuses_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_lines(tmp_path / "docs/a.jsonl", DOCUMENTS)
    (tmp_path / "docs/gone.csv").symlink_to(tmp_path / "nowhere")
    assert look_at(str(tmp_path / "docs"), no_session).n_documents == 40

    def denied(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))  # root reads every file

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(DataError, match=r"^documents: .*a\.jsonl: cannot be read \(Permission denied\)$"):
        look_at(str(path), no_session)
    monkeypatch.setattr(Path, "read_bytes", denied)
    with pytest.raises(DataError, match=r"^.*a\.jsonl: cannot be read \(Permission denied\)$"):
        guessed_targets({"a": str(path)}, no_session)


def test_names_of_benchmarks_come_from_their_files() -> None:
    assert doctest.testmod(benchmarks).failed == doctest.testmod(local_files).failed == 0
    assert named_paths(["a b.c.jsonl", "x=y=z.parquet"]) == {"a-b": "a b.c.jsonl", "x": "y=z.parquet"}
