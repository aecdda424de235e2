"""Examples: templates, balance, and errors that name file, line and field."""

import datetime as dt
import io
import json
import re
import resource
import sys
from collections import Counter
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from betr_spark.config.targets import TargetConfig
from betr_spark.errors import ConfigError, DataError
from betr_spark.targets import jinja_template
from betr_spark.targets.choice import balanced, check_not_in_test, distinct
from betr_spark.targets.examples import Example, examples_of


def target(template: str = "{q}: {a}", path: str = "t.jsonl") -> TargetConfig:
    return TargetConfig(path=path, template=template)


def lines(*rows: object) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def test_fields_lists_numbers_and_braces_fill_the_template() -> None:
    content = lines({"q": "why {x}", "a": ["one", 2]}, {"q": "is it", "a": True})
    assert examples_of("b", target("{{Q}} {q}\n{a}"), content) == [
        Example("b", 0, "{Q} why {x}\none\n2"),
        Example("b", 1, "{Q} is it\nTrue"),
    ]


def test_parquet_gives_the_same_examples() -> None:
    packed = io.BytesIO()
    pq.write_table(pa.table({"q": ["x", "y"], "a": ["1", "2"]}), packed)
    assert examples_of("b", target(path="t.parquet"), packed.getvalue()) == examples_of(
        "b", target(), lines({"q": "x", "a": "1"}, {"q": "y", "a": "2"})
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lines({"q": "x", "a": "y"}, {"q": "x"}), r"t.jsonl: line 2: no field 'a' for targets.b.template; found q"),
        (b'{"q": "x", "a": "y"}\n\n{"q": \n', r"t.jsonl: line 3: not valid JSON"),
        (lines([1]), r"t.jsonl: line 1: a JSON object is required, found list"),
        (
            lines({"q": None, "a": "y"}),
            r"line 1: field 'q': text, a number, a date, or a list of them is required, found NoneType",
        ),
        (b"", r"t.jsonl: the file is empty; targets.b requires at least one example"),
        (b"\xff\xfe", r"t.jsonl: line 1: not valid JSON"),
        (b"[" * 100_000, r"t.jsonl: line 1: not valid JSON"),
    ],
)
def test_bad_content_is_named(content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        examples_of("b", target(), content)


def test_a_field_may_have_any_name() -> None:
    content = lines({"q.a": "x", "b[0]": "y"})
    assert examples_of("b", target("{q.a}/{b[0]}"), content) == [Example("b", 0, "x/y")]


def test_columns_that_no_template_names_may_be_unreadable() -> None:
    packed = io.BytesIO()
    broken = pa.array([b"\xff"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"q": ["x"], "a": ["y"], "unused": broken}), packed)
    assert examples_of("b", target(path="t.parquet"), packed.getvalue()) == [Example("b", 0, "x: y")]
    with pytest.raises(DataError, match=r"t.parquet: not a readable Parquet file"):
        examples_of("b", target("{unused}", path="t.parquet"), packed.getvalue())
    with pytest.raises(DataError, match=r"t.parquet: no column 'c' for the template; found q, a, unused"):
        examples_of("b", target("{c}", path="t.parquet"), packed.getvalue())


def test_an_example_of_white_space_is_refused() -> None:
    with pytest.raises(DataError, match="line 1: targets.b.template gives an empty example"):
        examples_of("b", target("{q}{a}"), lines({"q": " ", "a": ""}))


def test_damaged_parquet_is_named() -> None:
    with pytest.raises(DataError, match="t.parquet: not a readable Parquet file"):
        examples_of("b", target(path="t.parquet"), b"PAR1 and no more")


@pytest.mark.parametrize("template", ["no field", "{}", "{0}", "{q:>10}", "{q!r}", "{q"])
def test_a_malformed_template_is_refused(template: str) -> None:
    with pytest.raises(ConfigError, match="config.targets.b.template"):
        examples_of("b", target(template), lines({"q": "x"}))


