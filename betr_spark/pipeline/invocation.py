"""How a run begins, by the command line or from Python: the output is free, and everything that can be wrong was looked for."""

from pyspark.sql import SparkSession

from betr_spark.config import Config
from betr_spark.errors import CheckError
from betr_spark.pipeline.check import missing_requirements, problems_of_run
from betr_spark.pipeline.run import stages_of
from betr_spark.pipeline.stage import RunContext, Stage
from betr_spark.storage.hadoop_files import check_writable
from betr_spark.storage.lease import wait_until_free


def writing_context(
    spark: SparkSession, config: Config, *, command: str, again: bool = False, wait_s: float = 0.0, check: bool = True
) -> RunContext:
    """A context of a command that writes.

    Args:
        spark: the session.
        config: the configuration.
        command: for those who wait for the run.
        again: rebuild the stages even where they are up to date.
        wait_s: how long to wait for another run on the same output.
        check: also check that the output can be written to; `checked_stages` of all stages does it, too.

    Raises:
        LockedError: another run holds the output.
        DataError: the output cannot be written.
    """
    wait_until_free(spark, config.output, wait_s=wait_s)  # before the input is listed
    if check:
        check_writable(spark, config.output)
    return RunContext(spark, config, again=again, command=command, wait_s=wait_s)


def checked_stages(context: RunContext, command: str | None = None) -> list[Stage]:
    """The stages of a whole run, or of one command, after their problems were looked for.

    For one command only what its own work needs is looked for, because earlier stages may be finished.

    Raises:
        CheckError: there are problems; one line for each.
    """
    stages = stages_of(context.config, command)
    problems = problems_of_run(context) if command is None else missing_requirements(context, stages)
    if problems:
        raise CheckError(*problems)
    return stages
