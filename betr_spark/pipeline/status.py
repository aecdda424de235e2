"""The state of each stage of an output, and which run holds it."""

import time
from datetime import UTC, datetime
from typing import Any, NamedTuple

from betr_spark.errors import BetrSparkError
from betr_spark.pipeline.run import Planned, plan, stages_of
from betr_spark.pipeline.stage import RunContext
from betr_spark.spark.error_messages import translated
from betr_spark.storage import lease
from betr_spark.storage.lease_record import Holder, Record

UP_TO_DATE, STALE, NEVER_RUN, RUNNING, FAILED, UNKNOWN = (
    "up to date",
    "stale",
    "never run",
    "running",
    "failed",
    "unknown",
)
_COLUMNS = ("stage", "state", "finished (UTC)", "seconds", "rows", "why")


class StageStatus(NamedTuple):
    """A stage: its state, the reason, and the last finished run of it (None where there is none).

    Attributes:
        stage: name.
        state: `up to date`, `stale`, `never run`, `running`, `failed`, or `unknown` where the input cannot be read.
        why: of a state that is not `up to date`.
        finished_at: seconds since the epoch.
        seconds: of the run.
        rows: of its table.
    """

    stage: str
    state: str
    why: str
    finished_at: float | None
    seconds: float | None
    rows: int | None

    def cells(self) -> list[str]:
        """As a line of a table."""
        finished = "" if self.finished_at is None else _time(self.finished_at)
        seconds = "" if self.seconds is None else f"{self.seconds:.1f}"
        return [self.stage, self.state, finished, seconds, "" if self.rows is None else str(self.rows), self.why]


class Status(NamedTuple):
    """The stages of an output, and its lease (None where no run has ever written to it)."""

    output: str
    lease: dict[str, Any] | None
    stages: list[StageStatus]

    def lines(self) -> list[str]:
        """As a table, with a line about the lease."""
        rows = [list(_COLUMNS), *(stage.cells() for stage in self.stages)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return [f"output: {self.output}", *lines, f"lease: {self.lease['line'] if self.lease else 'free'}"]


def status_of(context: RunContext) -> Status:
    """Look at each stage and at the lease; nothing is written.

    The state of a lease is told by this machine's clock: a run of another machine counts as ended `EXPIRES_S` seconds after the
    last renewal.
    """
    record = lease.current(context.spark, context.config.output)
    live = record is not None and lease.is_live(record, now=time.time())
    holder = record.holder if record else None
    stages = []
    for planned in _planned(context):
        last_run = planned.stage.made_by(context)
        state, why = _state(planned, last_run is not None)
        if holder and holder.stage == planned.stage.name:
            if live:
                state, why = RUNNING, f"run {holder.run_id} of {holder.host}"
            elif planned.work and (holder.error or holder.ended_at is None):
                state, why = FAILED, holder.error or "the run was killed"
        finished = (
            (last_run.started_at + last_run.seconds, last_run.seconds, last_run.rows_out) if last_run else (None,) * 3
        )
        stages.append(StageStatus(planned.stage.name, state, why, *finished))
    return Status(context.config.output, _lease(record, live=live), stages)


def _planned(context: RunContext) -> list[Planned]:
    try:
        with translated():
            return list(plan(context))
    except BetrSparkError as error:
        why = str(error).splitlines()[0]
        return [Planned(stage, True, f"{UNKNOWN}: {why}") for stage in stages_of(context.config)]


def _state(planned: Planned, has_run: bool) -> tuple[str, str]:
    if planned.why.startswith(f"{UNKNOWN}: "):
        return UNKNOWN, planned.why.removeprefix(f"{UNKNOWN}: ")
    if not planned.work:
        return UP_TO_DATE, ""
    return (STALE if has_run else NEVER_RUN), planned.why if has_run else ""


def _lease(record: Record | None, *, live: bool) -> dict[str, Any] | None:
    if record is None or record.holder is None:
        return None
    holder = record.holder
    state = "held" if live else "ended" if record.ended else "expired"
    return {**holder.public(), "state": state, "line": _line(holder, state)}


def _line(holder: Holder, state: str) -> str:
    if state == "held":
        return f"held by {holder.line()}"
    if state == "expired":
        return f"free; {holder.line()} ended without notice"
    result = f"failed: {holder.error}" if holder.error else "done"
    return f"free; last: {holder.line()}, ended {_time(holder.ended_at or 0.0)} UTC, {result}"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
