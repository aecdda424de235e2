"""Quoting a user's value in a message."""

import doctest
import pickle

import pytest

from betr_spark import errors
from betr_spark.errors import BetrSparkError, ConfigError, DataError, quoted


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain", "'plain'"),
        (12, "'12'"),
        ("it's", "'it's'"),
        ("größe 漢字", "'größe 漢字'"),
        ("one\ntwo\r\tthree\u2028four\x1b[31m", r"'one\ntwo\r\tthree\u2028four\x1b[31m'"),
        ("a\\nb", r"'a\\nb'"),  # a backslash in the value differs from a line break
        ("\ud83d", r"'\ud83d'"),  # a lone surrogate cannot be written to a terminal
        ("\u202eabc", r"'\u202eabc'"),  # reverses what follows on a terminal
        ("x" * 80, "'" + "x" * 80 + "'"),
        ("x" * 81, "'" + "x" * 77 + "...'"),
        ("\n" * 1000, "'" + "\\n" * 38 + "...'"),  # 38 whole escapes and the dots: 79 characters
        ("", "''"),
    ],
)
def test_a_value_is_one_line_of_at_most_80_characters(value: object, shown: str) -> None:
    assert quoted(value) == shown
    assert len(quoted(value)) <= 82


def test_a_name_from_a_crawl_adds_no_line_to_an_error() -> None:
    file = "docs/a\nerror: all is well\x1b[2J\u2028.parquet"
    shown = r"docs/a\nerror: all is well\x1b[2J\u2028.parquet: cut"
    assert str(DataError(f"{file}: cut", "second line")) == f"{shown}\nsecond line"
    assert ConfigError(f"{file}: cut", "second line").problems == (shown, "second line")


@pytest.mark.parametrize("kind", [BetrSparkError, ConfigError, DataError])
def test_an_error_of_a_worker_arrives_with_its_lines(kind: type[BetrSparkError]) -> None:
    assert str(pickle.loads(pickle.dumps(kind("one", "two")))) == "one\ntwo"


def test_the_examples_hold() -> None:
    assert doctest.testmod(errors).failed == 0
