"""Quoting a user's value in a message."""

import pytest

from betr_spark.errors import quoted


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
