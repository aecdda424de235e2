"""Log lines and what commands print: one object a line, and nothing that a terminal would act on."""

import doctest
import json
import logging
from typing import Any

import pytest

from betr_spark import logs
from betr_spark.cli import output

EVIL = "id \x1b]0;title\x07\x1b[2J\r<script>alert(1)</script> \u202etxt.exe\u200b ключ 漢字"
SHOWN = "id \\x1b]0;title\\x07\\x1b[2J\\r<script>alert(1)</script> \\u202etxt.exe\\u200b ключ 漢字"


@pytest.fixture(autouse=True)
def _restored() -> Any:
    yield
    logs.configure()


def test_escapes_of_ids_and_sources_reach_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert logs.printable(EVIL) == SHOWN
    logs.configure()
    logging.getLogger("betr_spark.test").warning("document %s", EVIL)
    assert capsys.readouterr().err == f"document {SHOWN}\n"
    output.emit({}, ["first", EVIL])
    assert capsys.readouterr().out == f"first\n{SHOWN}\n"
    with pytest.raises(SystemExit):
        output.fail(["id \x1b[2J\nfirst line", "second line"])
    assert capsys.readouterr().err == "error: id \\x1b[2J\\nfirst line\nerror: second line\n"


def test_json_lines_hold_the_message_its_figures_and_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(logs.Format.JSON)
    logger = logging.getLogger("betr_spark.test")
    logger.info("%s: %d rows", EVIL, 3, extra={"rows_out": 3})
    logger.error("failed", exc_info=ValueError("two\nlines"))
    with pytest.raises(SystemExit):
        output.fail(["no such column"])
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["level"] for line in lines] == ["info", "error", "error"]
    assert lines[0]["message"] == f"{EVIL}: 3 rows"
    assert lines[0]["fields"] == {"rows_out": 3}
    assert "ValueError: two\nlines" in lines[1]["exception"]
    assert lines[2]["message"] == "no such column"


def test_the_example_of_printable_holds() -> None:
    assert doctest.testmod(logs).failed == 0
