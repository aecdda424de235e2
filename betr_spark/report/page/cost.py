"""The section on cost: what each stage took, versions, configuration and hashes; and the last evaluation."""

import platform
from datetime import UTC
from typing import Any, NamedTuple

import yaml
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from betr_spark import __version__, schemas
from betr_spark.config import Config
from betr_spark.redaction import redacted
from betr_spark.spark.jvm import java_class
from betr_spark.storage import delta

_SHORT_HASH = 12


class StageCost(NamedTuple):
    """The last run of a stage.

    Attributes:
        stage: name.
        started_at: UTC.
        seconds: duration.
        rows_in: rows read.
        rows_out: rows of the table.
        mb_per_s: megabytes read from files and tables, divided by the duration; None if it was not measured.
        cpu_seconds: of the executors' JVMs.
        task_seconds: of all tasks, their Python workers included.
        spilled_mb: written to local disks because memory was short.
        key: digest of everything that the table depends on, its first characters.
        version: of betr-spark, with the first characters of its commit.
        inputs: versions of tables and files that the stage read.
    """

    stage: str
    started_at: str
    seconds: float
    rows_in: int
    rows_out: int
    mb_per_s: float | None
    cpu_seconds: float | None
    task_seconds: float | None
    spilled_mb: float | None
    key: str
    version: str
    inputs: dict[str, str]


class Cost(NamedTuple):
    """The last run of each stage, the number of all recorded runs, versions of this machine, and the configuration."""

    stages: list[StageCost]
    n_runs: int
    versions: dict[str, str]
    config: str


def cost(spark: SparkSession, config: Config) -> Cost:
    """Read `runs`; without it there are no stages."""
    path, stages, n_runs = config.table(schemas.RUNS_TABLE), list[StageCost](), 0
    if delta.exists(spark, path):
        rows = delta.read(spark, path)
        missing = {
            name: F.lit(None) for name in ("cpu_seconds", "task_seconds", "bytes_read", "bytes_spilled", "git_revision")
        }
        rows = rows.withColumns({name: value for name, value in missing.items() if name not in rows.columns})
        names = [name for name in rows.columns if name not in ("stage", "started_at", "dropped", "metrics", "config")]
        last = F.max_by(F.struct("started_at", *names), "started_at").alias("last")
        found = rows.groupBy("stage").agg(last, F.count("*").alias("n")).collect()  # one row for each stage
        n_runs = sum(row["n"] for row in found)
        stages = [_stage(row["stage"], row["last"]) for row in sorted(found, key=lambda row: row["last"]["started_at"])]
    return Cost(stages, n_runs, _versions(spark), configuration(config))


def configuration(config: Config) -> str:
    """The settings that were given, as YAML, without credentials."""
    text = yaml.safe_dump(
        config.model_dump(mode="json", exclude_unset=True), sort_keys=False, allow_unicode=True, width=100
    )
    return redacted(text)


def _stage(name: str, row: Any) -> StageCost:
    seconds, revision = row["seconds"], (row["git_revision"] or "")[:_SHORT_HASH]
    return StageCost(
        stage=name,
        started_at=f"{row['started_at'].astimezone(UTC):%Y-%m-%d %H:%M:%S}",
        seconds=seconds,
        rows_in=row["rows_in"],
        rows_out=row["rows_out"],
        mb_per_s=row["bytes_read"] / 1e6 / seconds if row["bytes_read"] and seconds else None,
        cpu_seconds=row["cpu_seconds"],
        task_seconds=row["task_seconds"],
        spilled_mb=None if row["bytes_spilled"] is None else row["bytes_spilled"] / 1e6,
        key=(row["key"] or "")[:_SHORT_HASH],
        version=f"{row['package_version']} {revision}".strip(),
        inputs={key: redacted(str(value)) for key, value in (row["input_versions"] or {}).items()},
    )


def _versions(spark: SparkSession) -> dict[str, str]:
    return {
        "betr-spark": __version__,
        "Spark": spark.version,
        "Java": str(java_class(spark, "java.lang.System").getProperty("java.version")),
        "Python": platform.python_version(),
    }


class EvaluationRow(NamedTuple):
    """A row of `evaluations`: the change of bits per byte against random documents; negative is better."""

    selection: str
    budget: float
    items: str
    n_items: int
    change: float
    low: float
    high: float
    spread: float
    verdict: str


def evaluation(spark: SparkSession, config: Config) -> list[EvaluationRow]:
    """The last result of `betr-spark evaluate`, without the random draws; empty if there is none."""
    path = config.table(schemas.EVALUATIONS_TABLE)
    if not delta.exists(spark, path):
        return []
    rows = delta.read(spark, path).where(~F.col("control")).select(*EvaluationRow._fields)
    return [EvaluationRow(*row) for row in rows.collect()]  # one row for each selection, budget and set of items
