"""Commands that keep an output in order."""

from typing import Annotated

import typer

from betr_spark.cli import output
from betr_spark.cli.application import app
from betr_spark.cli.options import ConfigOption, JsonOption, LogOption, SetOption, WaitOption, load, reading, writing
from betr_spark.cli.pipeline_commands import DryRunOption, run_and_print
from betr_spark.logs import Format

IdsOption = Annotated[str, typer.Option("--ids", help="Text file with one document id in each line.")]
CopiesOption = Annotated[bool, typer.Option("--copies", help="Forget all documents with exactly the same text, too.")]
WhyOption = Annotated[str, typer.Option("--why", help="Reason, for the table `tombstones`.")]
RetainOption = Annotated[
    float,
    typer.Option(
        "--retain-hours",
        min=0.0,
        help="Keep files that versions of this time need. With 0 only the newest can be read.",
    ),
]


@app.command()
def unlock(
    config: ConfigOption, overrides: SetOption = None, as_json: JsonOption = False, log_format: LogOption = Format.TEXT
) -> None:
    """Take the output away from the run that holds it; that run stops before it writes its next table."""
    settings = load(config, overrides)
    context = reading(settings)
    from betr_spark.storage.lease import break_lease  # noqa: PLC0415
    from betr_spark.storage.lease_record import Holder  # noqa: PLC0415

    breaker = Holder.this(context.spark, context.run_id, "unlock")
    holder = break_lease(context.spark, settings.output, breaker)
    what = f"the lease was held by {holder.line()}" if holder else "no run held the output"
    output.emit({"output": settings.output, "holder": holder.public() if holder else None}, [what])


@app.command()
def forget(
    config: ConfigOption, ids: IdsOption, overrides: SetOption = None, copies: CopiesOption = False, why: WhyOption = "",
    wait: WaitOption = 0.0, as_json: JsonOption = False, log_format: LogOption = Format.TEXT,
) -> None:  # fmt: skip
    """Remove documents from every table and from later runs, then deduplicate and select again.

    Their text is in old versions of the tables until `betr-spark maintain --retain-hours 0`.
    """
    settings = load(config, overrides)
    context = writing(settings, "forget", wait_s=wait)
    from betr_spark.pipeline.run import stages_after_forget  # noqa: PLC0415 - pyspark, only when needed
    from betr_spark.upkeep.forget import Forget  # noqa: PLC0415

    stage = Forget(ids, copies=copies, why=why)
    output.stop_at(list(stage.problems(context)))
    run_and_print(context, [stage, *stages_after_forget(settings)])


@app.command()
def maintain(
    config: ConfigOption, overrides: SetOption = None, retain_hours: RetainOption = 168.0, dry_run: DryRunOption = False,
    wait: WaitOption = 0.0, as_json: JsonOption = False, log_format: LogOption = Format.TEXT,
) -> None:  # fmt: skip
    """Compact the tables, and delete files, intermediate results and checkpoints that nothing needs any more."""
    settings = load(config, overrides)
    from betr_spark.pipeline.runner import leased  # noqa: PLC0415
    from betr_spark.upkeep.maintain import maintain as maintained  # noqa: PLC0415

    if dry_run:
        done = list(maintained(reading(settings), retention_hours=retain_hours, dry_run=True))
    else:
        context = writing(settings, "maintain", wait_s=wait)
        with leased(context):
            done = list(maintained(context, retention_hours=retain_hours, dry_run=False))
    document = {"output": settings.output, "dry_run": dry_run, "tables": done}
    output.emit(document, [item.line(dry_run=dry_run) for item in done] or ["nothing to do"])
