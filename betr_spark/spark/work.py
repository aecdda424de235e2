"""What Spark has done and is doing, from its own status store (the one of its web page; it exists without the page too)."""

import dataclasses
import json
from typing import Any, NamedTuple

from pyspark.sql import SparkSession

from betr_spark.spark.jvm import java_class

_FINISHED, _UNFINISHED = ("COMPLETE", "FAILED"), ("ACTIVE", "PENDING")
_FIRST_LOOK = 64
_MEMORY = ("JVMHeapMemory", "JVMOffHeapMemory", "ProcessTreePythonRSSMemory")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
    """Sums over Spark's stages.

    Attributes:
        spark_stages: number of them that ran.
        spark_tasks: number of finished tasks.
        task_seconds: wall-clock time of the tasks, their Python workers included.
        cpu_seconds: CPU time of the executors' JVMs; Spark does not report that of Python workers.
        bytes_read: read by tasks from files and tables, compressed.
        bytes_written: written by tasks to files and tables.
        bytes_spilled: written by tasks to local disks because memory was short.
        peak_memory_bytes: largest sum of heap, off-heap and (with spark.executor.processTreeMetrics.enabled) Python memory of
            an executor at a heartbeat; 0 where Spark had no heartbeat in the stage.
    """

    spark_stages: int = 0
    spark_tasks: int = 0
    task_seconds: float = 0.0
    cpu_seconds: float = 0.0
    bytes_read: int = 0
    bytes_written: int = 0
    bytes_spilled: int = 0
    peak_memory_bytes: int = 0

    def plus(self, stage: dict[str, Any]) -> "Work":
        """Add a stage of Spark's."""
        peak = stage.get("peakExecutorMetrics") or {}
        return Work(
            spark_stages=self.spark_stages + 1,
            spark_tasks=self.spark_tasks + stage["numCompleteTasks"],
            task_seconds=self.task_seconds + stage["executorRunTime"] / 1e3,
            cpu_seconds=self.cpu_seconds + stage["executorCpuTime"] / 1e9,
            bytes_read=self.bytes_read + stage["inputBytes"],
            bytes_written=self.bytes_written + stage["outputBytes"],
            bytes_spilled=self.bytes_spilled + stage["diskBytesSpilled"],
            peak_memory_bytes=max(self.peak_memory_bytes, sum(peak.get(name, 0) for name in _MEMORY)),
        )


class Running(NamedTuple):
    """Spark's running stages: tasks of all of them, and what the tasks have read so far."""

    done_tasks: int
    tasks: int
    rows_read: int
    bytes_read: int
    description: str
    """Of the newest job."""


class WorkMeter:
    """Measures Spark's work. Spark keeps the last 1,000 stages, so `observe` has to be called now and then."""

    def __init__(self, spark: SparkSession) -> None:
        self._spark = spark
        self._mapper = java_class(spark, "org.apache.spark.status.api.v1.JacksonMessageWriter")().mapper()
        self._store = spark._jsc.sc().statusStore()  # noqa: SLF001
        newest = self._newest(1)
        self._floor = newest[0]["stageId"] if newest else -1  # stages up to it are counted, or were there before
        self._seen: set[tuple[int, int]] = set()
        self.reset()

    def reset(self) -> None:
        """Forget what was counted so far."""
        self._finished, self._rows = Work(), 0

    def observe(self) -> Work:
        """Count the stages that have ended, and return all work since the last `reset`."""
        stages = self._since_floor()
        for stage in stages:
            if stage["status"] in _FINISHED and _name(stage) not in self._seen:
                self._seen.add(_name(stage))
                self._finished = self._finished.plus(stage)
                self._rows += stage["inputRecords"]
        unfinished = [stage["stageId"] for stage in stages if stage["status"] in _UNFINISHED]
        self._floor = max(self._floor, min(unfinished, default=max((s["stageId"] for s in stages), default=0) + 1) - 1)
        self._seen = {name for name in self._seen if name[0] > self._floor}
        return self._finished

    def total(self) -> Work:
        """As `observe`, after Spark has taken note of all that has ended."""
        self._spark._jsc.sc().listenerBus().waitUntilEmpty()  # noqa: SLF001
        return self.observe()

    def running(self) -> Running:
        """What runs now; the bytes and rows are those of counted stages too."""
        active = self._parsed(self._store.activeStages())
        return Running(
            sum(stage["numCompletedIndices"] for stage in active),
            sum(stage["numTasks"] for stage in active),
            self._rows + sum(stage["inputRecords"] for stage in active),
            self._finished.bytes_read + sum(stage["inputBytes"] for stage in active),
            next((stage["description"] for stage in active if stage.get("description")), ""),
        )

    def _since_floor(self) -> list[dict[str, Any]]:
        number = _FIRST_LOOK
        while True:
            stages = self._newest(number)
            if len(stages) < number or stages[-1]["stageId"] <= self._floor:
                return [stage for stage in stages if stage["stageId"] > self._floor]
            number *= 4

    def _newest(self, number: int) -> list[dict[str, Any]]:
        """The last stages, newest first."""
        defaults = [getattr(self._store, f"stageList$default${position}")() for position in (2, 3, 4, 5)]
        return self._parsed(self._store.stageList(None, *defaults).take(number))

    def _parsed(self, stages: Any) -> list[dict[str, Any]]:
        parsed: list[dict[str, Any]] = json.loads(self._mapper.writeValueAsString(stages))  # one call for all
        return parsed


def _name(stage: dict[str, Any]) -> tuple[int, int]:
    return stage["stageId"], stage["attemptId"]
