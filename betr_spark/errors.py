"""Errors that a user can fix, each one line: the subject, what was found and what is required."""

from betr_spark.redaction import redacted

_QUOTED_LENGTH = 80
REPAIR = (  # of a table with a damaged or missing file
    "restore it from a copy; a table in the output can be deleted instead, and the next run builds it again (but `tombstones` "
    "and `runs`, whose rows are lost)"
)


class BetrSparkError(Exception):
    """Base of every error that this package raises on purpose; the command line prints it without a traceback, exit 2."""

    def __init__(self, *lines: str) -> None:
        """Keep the message's lines, without credentials that a path or another error's message brought in.

        A line break in a line is escaped: file names and ids come from a crawl.
        """
        super().__init__(*(one_line(redacted(line)) for line in lines))

    def __str__(self) -> str:
        """The lines, each in a line of its own."""
        return "\n".join(self.args)


class ConfigError(BetrSparkError, ValueError):
    """The configuration is invalid; `problems` has one line for each key to fix."""

    @property
    def problems(self) -> tuple[str, ...]:
        """Every problem, so that all of them are reported at once."""
        return self.args


class CheckError(BetrSparkError, ValueError):
    """What would stop a run, found before any work, as `betr-spark check` prints it; `problems` has one line for each."""

    @property
    def problems(self) -> tuple[str, ...]:
        """Every problem."""
        return self.args


class SchemaError(BetrSparkError, ValueError):
    """A table or file has no such column, or the column has the wrong type."""


class DataError(BetrSparkError, ValueError):
    """The content of a file is invalid: unreadable, empty, duplicate ids, a missing field."""


class ArtifactError(BetrSparkError, ValueError):
    """A scorer's model or artifact cannot be used: not trained, damaged, or of another kind."""


class SetupError(BetrSparkError, RuntimeError):
    """Java, Spark, Delta's jars or the encoder's model are missing or have the wrong version."""


class StoreError(BetrSparkError, ConnectionError):
    """A file system cannot be reached; the command line exits with 1, because the same command may succeed later."""


class LockedError(BetrSparkError, RuntimeError):
    """Another run holds the lease on the output; the command line exits with 3."""


def one_line(text: str) -> str:
    r"""Escape line breaks and whatever else is not printable, such as what a terminal would act on.

    >>> one_line("a\nb\x1b[2J \u202ec")
    'a\\nb\\x1b[2J \\u202ec'
    """
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def quoted(value: object) -> str:
    r"""Quote an id or another value of the user for a message: one line, escaped, at most 80 characters in the quotes.

    Line breaks, control characters, bidirectional marks, lone surrogates and backslashes are escaped as in a Python string.
    A longer value ends with `...`, and an escape sequence is never cut.

    >>> quoted("a\nb")
    "'a\\nb'"
    >>> quoted(12)
    "'12'"
    """
    text = str(value)
    parts = [repr(character)[1:-1] for character in text[: _QUOTED_LENGTH + 1]]
    if sum(map(len, parts)) > _QUOTED_LENGTH:
        while sum(map(len, parts)) > _QUOTED_LENGTH - 3:
            parts.pop()
        parts.append("...")
    return f"'{''.join(parts)}'"
