"""What the record of a lease says: who holds the output, or held it last."""

import dataclasses
import json
import os
import socket
import time
from datetime import UTC, datetime
from typing import Any, NamedTuple, Self

from pyspark.sql import SparkSession

from betr_spark.spark.jvm import java_class
from betr_spark.storage import processes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Holder:
    """Who holds a lease, or held it last; `ended_at` is None while it is held. Times are seconds since the epoch.

    Attributes:
        run_id: of the invocation, as in `runs`.
        command: of `betr-spark`.
        processes: the driver's Python process and its JVM, see `processes.identity`; empty where they cannot be told.
        stage: the running stage, or the last one.
        renewals: number of heartbeats.
        error: why the run failed, one line; None where it did not.
    """

    run_id: str
    command: str
    host: str
    user: str
    pid: int
    processes: list[str]
    started_at: float
    renewed_at: float
    renewals: int = 0
    stage: str = ""
    ended_at: float | None = None
    error: str | None = None

    @classmethod
    def this(cls, spark: SparkSession, run_id: str, command: str) -> Self:
        """This process."""
        jvm = int(java_class(spark, "java.lang.ProcessHandle").current().pid())
        now = time.time()
        return cls(
            run_id=run_id, command=command, host=socket.gethostname(), user=processes.user_name(), pid=os.getpid(),
            processes=[i for i in (processes.identity(pid) for pid in (os.getpid(), jvm)) if i],
            started_at=now, renewed_at=now,
        )  # fmt: skip

    def line(self) -> str:
        """Who it is, in words."""
        since = datetime.fromtimestamp(self.started_at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        stage = f", stage {self.stage}" if self.stage else ""
        where = f"on {self.host} (pid {self.pid}, run {self.run_id}{stage})"
        return f"`betr-spark {self.command}` of {self.user} {where} since {since}"

    def public(self) -> dict[str, Any]:
        """The fields that commands print as JSON."""
        names = ("run_id", "command", "host", "user", "pid", "stage", "started_at", "renewed_at", "ended_at", "error")
        return {name: getattr(self, name) for name in names}

    def to_json(self) -> bytes:
        """Encode as the content of a record."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True).encode()

    @classmethod
    def from_json(cls, content: bytes) -> Self | None:
        """Decode; None for a record that is being written, or another version's."""
        try:
            values = json.loads(content)
            return cls(**{field.name: values[field.name] for field in dataclasses.fields(cls)})
        except (ValueError, TypeError, KeyError):
            return None


class Record(NamedTuple):
    """The record that counts: its number, and its content (None while it is being written)."""

    number: int
    holder: Holder | None

    @property
    def ended(self) -> bool:
        """Whether its run ended in an orderly way or was broken by `unlock`."""
        return self.holder is not None and self.holder.ended_at is not None

    @property
    def dying(self) -> bool:
        """Whether one of its processes on this machine has ended: a killed driver's JVM takes some seconds to end."""
        return self.holder is not None and processes.some_dead(self.holder.processes)

    @property
    def dead(self) -> bool:
        """Whether its processes ran on this machine and do not exist any more."""
        return self.holder is not None and processes.all_dead(self.holder.processes)
