"""Keeps lines of the JVM off stderr that tell of nothing unusual."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

# Spark starts Java with an incubator module, and libraries of Spark call methods that newer Java versions warn of.
_USUAL = (b"WARNING: ", b"NOTE: Picked up JDK_JAVA_OPTIONS")


@contextmanager
def usual_lines_dropped() -> Iterator[None]:
    """Give processes that are started meanwhile, such as the JVM, a stderr that passes on all other lines."""
    stderr = os.dup(2)
    reading, writing = os.pipe()
    os.dup2(writing, 2)
    os.close(writing)
    threading.Thread(target=_pass_on, args=(reading, stderr), name="stderr of the JVM", daemon=True).start()
    try:
        yield
    finally:
        os.dup2(stderr, 2)


def _pass_on(reading: int, stderr: int) -> None:
    with os.fdopen(reading, "rb") as lines:
        for line in lines:
            if not line.startswith(_USUAL):
                with suppress(OSError):
                    os.write(stderr, line)
