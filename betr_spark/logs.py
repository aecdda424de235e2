"""Log lines on stderr, as text or as one JSON object a line; configured by the command line alone."""

import json
import logging
import os
import sys
import traceback
import unicodedata
from datetime import UTC, datetime
from enum import StrEnum
from types import TracebackType

from betr_spark.redaction import redacted

_STANDARD = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime"})


class Format(StrEnum):
    """Of the log lines."""

    TEXT = "text"
    JSON = "json"


class _Running:
    """What the lines belong to. One process runs one stage at a time: a lease holds the output."""

    run_id = ""
    stage = ""
    format = Format.TEXT


running = _Running()


def printable(text: str) -> str:
    r"""Escape what a terminal would act on: control characters and invisible ones, such as those of the writing direction.

    Ids, sources and texts come from a crawl. Line breaks and tabs stay.

    >>> printable("a\x1b[2Jb \u202ec")
    'a\\x1b[2Jb \\u202ec'
    """
    return "".join(c if c in "\n\t" or unicodedata.category(c)[0] not in "C" else repr(c)[1:-1] for c in text)


class _Stderr(logging.Handler):
    """Writes to what `sys.stderr` is at the time: the live display of the progress replaces it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        sys.stderr.write(f"{self.format(record)}\n")
        sys.stderr.flush()


class _TextFormatter(logging.Formatter):
    """The message, and a traceback where there is one, without credentials."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
        return printable(redacted(super().format(record)))


class JsonFormatter(logging.Formatter):
    """One object a line: time, level, logger, stage, run_id, message, and `fields` (what the call gave as `extra`)."""

    def format(self, record: logging.LogRecord) -> str:
        """Encode a record."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "stage": running.stage,
            "run_id": running.run_id,
            "message": record.getMessage(),
            "fields": {name: value for name, value in vars(record).items() if name not in _STANDARD},
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return redacted(json.dumps(line, default=str))


def configure(form: Format = Format.TEXT) -> None:
    """Write the lines of this package, warnings of others, and tracebacks to stderr, without credentials."""
    running.format = form
    handler = _Stderr()
    handler.setFormatter(JsonFormatter() if form == Format.JSON else _TextFormatter("%(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("betr_spark").setLevel(logging.INFO)
    logging.getLogger("py4j").setLevel(logging.CRITICAL)
    sys.excepthook = _print_traceback
    os.environ["BETR_SPARK_LOG_FORMAT"] = form.value  # conf/local/log4j2.properties reads it when the JVM starts


def _print_traceback(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    sys.stderr.write(printable(redacted("".join(traceback.format_exception(kind, error, where)))))
