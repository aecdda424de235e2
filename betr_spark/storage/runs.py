"""Run records: which run wrote a table and under which key; the `runs` table."""

import dataclasses
import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Self, TypeVar, cast

from pydantic import BaseModel
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from betr_spark import __version__, schemas
from betr_spark.spark.small_frames import small_frame
from betr_spark.spark.work import Work
from betr_spark.storage.delta import append, as_object, exists, newest_commit, newest_version, read, to_json

FORMAT_VERSION = "10"  # of the stages' tables: raise it when the same settings would give different rows


SAME_AS, _RECORDED = "same_as", "recorded"
_NAMES_SHOWN = 3

M = TypeVar("M", bound="Metrics")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metrics:
    """Figures of a stage; each stage has its own subclass, whose fields are numbers or None (not measured)."""

    def to_mapping(self) -> dict[str, float]:
        """The figures that were measured, by name."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: float(value) for name, value in values.items() if value is not None}


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageKey:
    """What a stage's output depends on; equal `key`, equal output."""

    stage: str
    config: str
    input_versions: Mapping[str, str]

    @classmethod
    def of(cls, stage: str, settings: Mapping[str, Any], **input_versions: str) -> Self:
        """Build from the settings that matter (models or plain values) and the versions of the inputs."""
        plain = {k: v.model_dump() if isinstance(v, BaseModel) else v for k, v in settings.items()}
        return cls(stage=stage, config=json.dumps(plain, sort_keys=True, default=str), input_versions=input_versions)

    @property
    def key(self) -> str:
        """sha256, hex."""
        text = json.dumps([FORMAT_VERSION, self.stage, self.config, dict(self.input_versions)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a run came from: command, machine and user of the driver, Spark's application, revision of the package."""

    command: str = ""
    host: str = ""
    user: str = ""
    application_id: str = ""
    git_revision: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageRun:
    """One row of `runs`; `skipped` marks work found finished (then it tells of the run that did it)."""

    run_id: str
    stage: str
    started_at: float
    seconds: float
    rows_in: int
    rows_out: int
    dropped: Mapping[str, int]
    metrics: Mapping[str, float]
    key: str
    config: str
    input_versions: Mapping[str, str]
    package_version: str = __version__
    origin: Origin = dataclasses.field(default_factory=Origin)
    work: Work = dataclasses.field(default_factory=Work)
    skipped: bool = False

    @classmethod
    def of(
        cls, key: StageKey, *, run_id: str, started_at: float, rows_in: int, rows_out: int,
        dropped: Mapping[str, int], metrics: Metrics | Mapping[str, float] | None, origin: Origin, work: Work,
    ) -> Self:  # fmt: skip
        """The record of a run that ends now."""
        return cls(
            run_id=run_id, stage=key.stage, started_at=started_at, seconds=time.time() - started_at, rows_in=rows_in,
            rows_out=rows_out, dropped=dict(dropped), metrics=_mapping(metrics), key=key.key,
            config=key.config, input_versions=key.input_versions, origin=origin, work=work,
        )  # fmt: skip

    def metrics_as(self, kind: type[M]) -> M:
        """The figures as a stage's own record; a field that the run did not record is None."""
        return kind(**{field.name: self.metrics.get(field.name) for field in dataclasses.fields(kind)})

    def to_json(self, **more: str | int) -> str:
        """Encode as the userMetadata of the commit that this run made, with `more` beside the fields."""
        return to_json({**{k: v for k, v in dataclasses.asdict(self).items() if k != "skipped"}, **more})

    @classmethod
    def from_json(cls, text: str) -> Self | None:
        """Decode; None where it is not one of ours."""
        values = as_object(text)
        fields = [field for field in dataclasses.fields(cls) if field.name not in ("origin", "work", "skipped")]
        if any(field.name not in values for field in fields):
            return None
        origin, work = _known(Origin, values.get("origin")), _known(Work, values.get("work"))  # older runs have none
        return cls(**{field.name: values[field.name] for field in fields}, origin=origin, work=work, skipped=True)

    def row(self) -> dict[str, Any]:
        """The fields by the names of the columns of `runs`."""
        values = dataclasses.asdict(self)
        return {
            **values,
            **values["origin"],
            **values["work"],
            "started_at": datetime.fromtimestamp(self.started_at, UTC),
        }


D = TypeVar("D", Origin, Work)


def _known(kind: type[D], values: Any) -> D:
    """Build a record from the values whose names it has."""
    names = {field.name for field in dataclasses.fields(kind)}
    return kind(**{name: value for name, value in (values or {}).items() if name in names})


def _mapping(metrics: Metrics | Mapping[str, float] | None) -> dict[str, float]:
    return metrics.to_mapping() if isinstance(metrics, Metrics) else dict(metrics or {})


def made_by(spark: SparkSession, path: str) -> StageRun | None:
    """Return the run that wrote a table; None where there is no table or no run of this package wrote it."""
    commit = newest_commit(spark, path)
    return StageRun.from_json(commit.user_metadata) if commit else None


def changes(run: StageRun, key: StageKey) -> str:
    """What differs between the key of a run and one that is computed now, in words; empty if they are equal."""
    if run.key == key.key:
        return ""
    before, now = as_object(run.config), as_object(key.config)
    settings = sorted(_changed_names(before, now))
    inputs = [name for name in key.input_versions if key.input_versions[name] != run.input_versions.get(name)]
    inputs += [name for name in run.input_versions if name not in key.input_versions]
    parts = [f"settings changed: {', '.join(settings[:_NAMES_SHOWN])}"] if settings else []
    parts += [f"changed: {', '.join(inputs[:_NAMES_SHOWN])}"] if inputs else []
    return "; ".join(parts) or "written by another version of betr-spark"


def _changed_names(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name in {*before, *now}:
        old, new = before.get(name), now.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _changed_names(old, new, f"{prefix}{name}.")
        elif old != new:
            yield f"{prefix}{name}"


def input_version(spark: SparkSession, path: str) -> str:
    """Version of a table for stage keys: its number and the run that wrote it, so that a table that was deleted differs.

    A commit with SAME_AS in its metadata leaves the version of before: what was computed from the table stays as it is.
    """
    commit = newest_commit(spark, path)
    if commit and (same_as := as_object(commit.user_metadata).get(SAME_AS)):
        return str(same_as)
    run = StageRun.from_json(commit.user_metadata) if commit else None
    return f"{commit.version if commit else -1}:{run.run_id if run else ''}"


def all_exist(spark: SparkSession, paths: Sequence[str]) -> bool:
    """Whether each path, of this package's own tables, has a Delta log. Only names are read: to load Delta takes a second."""
    return all(newest_version(spark, path) >= 0 for path in paths)


def record(spark: SparkSession, output: str, runs: Sequence[StageRun]) -> None:
    """Add the rows of runs to `runs`, in one commit."""
    schema = cast(StructType, StructType.fromDDL(schemas.RUNS))
    values = [run.row() for run in runs]
    rows = small_frame(spark, [[row[name] for name in schema.names] for row in values], schema).coalesce(1)
    recorded = {**_last_recorded(spark, output), **{run.stage: run.run_id for run in runs}}
    metadata = to_json({_RECORDED: recorded})
    append(rows, _table(output), user_metadata=metadata, add_columns=True)  # a table of an earlier version has fewer


def record_missing(spark: SparkSession, output: str, runs: Sequence[StageRun]) -> None:
    """Add the rows that `runs` does not have: a process may die after a stage's commit, before it records the run."""
    last = _last_recorded(spark, output)
    runs = [run for run in runs if last.get(run.stage) != run.run_id]
    recorded: set[tuple[str, str]] = set()
    if runs and exists(spark, _table(output)):
        same_runs = read(spark, _table(output)).where(F.col("run_id").isin([run.run_id for run in runs]))
        recorded = {
            (row["run_id"], row["stage"]) for row in same_runs.select("run_id", "stage").collect()
        }  # one a stage
    if missing := [run for run in runs if (run.run_id, run.stage) not in recorded]:
        record(spark, output, missing)


def _last_recorded(spark: SparkSession, output: str) -> dict[str, str]:
    """The run of each stage that was recorded last, which each commit of `runs` says, so that the table need not be read."""
    newest = newest_commit(spark, _table(output))
    return dict(as_object(newest.user_metadata if newest else None).get(_RECORDED, {}))


def _table(output: str) -> str:
    return f"{output.rstrip('/')}/{schemas.RUNS_TABLE}"
