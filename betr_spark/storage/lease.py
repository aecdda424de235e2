"""The lease on an output: one writer at a time, on every file system that Spark writes to.

Records are files `_lease/N.json`; the one with the highest N counts. A writer takes the lease by creating the next number,
which one of several writers can do. It renews its record every `HEARTBEAT_S` seconds and marks it as ended when it ends. A
record that has not ended is expired after `EXPIRES_S` seconds without renewal, or as soon as its processes are known to be
dead; then the next writer may take over. A writer that was only suspended finds the higher number and stops before it writes
its next table; a write that is under way may still end with its commit.

Ages are differences between modification times of the store, so the clocks of the machines need not agree.
"""

import contextlib
import dataclasses
import itertools
import logging
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

from betr_spark.errors import DataError, LockedError
from betr_spark.redaction import redacted
from betr_spark.storage import hadoop_files
from betr_spark.storage.lease_record import Holder, Record
from betr_spark.storage.small_files import create_new, write_bytes

HEARTBEAT_S, EXPIRES_S, _POLL_S = 10.0, 60.0, 1.0
_ATTEMPTS, _DYING_S = 20, 30.0
FOLDER = "_lease"
_logger = logging.getLogger(__name__)


class Lease:
    """A lease that this process holds; `check` raises once another process has taken it over."""

    def __init__(self, spark: SparkSession, output: str, number: int, holder: Holder, *, waited: bool) -> None:
        self.waited = waited  # whether another run held it after the caller had found it free
        self._spark, self._output, self._number = spark, output, number
        self._holder, self._lock, self._stop = holder, threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise LockedError if the lease is not this run's any more."""
        record = current(self._spark, self._output)
        if record is None or record.number > self._number:
            taker = f": {record.holder.line()}" if record and record.holder else ""
            raise LockedError(
                f"output: {self._output}: this run's lease was taken over{taker}; nothing more is written"
            )

    def enter(self, stage: str) -> None:
        """Tell which stage runs."""
        self._write(stage=stage)

    def release(self, error: str | None = None) -> None:
        """Mark the record as ended, with the reason of a failure."""
        self._stop.set()
        self._thread.join(timeout=HEARTBEAT_S)
        self._write(ended_at=time.time(), error=error)

    def _write(self, **changes: Any) -> None:
        with self._lock:
            now = time.time()
            self._holder = dataclasses.replace(
                self._holder, renewed_at=now, renewals=self._holder.renewals + 1, **changes
            )
            write_bytes(self._spark, _path(self._output, self._number), self._holder.to_json())

    def _renew(self) -> None:
        while not self._stop.wait(HEARTBEAT_S):
            with contextlib.suppress(
                Exception
            ):  # the store may be away for a while; `check` tells if that took too long
                self._write()


@contextmanager
def hold(spark: SparkSession, output: str, holder: Holder, *, wait_s: float = 0.0) -> Iterator[Lease]:
    """Take the lease, and release it at the end.

    Args:
        spark: the session.
        output: folder.
        holder: this process.
        wait_s: how long to wait for another run to end.

    Raises:
        LockedError: another run holds it.
    """
    end, attempts = time.monotonic() + wait_s, 0
    while (number := _take(spark, output, holder, wait_s=max(0.0, end - time.monotonic()))) is None:
        attempts += 1  # another run was faster
    lease = Lease(spark, output, number, holder, waited=attempts > 0)
    error: str | None = "unknown"
    try:
        yield lease
        error = None
    except BaseException as raised:
        error = redacted(f"{type(raised).__name__}: {raised}".splitlines()[0])[:300]
        raise
    finally:
        with contextlib.suppress(Exception):  # the run's own error counts; without an end the record expires
            lease.release(error)


def _take(spark: SparkSession, output: str, holder: Holder, *, wait_s: float) -> int | None:
    """Take the lease when it is free, and return its number; None where another run was faster."""
    record = wait_until_free(spark, output, wait_s=wait_s)
    number = 1 if record is None else record.number + 1
    if not create_new(spark, _path(output, number), holder.to_json()):
        return None
    numbers = _numbers(spark, output)
    if max(numbers) > number:  # `record` was old: other runs have come and gone, or hold a later number
        hadoop_files.delete(spark, _path(output, number))
        return None
    for earlier in numbers:
        if earlier < number:
            hadoop_files.delete(spark, _path(output, earlier))
    return number