def test_balance_is_equal_and_does_not_depend_on_the_order_of_the_file() -> None:
    many = [Example("many", i, f"text {i}") for i in range(50)]
    few = [Example("few", i, f"other {i}") for i in range(8)]
    chosen = balanced({"many": many, "few": few}, {"many": None, "few": None})
    assert Counter(e.benchmark for e in chosen) == {"many": 8, "few": 8}
    turned = [Example("many", 49 - e.row, e.text) for e in reversed(many)]
    again = balanced({"many": turned, "few": few}, {"many": None, "few": None})
    assert {e.text for e in chosen} == {e.text for e in again}
    capped = balanced({"many": many, "few": few}, {"many": 3, "few": None})
    assert Counter(e.benchmark for e in capped) == {"many": 3, "few": 3}
    assert len({(e.benchmark, e.row) for e in chosen}) == 16


JINJA = "{{ q }}{% if hint is defined and hint %} ({{ hint }}){% endif %}\n{{ choices.text[choices.label.index(key)] }}"


def test_a_jinja_template_has_optional_fields_lists_and_choices(monkeypatch: pytest.MonkeyPatch) -> None:
    choices = {"text": ["up", "down"], "label": ["A", "B"]}
    content = lines({"q": "x", "choices": choices, "key": "B"}, {"q": "y", "hint": "h", "choices": choices, "key": "A"})
    with_jinja = TargetConfig(path="t.jsonl", jinja=JINJA)
    assert [example.text for example in examples_of("b", with_jinja, content)] == ["x\ndown", "y (h)\nup"]
    with pytest.raises(DataError, match=r"t.jsonl: line 1: targets.b.jinja: 'key' is undefined"):
        examples_of("b", with_jinja, lines({"q": "x", "choices": choices}))
    with pytest.raises(DataError, match=r"t.jsonl: line 1: targets.b.jinja: .*'C' is not in list"):
        examples_of("b", with_jinja, lines({"q": "x", "choices": choices, "key": "C"}))
    monkeypatch.setattr(jinja_template, "_MAX_S", 0.2)
    endless = "{% set r = range(99999)|list %}{% for a in r %}{% for b in r %}{% endfor %}{% endfor %}{{ q }}"
    with pytest.raises(DataError, match=r"t.jsonl: line 1: targets.b.jinja: takes longer than 0.2 s"):
        examples_of("b", TargetConfig(path="t.jsonl", jinja=endless), content)
    with pytest.raises(ConfigError, match=r"config.targets.b.jinja: line 1: unexpected '}'"):
        examples_of("b", TargetConfig(path="t", jinja="{{ q }"), content)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux")
@pytest.mark.parametrize(
    "template",
    [
        "{{ 'x' * 10**9 * q|length }}",
        "{% set s = namespace(t='x') %}{% for i in range(40) %}{% set s.t = s.t ~ s.t %}{% endfor %}{{ s.t|length }}",
    ],
)
def test_a_template_may_not_take_all_memory(template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jinja_template, "_MAX_BYTES", 10**8)
    before = resource.getrlimit(resource.RLIMIT_AS)
    with pytest.raises(DataError, match=r"t.jsonl: line 1: targets.b.jinja: takes more than 0.1 GB of memory"):
        examples_of("b", TargetConfig(path="t.jsonl", jinja=template), lines({"q": "x"}))
    assert resource.getrlimit(resource.RLIMIT_AS) == before


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{{ 9 ** (9 ** 9) }}", "a power of more than 10000 bits"),  # computes for hours in one step
        ("{{ (0).__class__.__mro__ }}", "access to attribute '__class__' of 'int' object is unsafe."),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "maximum recursion depth exceeded"),
    ],
)
def test_an_expression_without_an_end_is_one_line(template: str, problem: str) -> None:
    with pytest.raises(DataError, match=re.escape(f"t.jsonl: line 1: targets.b.jinja: {problem}")):
        examples_of("b", TargetConfig(path="t.jsonl", jinja=template), lines({"q": "x"}))


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{{ " + "(" * 3000 + "q" + ")" * 3000 + " }}", "maximum recursion depth exceeded"),
        ("{% for i in q %}" * 30 + "{% endfor %}" * 30, "too many statically nested blocks"),
    ],
)
def test_a_template_that_is_nested_too_deeply_is_one_line(template: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=rf"^config\.targets\.b\.jinja: {problem}"):
        examples_of("b", TargetConfig(path="t.jsonl", jinja=template), lines({"q": "x"}))


