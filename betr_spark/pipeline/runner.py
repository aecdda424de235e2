"""The one runner of all stages.

The same for every stage: the lease on the output, skipping work that is up to date, timing, the descriptions of Spark's jobs,
the record of the run in the stage's commit and in `runs`, and the translation of errors.
"""

import itertools
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

from betr_spark import logs
from betr_spark.pipeline.stage import RunContext, Stage
from betr_spark.spark.error_messages import translated
from betr_spark.spark.jobs import described
from betr_spark.spark.progress import Progress
from betr_spark.spark.work import Work
from betr_spark.storage import lease, runs
from betr_spark.storage.lease_record import Holder
from betr_spark.storage.runs import StageRun
from betr_spark.storage.scratch import delete_scratch, delete_scratch_of

_logger = logging.getLogger(__name__)


def run_stages(context: RunContext, stages: Sequence[Stage]) -> list[StageRun]:
    """Run stages in their order; those that are up to date are skipped. Returns one record a stage."""
    done: list[StageRun] = []
    spark, output = context.spark, context.config.output
    names = [stage.name for stage in stages]
    with translated(), leased(context), Progress(spark, names) as context.progress:
        for _, group in itertools.groupby(stages, key=lambda stage: stage.command):
            members, started_at = list(group), time.time()
            with described(spark, members[0].command, group=context.run_id), members[0].together(context, members):
                for stage in members:
                    done.append(run_stage(context, stage, started_at=started_at))
                    started_at = time.time()
        if skipped := [run for run in done if run.skipped]:
            runs.record_missing(spark, output, skipped)
    return done


@contextmanager
def leased(context: RunContext) -> Iterator[None]:
    """Hold the output's lease. Intermediate results that killed runs left are deleted first, those of this run at the end."""
    spark, output = context.spark, context.config.output
    holder = Holder.this(spark, context.run_id, context.command)
    with lease.hold(spark, output, holder, wait_s=context.wait_s) as context.lease:
        if context.lease.waited:
            context.forget_input()  # the run that held the lease may have taken in files that were not listed here
        delete_scratch(spark, output)
        try:
            yield
        finally:
            with suppress(Exception):  # an error of the run counts; the next run deletes what is left
                delete_scratch_of(spark, output, context.run_id)


def run_stage(context: RunContext, stage: Stage, *, started_at: float) -> StageRun:
    """Run one stage, unless its output already has the same key.

    Args:
        context: of the invocation.
        stage: what is run.
        started_at: seconds since the epoch; the first stage of a command starts with what its stages share.

    Raises:
        BetrSparkError: the input, the configuration or the environment is wrong; one line each.
    """
    with translated(), described(context.spark, stage.name, group=context.run_id):
        logs.running.run_id, logs.running.stage = context.run_id, stage.name
        key = stage.key(context)
        run = None if context.again and stage.rebuilds else stage.made_by(context)
        if run is not None and run.key == key.key:
            _logger.info("%s: skipped, up to date", stage.name)
        else:
            _logger.info("%s: started", stage.name)
            if context.lease:
                context.lease.enter(stage.name)
            if context.progress:
                context.progress.begin(stage.name)
            with stage.build(context, key) as result:
                run = StageRun.of(
                    key, run_id=context.run_id, started_at=started_at, rows_in=result.rows_in,
                    rows_out=result.rows_out, dropped=result.dropped, metrics=result.metrics,
                    origin=context.origin(), work=context.progress.work() if context.progress else Work(),
                )  # fmt: skip
                context.check_lease()
                result.commit(run)
            run = replace(
                run, work=context.progress.work() if context.progress else run.work
            )  # with that of the commit
            runs.record(context.spark, context.config.output, [run])
            figures = {name: getattr(run, name) for name in ("seconds", "rows_in", "rows_out", "dropped", "metrics")}
            _logger.info("%s", stage.summary(run)[0], extra=figures)
        if context.progress:
            context.progress.end(stage.name, stage.summary(run)[0].partition(": ")[2])
        stage.clean_up(context, key)
    return run
