"""Tables of runs and of available tokens: the formats, and one line for each problem."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from betr_spark.errors import BetrSparkError, ConfigError, DataError
from betr_spark.mixture import table
from betr_spark.mixture.runs import Available, Runs

ROWS = [
    {"run": "a", "weight_web": 0.5, "weight_code": 0.5, "loss_gsm8k": 3.0, "note": "x"},
    {"run": "b", "weight_web": 0.25, "weight_code": 0.75, "loss_gsm8k": 2.5, "note": "y"},
    {"run": "c", "weight_web": 0.75, "weight_code": 0.25, "loss_gsm8k": 3.5, "note": "z"},
    {"run": "d", "weight_web": 1, "weight_code": 0, "loss_gsm8k": 4, "note": ""},
]


def write(folder: Path, rows: list[dict[str, Any]], suffix: str = ".csv") -> Path:
    path = folder / f"runs{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif suffix == ".csv":
        lines = [",".join(rows[0]), *[",".join(map(str, row.values())) for row in rows]]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    else:
        path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


def problems_of(path: Path, **prefixes: str) -> list[str]:
    with pytest.raises(BetrSparkError) as error:
        Runs.read(path, **prefixes)
    return str(error.value).splitlines()


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_every_format_gives_the_same_runs(tmp_path: Path, suffix: str) -> None:
    runs = Runs.read(write(tmp_path, ROWS, suffix))
    assert (runs.groups, runs.tasks, runs.n_mixtures) == (("web", "code"), ("gsm8k",), 4)
    assert runs.weights.tolist() == [[0.5, 0.5], [0.25, 0.75], [0.75, 0.25], [1.0, 0.0]]
    assert runs.losses.tolist() == [[3.0], [2.5], [3.5], [4.0]]
    assert runs.warnings() == [f"{runs.path}: 4 distinct mixtures for 2 groups; about 5 a group (10) are recommended"]


def test_a_byte_order_mark_blank_lines_and_other_prefixes_are_read(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text("\ufeffp.a,p.b,y.t\r\n.5,.5,1\r\n\r\n.2,.8,2\r\n.3,.7,2\r\n.9,.1,1e0\r\n", encoding="utf-8")
    runs = Runs.read(path, weight_prefix="p.", loss_prefix="y.")
    assert (runs.groups, runs.tasks, len(runs.losses)) == (("a", "b"), ("t",), 4)


def test_weights_are_divided_by_their_sum(tmp_path: Path) -> None:
    rows = [{**ROWS[0], "weight_web": 0.5004}, *ROWS[1:]]
    runs = Runs.read(write(tmp_path, rows))
    assert runs.weights.sum(axis=1) == pytest.approx(np.ones(4), abs=1e-15)
    assert runs.weights[0, 0] == pytest.approx(0.5004 / 1.0004)


@pytest.mark.parametrize(
    ("row", "changes", "said"),
    [
        (
            1,
            {"weight_web": -0.25, "weight_code": 1.25},
            "row 2: column 'weight_web': '-0.25'; a number >= 0 is required",
        ),
        (2, {"weight_web": 0.8}, "row 3: columns 'weight_*': the weights sum to 1.05; 1 is required (within 0.001)"),
        (3, {"loss_gsm8k": "nan"}, "row 4: column 'loss_gsm8k': 'nan'; a finite number is required"),
        (3, {"loss_gsm8k": ""}, "row 4: column 'loss_gsm8k': ''; a finite number is required"),
        (0, {"loss_gsm8k": "1e999"}, "row 1: column 'loss_gsm8k': '1e999'; a finite number is required"),
        (3, {"run": "b"}, "row 4: column 'run': 'b' is also in row 2"),
        (3, {"run": " "}, "row 4: column 'run': empty; a name is required"),
    ],
)
def test_a_wrong_value_is_one_line(tmp_path: Path, row: int, changes: dict[str, Any], said: str) -> None:
    path = write(tmp_path, [{**values, **(changes if at == row else {})} for at, values in enumerate(ROWS)])
    assert problems_of(path) == [f"{path}: {said}"]


@pytest.mark.parametrize("value", [True, "3.0", None, [3.0], 10**400])
def test_other_types_of_json_are_no_numbers(tmp_path: Path, value: Any) -> None:
    path = write(tmp_path, [*ROWS[:3], {**ROWS[3], "loss_gsm8k": value}], ".jsonl")
    (line,) = problems_of(path)
    assert line.startswith(f"{path}: row 4: column 'loss_gsm8k': ")


def test_a_missing_key_and_a_null_are_named(tmp_path: Path) -> None:
    rows = [dict(row) for row in ROWS]
    del rows[1]["loss_gsm8k"]
    assert problems_of(write(tmp_path, rows, ".jsonl"))[0].endswith(
        "row 2: column 'loss_gsm8k': 'None'; a finite number is required"
    )
    rows[1]["loss_gsm8k"] = None
    assert "row 2: column 'loss_gsm8k'" in problems_of(write(tmp_path, rows, ".parquet"))[0]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"weight_web": 1.0, "loss_t": 1.0}], "1 columns 'weight_NAME'; 2 to 100 groups are required"),
        ([{"weight_web": 0.5, "weight_code": 0.5}], "0 columns 'loss_NAME'; 1 to 50 tasks are required"),
        (
            [{"weight_": 0.5, "weight_a": 0.5, "loss_t": 1}],
            "column 'weight_': no name after the prefix; one is required",
        ),
        (ROWS[:3], "3 distinct mixtures; at least 4 are required for 2 groups, and about 10 are recommended"),
        ([*ROWS[:3], ROWS[0]], "column 'run': 'a' is also in row 1"),
    ],
)
def test_too_few_columns_or_runs(tmp_path: Path, rows: list[dict[str, Any]], said: str) -> None:
    (line,) = problems_of(write(tmp_path, rows))
    assert said in line


def test_groups_that_cannot_be_told_apart(tmp_path: Path) -> None:
    shares = [0.1, 0.3, 0.5, 0.7, 0.9, 0.2]
    tied = [{"weight_a": s / 2, "weight_b": s / 2, "weight_c": 1 - s, "loss_t": s} for s in shares]
    assert "span 2 of 3 dimensions" in problems_of(write(tmp_path, tied))[0]
    fixed = [{"weight_a": s, "weight_b": 0, "weight_c": 1 - s, "loss_t": 1} for s in shares]
    lines = problems_of(write(tmp_path, fixed))
    assert ["weight_b': the same weight" in lines[0], "loss_t': the same loss" in lines[1], len(lines)] == [
        True,
        True,
        2,
    ]


def test_runs_of_equal_mixtures_count_once(tmp_path: Path) -> None:
    rows = [{**row, "run": f"{row['run']}{seed}"} for seed in range(2) for row in ROWS]
    runs = Runs.read(write(tmp_path, rows))
    assert (len(runs.losses), runs.n_mixtures) == (8, 4)
    assert runs.mixture[:4].tolist() == runs.mixture[4:].tolist()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("runs.csv", b"weight_a,weight_a,loss_t\n", "column 'weight_a' occurs twice"),
        ("runs.csv", b"weight_a,weight_b,loss_t\n1,0\n", "line 2: 2 values; the header has 3 columns"),
        ("runs.csv", b"weight_a,weight_b,loss_t\n", "no rows; at least one is required"),
        ("runs.csv", b"", "empty; a header and at least one row are required"),
        ("runs.csv", b'weight_a,weight_b,loss_t\n"1,0,2\n', "line 2: unexpected end of data"),
        ("runs.csv", b"weight_a\xff\n", "byte 8: not UTF-8"),
        ("runs.jsonl", b'{"a": 1}\n{"a": 1, "a": 2}\n', "line 2: column 'a' occurs twice"),
        ("runs.jsonl", b'{"a": 1}\n[1]\n', "line 2: list; a JSON object is required"),
        ("runs.jsonl", b'{"a": 1}\n{"a"\n', "line 2: not JSON"),
        ("runs.parquet", b"PAR1", "not a readable Parquet file"),
        ("runs.xlsx", b"", "suffix '.xlsx'; .csv, .jsonl or .parquet is required"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_one_line(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    (line,) = problems_of(tmp_path / name)
    assert line.startswith(f"{tmp_path / name}: ")
    assert said in line


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.csv", tmp_path):
        assert problems_of(path) == [f"{path}: file not found; a local CSV, JSON Lines or Parquet file is required"]


def test_large_files_are_refused_before_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "MAX_ROWS", 3)
    for suffix in (".csv", ".jsonl", ".parquet"):
        assert "4 rows; at most 3 are allowed" in problems_of(write(tmp_path, ROWS, suffix))[0]
    monkeypatch.setattr(table, "MAX_BYTES", 10)
    assert "at most 10 are allowed" in problems_of(write(tmp_path, ROWS))[0]


@pytest.mark.parametrize("prefixes", [("", "loss_"), ("w", "w_"), ("x_y", "x_")])
def test_prefixes_that_do_not_tell_columns_apart(tmp_path: Path, prefixes: tuple[str, str]) -> None:
    with pytest.raises(ConfigError, match="prefix"):
        Runs.read(write(tmp_path, ROWS), weight_prefix=prefixes[0], loss_prefix=prefixes[1])


def test_many_problems_are_cut_off(tmp_path: Path) -> None:
    rows = [{**row, "run": f"{copy}{row['run']}", "loss_gsm8k": "x"} for copy in range(10) for row in ROWS]
    lines = problems_of(write(tmp_path, rows))
    assert len(lines) == 21
    assert lines[-1] == "... and 20 more problems"


def available(folder: Path, text: str) -> Path:
    path = folder / "available.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_available_tokens_are_in_the_order_of_the_groups(tmp_path: Path) -> None:
    tokens = Available.read(available(tmp_path, "group,tokens\ncode,9007199254740993\nweb,1e3\n"), ("web", "code"))
    assert tokens.tokens == (1000, 9007199254740993)
    assert tokens.natural().sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("group,n\nweb,1\n", ["column 'tokens' not found"]),
        ("group,tokens\nweb,5\n", ["group 'code' of the runs has no row"]),
        ("group,tokens\nweb,5\ncode,5\ncodes,5\n", ["row 3: column 'group': 'codes' is not a group of the runs ('web', 'code')"]),
        ("group,tokens\nweb,5\ncode,5\nweb,6\n", ["row 3: column 'group': 'web' is also in row 1"]),
        ("group,tokens\nweb,0\ncode,1.5\n", ["row 1: column 'tokens': '0'", "row 2: column 'tokens': '1.5'"]),
        ("group,tokens\nweb,many\ncode,inf\n", ["row 1: column 'tokens': 'many'", "row 2: column 'tokens': 'inf'"]),
    ],
)  # fmt: skip
def test_wrong_available_tokens_are_one_line_each(tmp_path: Path, text: str, said: list[str]) -> None:
    with pytest.raises(BetrSparkError) as error:
        Available.read(available(tmp_path, text), ("web", "code"))
    lines = str(error.value).splitlines()
    assert len(lines) == len(said)
    for line, part in zip(lines, said, strict=True):
        assert part in line


def test_limits_are_exact_at_the_largest_total() -> None:
    tokens = Available("a.csv", (10, 30))
    assert tokens.limits(tokens=160, max_repeats=4).tolist() == [0.25, 0.75]
    assert tokens.limits(tokens=100, max_repeats=4).tolist() == [0.4, 1.0]
    with pytest.raises(DataError, match=r"--tokens: 161; at most 160 are possible, 4 times the tokens of a.csv"):
        tokens.limits(tokens=161, max_repeats=4)
    assert tokens.limits(tokens=4, max_repeats=0.1).tolist() == [0.25, 0.75]
