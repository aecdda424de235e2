"""What a run is doing: a live list of stages on a terminal, else a line every 30 seconds."""

import logging
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Self

from pyspark.sql import SparkSession
from rich.console import Console
from rich.live import Live
from rich.table import Table

from betr_spark.spark.work import Work, WorkMeter

_LIVE_S, _LINE_S = 1.0, 30.0
_SHOWN_MB_PER_S = 0.1
_logger = logging.getLogger(__name__)


class Progress:
    """Context manager that shows the progress of a run's stages, and measures their work.

    `parts` and `part` are set by a stage that works in parts of about equal size (`of`), the time left is told from them.
    """

    def __init__(self, spark: SparkSession, stages: Sequence[str], *, live: bool | None = None) -> None:
        self._spark, self._states = spark, dict.fromkeys(stages, "")
        self._live = sys.stderr.isatty() if live is None else live
        self._stage, self._started, self._line_at = "", time.monotonic(), time.monotonic()
        self._meter = WorkMeter(spark)
        self._part, self._parts, self._part_started = 0, 0, 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="progress", daemon=True)

    def __enter__(self) -> Self:
        """Start to show."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Show the last state and stop."""
        self._stop.set()
        self._thread.join(timeout=_LIVE_S * 5)

    def begin(self, stage: str) -> None:
        """A stage starts."""
        self._stage, self._started, self._line_at = stage, time.monotonic(), time.monotonic()
        self._part = self._parts = 0
        self._states[stage] = "running"

    def end(self, stage: str, result: str) -> None:
        """A stage has ended, with a result in a few words; what Spark does from now on is work of the next one."""
        self._states[stage], self._stage = result, ""
        self._meter.reset()

    def part(self, number: int, of: int) -> None:
        """The running stage is in part `number` (from 0) of about `of` parts of equal size."""
        if not self._parts:
            self._part_started = time.monotonic()
        self._part, self._parts = number, max(of, number + 1)

    def work(self) -> Work:
        """Spark's work since the last stage ended."""
        return self._meter.total()

    def line(self) -> str:
        """The running stage in one line."""
        running = self._meter.running()
        seconds = time.monotonic() - self._started
        what = running.description.removeprefix("Delta: ").partition(": ")[2]  # the stage's name is before it
        parts = [f"{seconds:.0f} s", *([what] if what else [])]
        if self._parts:
            parts.append(f"part {self._part + 1} of {self._parts}")
        if running.tasks:
            parts.append(f"{running.done_tasks} of {running.tasks} tasks")
        if running.rows_read:
            parts.append(f"{running.rows_read:,} rows read")
        if (mb_per_s := running.bytes_read / 1e6 / max(seconds, 1e-3)) >= _SHOWN_MB_PER_S:
            parts.append(f"{mb_per_s:.1f} MB/s")
        if self._parts:
            done = self._part + (running.done_tasks / running.tasks if running.tasks else 0.0)
            if done:
                left = (time.monotonic() - self._part_started) * (self._parts - done) / done
                parts.append(f"about {_duration(left)} left")
        return f"{self._stage}: {', '.join(parts)}"

    def _watch(self) -> None:
        if self._live:
            with Live(console=Console(stderr=True), auto_refresh=False, redirect_stdout=False) as live:
                while not self._stop.wait(_LIVE_S):
                    with suppress(Exception):  # the session may end at any time
                        self._observe_now_and_then()
                        live.update(self._table(), refresh=True)
                live.update(self._table(running=False), refresh=True)
            return
        while not self._stop.wait(_LIVE_S):
            with suppress(Exception):
                if self._observe_now_and_then():
                    _logger.info("%s", self.line())

    def _observe_now_and_then(self) -> bool:
        if not self._stage or time.monotonic() - self._line_at < _LINE_S:
            return False
        self._line_at = time.monotonic()
        self._meter.observe()
        return True

    def _table(self, *, running: bool = True) -> Table:
        table = Table.grid(padding=(0, 2))
        for stage, state in self._states.items():
            now = self.line().partition(": ")[2] if running and stage == self._stage else state
            table.add_row({"running": "▶", "": "·"}.get(state, "✓"), stage, now)
        return table


def _duration(seconds: float) -> str:
    for size, name in ((3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.0f} s"
