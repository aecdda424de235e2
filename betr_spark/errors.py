"""Errors a user can mend: one line each, naming subject, what was found and what was wanted."""


class BetrSparkError(Exception):
    """Root of every error this package raises on purpose; the command line prints it without a traceback, exit 2."""


class ConfigError(BetrSparkError, ValueError):
    """The configuration is wrong; `problems` holds one line for each thing to mend."""

    def __init__(self, *problems: str) -> None:
        """Keep every problem, so that all are reported at once."""
        super().__init__("\n".join(problems))
        self.problems = problems


class SchemaError(BetrSparkError, ValueError):
    """A table or file lacks a column, or has one of the wrong type."""


class DataError(BetrSparkError, ValueError):
    """The content of a file is wrong: unreadable, empty, duplicate ids, a missing field."""


class ArtifactError(BetrSparkError, ValueError):
    """A scorer's model or artifact cannot be used: untrained, damaged, of another kind."""


class SetupError(BetrSparkError, RuntimeError):
    """Java, Spark, Delta's jars or the encoder's model are missing or of the wrong version."""
