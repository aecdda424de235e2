"""What commands print: lines, or one JSON document."""

import dataclasses
import json
import logging
import math
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NoReturn

import typer

from betr_spark import logs
from betr_spark.errors import one_line
from betr_spark.redaction import redacted

_logger = logging.getLogger(__name__)
_TIMES = frozenset({"started_at", "renewed_at", "ended_at", "finished_at"})
as_json = False  # set by the option --json


def emit(document: Mapping[str, Any], lines: Sequence[str]) -> None:
    """Print a result: as JSON if --json was given, else the lines, each of them as one."""
    typer.echo(json.dumps(_plain(document), indent=2, default=str) if as_json else "\n".join(map(one_line, lines)))


def fail(lines: Sequence[str], *, code: int = 2, document: Mapping[str, Any] | None = None) -> NoReturn:
    """Print errors, one line each, and exit; with --json also as the document `{"errors": [...], "exit_code": ...}`.

    `document` is what the command found out in spite of the errors; it becomes a part of the JSON document.
    """
    lines = [one_line(redacted(line)) for line in lines]
    if as_json:
        whole = {**_plain(document or {}), "errors": lines, "exit_code": code}
        typer.echo(json.dumps(whole, indent=2, default=str))
    for line in lines:
        if logs.running.format == logs.Format.JSON:
            _logger.error(line)
        else:
            print(f"error: {line}", file=sys.stderr)
    sys.exit(code)


def stop_at(problems: Sequence[str]) -> None:
    """Fail if there are problems."""
    if problems:
        fail(problems)


def _time(value: Any) -> Any:
    """Seconds since the epoch as ISO 8601, UTC."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return datetime.fromtimestamp(value, UTC).isoformat(timespec="seconds") if is_number else _plain(value)


def _plain(value: Any) -> Any:
    """Convert records to objects, and numbers that JSON does not have to null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain({field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return _plain(value._asdict())
    if isinstance(value, Mapping):
        return {str(key): _time(item) if key in _TIMES else _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
