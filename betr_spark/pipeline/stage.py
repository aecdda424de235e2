"""The stage protocol, and the one runner of all stages.

A stage says what it writes (`outputs`), what its output depends on (`key`), what is wrong with its inputs (`problems`), and how
to compute it (`build`). Everything else is done here, the same for every stage: skipping work that is up to date, timing, the
descriptions of Spark's jobs, the record of the run in the stage's commit and in `runs`, and the translation of errors.
"""

import dataclasses
import itertools
import logging
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from typing import ClassVar

from pyspark.sql import SparkSession

from betr_spark.config import Config
from betr_spark.corpus.snapshot import InputSnapshot
from betr_spark.errors import BetrSparkError, DataError
from betr_spark.spark.error_messages import spark_error_line
from betr_spark.storage import runs
from betr_spark.storage.runs import Metrics, StageKey, StageRun

_logger = logging.getLogger(__name__)


@dataclasses.dataclass
class RunContext:
    """One invocation: the session, the configuration, and what all stages of the invocation share.

    Attributes:
        spark: the session.
        config: the whole configuration.
        again: rebuild the stages even where they are up to date.
        lock: gives the lock that is held while stages write to the output.
        run_id: id of the invocation in `runs`, a new one for each.
    """

    spark: SparkSession
    config: Config
    again: bool = False
    lock: Callable[[], AbstractContextManager[None]] = nullcontext
    run_id: str = dataclasses.field(default_factory=lambda: uuid.uuid4().hex)

    @cached_property
    def input(self) -> InputSnapshot:
        """The input as it is when it is first looked at; the whole invocation reads this snapshot.

        Raises:
            DataError, SchemaError: files or columns are wrong; one line for each problem.
        """
        return InputSnapshot.current(self.spark, self.config)

    def scored_input(self) -> InputSnapshot:
        """The snapshot that `features` scored: all text that is read after `features` is read from it.

        Raises:
            DataError: a scored file changed or is gone.
        """
        return InputSnapshot.scored(self.spark, self.config)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """What `Stage.build` computed, ready to be committed.

    Attributes:
        rows_in: input rows.
        rows_out: rows of the stage's table.
        commit: makes the stage's one atomic commit, with the record that it is given in it.
        dropped: rows that are not in the output, by reason.
        metrics: figures of the stage.
    """

    rows_in: int
    rows_out: int
    commit: Callable[[StageRun], object]
    dropped: Mapping[str, int] = dataclasses.field(default_factory=dict)
    metrics: Metrics | Mapping[str, float] | None = None


class Stage(ABC):
    """One step of the pipeline. `name` is its name in `runs`: a command, or COMMAND/PART.

    Attributes:
        rebuilds: whether `--again` rebuilds the stage where it is up to date.
    """

    rebuilds: ClassVar[bool] = False

    def __init__(self, name: str) -> None:
        """Name the stage."""
        self.name = name

    @property
    def command(self) -> str:
        """The command that runs this stage alone."""
        return self.name.partition("/")[0]

    @abstractmethod
    def outputs(self, config: Config) -> Sequence[str]:
        """Paths of the tables or folders that the stage writes; the first one carries the record of the run."""

    @abstractmethod
    def key(self, context: RunContext) -> StageKey:
        """What the output depends on; equal keys, equal output."""

    def problems(self, context: RunContext) -> Iterator[str]:  # noqa: ARG002
        """Find everything that is wrong with the stage's inputs, one line each, without any work."""
        return iter(())

    @abstractmethod
    def build(self, context: RunContext, key: StageKey) -> AbstractContextManager[Result]:
        """Compute the output; intermediate results exist until the context manager exits, after the commit."""

    def made_by(self, context: RunContext) -> StageRun | None:
        """The run that wrote the outputs, or None if one of them does not exist."""
        paths = self.outputs(context.config)
        return runs.made_by(context.spark, paths[0]) if runs.all_exist(context.spark, paths) else None

    def is_current(self, context: RunContext) -> bool:
        """Whether the outputs exist and have the key that a run would give them now."""
        last_run = self.made_by(context)
        return last_run is not None and last_run.key == self.key(context).key

    def together(self, context: RunContext, stages: Sequence["Stage"]) -> AbstractContextManager[None]:  # noqa: ARG002
        """Prepare what the stages of one command share, and release it after the last one."""
        return nullcontext()

    def clean_up(self, context: RunContext, key: StageKey) -> None:  # noqa: B027 - most stages leave nothing
        """Delete what finished and killed runs left."""

    def estimate(self, context: RunContext) -> str | None:  # noqa: ARG002
        """How long the stage takes, for a dry run; None if this is not known before."""
        return None

    def summary(self, run: StageRun) -> list[str]:
        """A finished run as lines of text."""
        dropped = ", ".join(f"{count} {reason}" for reason, count in sorted(run.dropped.items()) if count)
        state = "skipped, up to date" if run.skipped else f"{run.seconds:.1f} s"
        counts = f"{run.rows_in} in, {run.rows_out} out"
        return [f"{run.stage}: {counts}{f' ({dropped})' if dropped else ''}; {state}"]


