"""Limits to the time and memory of code that a user's file decides, such as a loop in a template."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

_GB = 10**9


@contextmanager
def limited(*, seconds: float, n_bytes: int) -> Iterator[None]:
    """Raise TimeoutError in the block after some seconds, MemoryError where it asks for more than some bytes of memory.

    Without effect outside the main thread, which has no signals. Memory is limited on Linux alone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"takes longer than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        with _limited_memory(n_bytes):
            yield
    except MemoryError:
        raise MemoryError(f"takes more than {n_bytes / _GB:g} GB of memory") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def _limited_memory(n_bytes: int) -> Iterator[None]:
    import resource  # noqa: PLC0415 - Windows has none

    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except OSError:  # no Linux
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = pages * resource.getpagesize() + n_bytes
    known = [limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min([most, *known]), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