def test_a_saved_dataset_is_read_from_its_arrow_files() -> None:
    parts = []
    for values in (["x", "y"], ["z"]):
        table, packed = (
            pa.table({"q": values, "a": [["1", "2"]] * len(values), "more": [{"k": 1}] * len(values)}),
            io.BytesIO(),
        )
        with pa.ipc.new_stream(packed, table.schema) as writer:
            writer.write_table(table)
        parts.append(packed.getvalue())
    assert [(e.row, e.text) for e in examples_of("b", target(), parts)] == [
        (0, "x: 1\n2"),
        (1, "y: 1\n2"),
        (2, "z: 1\n2"),
    ]
    with pytest.raises(DataError, match="t.jsonl: not a readable saved dataset"):
        examples_of("b", target(), [b"no arrow"])


def test_repeated_examples_are_dropped_from_the_later_benchmark() -> None:
    texts = {"a": ["One  two", "three", "one TWO"], "b": ["four", "three "]}
    examples = {name: [Example(name, i, text) for i, text in enumerate(column)] for name, column in texts.items()}
    left, repeated = distinct(examples)
    assert [(e.benchmark, e.row) for kept in left.values() for e in kept] == [("a", 0), ("a", 1), ("b", 0)]
    assert repeated == {"a": 1, "b": 1}


def test_an_example_of_the_test_file_is_named() -> None:
    with_test = TargetConfig(path="train.jsonl", test="test.jsonl", template="{q}")
    train, test = ([Example("b", i, text) for i, text in enumerate(part)] for part in (["x", "Y  y"], ["z", "y y"]))
    with pytest.raises(DataError, match=r"train.jsonl: example 2 of targets.b is item 2 of its test file test.jsonl"):
        check_not_in_test("b", with_test, train, test)
    check_not_in_test("b", with_test, train[:1], test)


def test_decimals_dates_and_large_integers_are_taken_as_text() -> None:
    columns = {
        "price": pa.array([Decimal("12.50")], pa.decimal128(8, 2)),
        "day": pa.array([dt.date(2024, 2, 29)]),
        "at": pa.array(["2024-02-29T12:30:00"]).cast(pa.timestamp("ms")),
        "n": pa.array([2**64 - 1], pa.uint64()),
        "all": pa.array([[Decimal("0.10"), Decimal("2.00")]], pa.list_(pa.decimal128(8, 2))),
    }
    packed = io.BytesIO()
    pq.write_table(pa.table(columns), packed)
    template = "{price}|{day}|{at}|{n}|{all}"
    (example,) = examples_of("b", target(template, path="t.parquet"), packed.getvalue())
    assert example.text == "12.50|2024-02-29|2024-02-29 12:30:00|18446744073709551615|0.10\n2.00"


@pytest.mark.parametrize("key", ["template", "jinja"])
def test_a_lone_surrogate_is_refused_with_its_line(key: str) -> None:
    content = b'{"q": "fine \\ud83d\\ude00"}\n{"q": "broken \\ud83d"}\n'
    template = {"template": "{q}"} if key == "template" else {"jinja": "{{ q }}"}
    with pytest.raises(DataError, match=r"t\.jsonl: line 2: lone surrogate \\ud83d"):
        examples_of("b", TargetConfig(path="t.jsonl", **template), content)
    (example,) = examples_of("b", TargetConfig(path="t.jsonl", **template), content.splitlines()[0])
    assert example.text == "fine \U0001f600"