def run_stages(context: RunContext, stages: Sequence[Stage]) -> list[StageRun]:
    """Run stages in their order; those that are up to date are skipped. Returns one record a stage."""
    done: list[StageRun] = []
    with context.lock():
        for _, group in itertools.groupby(stages, key=lambda stage: stage.command):
            members, started_at = list(group), time.time()
            with translated(), members[0].together(context, members):
                for stage in members:
                    done.append(run_stage(context, stage, started_at=started_at))
                    started_at = time.time()
        if skipped := [run for run in done if run.skipped]:
            with translated():
                runs.record_missing(context.spark, context.config.output, skipped)
    return done


def run_stage(context: RunContext, stage: Stage, *, started_at: float) -> StageRun:
    """Run one stage, unless its output already has the same key.

    Args:
        context: of the invocation.
        stage: what is run.
        started_at: seconds since the epoch; the first stage of a command starts with what its stages share.

    Raises:
        BetrSparkError: the input, the configuration or the environment is wrong; one line each.
    """
    with translated(), described(context, stage.name):
        key = stage.key(context)
        run = None if context.again and stage.rebuilds else stage.made_by(context)
        if run is not None and run.key == key.key:
            _logger.info("%s: skipped, up to date", stage.name)
        else:
            _logger.info("%s: started", stage.name)
            with stage.build(context, key) as result:
                run = StageRun.of(
                    key, run_id=context.run_id, started_at=started_at, rows_in=result.rows_in,
                    rows_out=result.rows_out, dropped=result.dropped, metrics=result.metrics,
                )  # fmt: skip
                result.commit(run)
            runs.record(context.spark, context.config.output, [run])
            _logger.info("%s: %d rows in, %d out, %.1f s", run.stage, run.rows_in, run.rows_out, run.seconds)
        stage.clean_up(context, key)
    return run


@contextmanager
def described(context: RunContext, description: str) -> Iterator[None]:
    """Give Spark's jobs the group of this run and a description."""
    spark_context = context.spark.sparkContext
    spark_context.setJobGroup(context.run_id, description)
    try:
        yield
    finally:
        spark_context.setLocalProperty("spark.jobGroup.id", None)  # type: ignore[arg-type]
        spark_context.setLocalProperty("spark.job.description", None)  # type: ignore[arg-type]


@contextmanager
def translated() -> Iterator[None]:
    """Raise Spark's errors that the user can fix as one line; others pass unchanged."""
    try:
        yield
    except BetrSparkError:
        raise
    except Exception as error:
        line = spark_error_line(error)
        if line is None:
            raise
        raise DataError(line) from error


def problems_of(check: Callable[[], object]) -> Iterator[str]:
    """Call a check that raises, and give what it raises as lines."""
    try:
        with translated():
            check()
    except BetrSparkError as error:
        yield from str(error).splitlines()
