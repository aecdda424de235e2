"""The application that commands are added to."""

import typer

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None,
    help="Rank, deduplicate and select pretraining text for chosen benchmarks, on Spark.",
    epilog="Exit codes: 0 done, 2 user error, 3 another run holds the output, 1 anything else.",
)  # fmt: skip
