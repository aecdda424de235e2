"""`mixture`: shares of groups from finished proxy runs; no configuration and no Spark."""

from pathlib import Path
from typing import Annotated

import typer

from betr_spark.cli import output
from betr_spark.cli.application import app
from betr_spark.cli.options import JsonOption, LogOption
from betr_spark.logs import Format

RunsOption = Annotated[
    Path, typer.Option("--runs", metavar="FILE", help="Finished runs (.csv, .jsonl, .parquet), one row each.")
]
AvailableOption = Annotated[
    Path | None, typer.Option("--available", metavar="FILE", help="Table of the tokens of each group: group, tokens.")
]
TrainTokensOption = Annotated[
    int | None, typer.Option("--tokens", min=1, help="Tokens of the training run; requires --available.")
]
RepeatsOption = Annotated[
    float, typer.Option("--max-repeats", min=0.01, max=1000.0, help="Largest number of repeats of a group's tokens.")
]
WeightPrefixOption = Annotated[str, typer.Option("--weight-prefix", help="Beginning of the columns of weights.")]
LossPrefixOption = Annotated[str, typer.Option("--loss-prefix", help="Beginning of the columns of losses.")]


@app.command()
def mixture(
    runs: RunsOption, available: AvailableOption = None, tokens: TrainTokensOption = None, max_repeats: RepeatsOption = 4.0,
    weight_prefix: WeightPrefixOption = "weight_", loss_prefix: LossPrefixOption = "loss_",
    as_json: JsonOption = False, log_format: LogOption = Format.TEXT,
) -> None:  # fmt: skip
    """Fit the losses of finished proxy runs on different mixtures of groups, and propose a mixture; trains nothing."""
    from betr_spark.mixture.result import mixture_of  # noqa: PLC0415 - scipy, only when needed
    from betr_spark.mixture.runs import Available, Runs  # noqa: PLC0415

    table = Runs.read(runs, weight_prefix=weight_prefix, loss_prefix=loss_prefix)
    tokens_of_groups = None if available is None else Available.read(available, table.groups)
    proposed = mixture_of(table, tokens_of_groups, tokens=tokens, max_repeats=max_repeats)
    output.emit(proposed._asdict(), proposed.lines())
