"""The stage protocol.

A stage says what it writes (`outputs`), what its output depends on (`key`), what is wrong with its inputs (`problems`), and how
to compute it (`build`). Everything else is done by the one runner of all stages, `pipeline/runner.py`.
"""

import dataclasses
import socket
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import ClassVar

from pyspark.sql import SparkSession

from betr_spark import schemas
from betr_spark.config import Config
from betr_spark.corpus.snapshot import InputSnapshot
from betr_spark.revision import git_revision
from betr_spark.spark.progress import Progress
from betr_spark.storage import runs
from betr_spark.storage.lease import Lease
from betr_spark.storage.processes import user_name
from betr_spark.storage.runs import Metrics, Origin, StageKey, StageRun
from betr_spark.storage.scratch import Materialise, scratch, scratch_folder


@dataclasses.dataclass
class RunContext:
    """One invocation: the session, the configuration, and what all stages of the invocation share.

    Attributes:
        spark: the session.
        config: the whole configuration.
        again: rebuild the stages even where they are up to date.
        command: of the command line, for those who wait for the run.
        wait_s: how long to wait for another run on the same output.
        run_id: id of the invocation in `runs`, a new one for each.
        lease: on the output, while stages run.
        progress: shows what runs, while stages run.
    """

    spark: SparkSession
    config: Config
    again: bool = False
    command: str = "(Python)"
    wait_s: float = 0.0
    run_id: str = dataclasses.field(default_factory=lambda: uuid.uuid4().hex)
    lease: Lease | None = None
    progress: Progress | None = None
    _scored: tuple[str, InputSnapshot] | None = None

    @cached_property
    def input(self) -> InputSnapshot:
        """The input as it is when it is first looked at; the whole invocation reads this snapshot.

        Raises:
            DataError, SchemaError: files or columns are wrong; one line for each problem.
        """
        return InputSnapshot.current(self.spark, self.config)

    def forget_input(self) -> None:
        """Look at the input again when it is next asked for."""
        vars(self).pop("input", None)

    def scored_input(self) -> InputSnapshot:
        """The snapshot that `features` scored: all text that is read after `features` is read from it.

        Raises:
            DataError: a scored file changed or is gone.
        """
        version = runs.input_version(self.spark, self.config.table(schemas.FEATURES_TABLE))
        if self._scored is None or self._scored[0] != version:
            self._scored = version, InputSnapshot.scored(self.spark, self.config)
        return self._scored[1]

    def scratch(self, name: str) -> AbstractContextManager[Materialise]:
        """Store intermediate results in a folder of this run until the context manager exits."""
        return scratch(self.spark, f"{scratch_folder(self.config.output)}/{self.run_id}/{name}")

    def origin(self) -> Origin:
        """Where the run comes from, for `runs`."""
        application = str(self.spark.sparkContext.applicationId)
        return Origin(
            command=self.command, host=socket.gethostname(), user=user_name(), application_id=application,
            git_revision=git_revision(),
        )  # fmt: skip

    def check_lease(self) -> None:
        """Raise LockedError if another run has taken the output over; called before each table is written."""
        if self.lease is not None:
            self.lease.check()


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

    def requirements(self, context: RunContext) -> Iterator[str]:  # noqa: ARG002
        """Find what the stage's work needs and this machine lacks: optional packages, the encoder's model; one line each.

        A stage that is up to date does not need them.
        """
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