def wait_until_free(spark: SparkSession, output: str, *, wait_s: float = 0.0) -> Record | None:
    """Return the record that no run holds any more; raise LockedError if one still does after `wait_s` seconds."""
    end = time.monotonic() + wait_s
    seen, since, told = b"", time.monotonic(), False
    while True:
        record = current(spark, output)
        if record is None or record.ended or record.dead:
            return record
        if wait_s and not told:
            who = record.holder.line() if record.holder else "another run"
            _logger.info("waiting for up to %.0f s: output %s is locked by %s", wait_s, output, who)
            told = True
        content = record.holder.to_json() if record.holder else b""
        if content != seen:
            seen, since = content, time.monotonic()
        if max(_age(spark, output, record.number), time.monotonic() - since) > EXPIRES_S:
            return record
        if record.dying:
            end = max(end, since + _DYING_S)
        if time.monotonic() >= end:
            raise LockedError(_held(output, record))
        time.sleep(_POLL_S)


def current(spark: SparkSession, output: str) -> Record | None:
    """Return the record that counts; None where no run has ever written to the output."""
    for attempt in itertools.count(1):
        numbers = _numbers(spark, output)
        if not numbers:
            return None
        try:
            content = hadoop_files.read_bytes(spark, _path(output, max(numbers)))
        except (
            DataError,
            Py4JJavaError,
        ):  # another run took the next number and deleted this one, before or while it was opened
            if attempt == _ATTEMPTS:
                raise
        else:
            return Record(max(numbers), Holder.from_json(content))
    return None


def break_lease(spark: SparkSession, output: str, breaker: Holder) -> Holder | None:
    """Take the lease away from its holder, who stops before the next write; return the holder, None if it was free."""
    record = current(spark, output)
    if record is None or record.ended:
        return None
    ended = dataclasses.replace(breaker, ended_at=time.time(), error="the lease was broken by `betr-spark unlock`")
    if not create_new(spark, _path(output, record.number + 1), ended.to_json()):
        raise LockedError(_held(output, current(spark, output)))
    return record.holder or ended


def remove_ended(spark: SparkSession, output: str) -> None:
    """Delete the record that counts if its run has ended, and the folder unless another run has taken the lease."""
    record = current(spark, output)
    if record is not None and record.ended:
        hadoop_files.delete(spark, _path(output, record.number))
        hadoop_files.delete_empty(spark, _folder(output))


def is_live(record: Record, *, now: float) -> bool:
    """Whether a run holds the lease, as far as can be told without writing: by the clock `now` of this machine."""
    if record.ended or record.dead:
        return False
    return record.holder is None or now - record.holder.renewed_at <= EXPIRES_S


def _held(output: str, record: Record | None) -> str:
    who = record.holder.line() if record and record.holder else "another run"
    return f"output: {output}: is locked by {who}; wait for it with --wait SECONDS, or break its lease with `betr-spark unlock`"


def _age(spark: SparkSession, output: str, number: int) -> float:
    """Seconds since a record was renewed, by the store's clock."""
    probe = f"{_folder(output)}/now-{uuid.uuid4().hex}"
    write_bytes(spark, probe, b"")
    try:
        return (hadoop_files.modified_ms(spark, probe) - hadoop_files.modified_ms(spark, _path(output, number))) / 1000
    except (DataError, Py4JJavaError):  # the record is gone: another run took the next number
        return 0.0
    finally:
        hadoop_files.delete(spark, probe)


def _numbers(spark: SparkSession, output: str) -> list[int]:
    names = (name.removesuffix(".json") for name in hadoop_files.children(spark, _folder(output)))
    return [int(name) for name in names if name.isdigit()]


def _folder(output: str) -> str:
    return f"{output.rstrip('/')}/{FOLDER}"


def _path(output: str, number: int) -> str:
    return f"{_folder(output)}/{number:020d}.json"
