"""Errors that a user can fix, each one line: the subject, what was found and what is required."""

from betr_spark.redaction import redacted

_QUOTED_LENGTH = 80


class BetrSparkError(Exception):
    """Base of every error that this package raises on purpose; the command line prints it without a traceback, exit 2."""

    def __init__(self, *args: object) -> None:
        """Keep the message, without credentials that a path or another error's message brought in."""
        super().__init__(*(redacted(arg) if isinstance(arg, str) else arg for arg in args))


class ConfigError(BetrSparkError, ValueError):
    """The configuration is invalid; `problems` has one line for each key to fix."""

    def __init__(self, *problems: str) -> None:
        """Keep every problem, so that all of them are reported at once."""
        super().__init__("\n".join(problems))
        self.problems = tuple(redacted(problem) for problem in problems)


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
