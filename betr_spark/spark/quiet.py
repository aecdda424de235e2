"""Keeps the JVM's lines off stdout, which is for results, and those off stderr that tell of nothing unusual."""

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pyspark.logger import PySparkLogger

from betr_spark.logs import printable
from betr_spark.redaction import redacted

# Spark starts Java with an incubator module, libraries of Spark call methods that newer Java versions warn of, the copy of
# SLF4J in the AWS SDK has no logger, and VACUUM prints a line.
_USUAL = re.compile(
    rb"WARNING: |NOTE: Picked up JDK_JAVA_OPTIONS|SLF4J: |Deleted \d+ files and directories in a total of "
)


def query_errors_raised_only() -> None:
    """Keep PySpark from logging errors of queries, with the JVM's stack, before it raises them."""
    for name in ("DataFrameQueryContextLogger", "SQLQueryContextLogger"):
        PySparkLogger.getLogger(name).disabled = True


@contextmanager
def usual_lines_dropped() -> Iterator[None]:
    """Send what processes that are started meanwhile, such as the JVM, print to stderr, redacted, without the usual lines."""
    stdout, stderr = os.dup(1), os.dup(2)
    reading, writing = os.pipe()
    os.dup2(writing, 1)
    os.dup2(writing, 2)
    os.close(writing)
    threading.Thread(target=_pass_on, args=(reading, stderr), name="stderr of the JVM", daemon=True).start()
    try:
        yield
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)
        os.dup2(stderr, 2)


def _pass_on(reading: int, stderr: int) -> None:
    with os.fdopen(reading, "rb") as lines:
        for line in lines:
            if not _USUAL.match(line):
                with suppress(OSError):
                    os.write(stderr, printable(redacted(line.decode(errors="replace"))).encode())
