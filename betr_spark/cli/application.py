"""The application that commands are added to."""

from typing import Any

import typer
from typer.core import TyperGroup

_FIRST = (
    "init", "check", "plan", "run", "status", "report", "explain", "look", "export", "evaluate", "compare", "rank", "train",
    "features", "decontaminate", "dedup", "select",
)  # fmt: skip
_LAST = ("jars", "version")


class _InOrderOfUse(TyperGroup):
    """Lists the commands as they are used: a first run, its result, single stages, the others by name."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of the commands."""
        others = sorted(set(super().list_commands(ctx)) - {*_FIRST, *_LAST})
        return [*_FIRST, *others, *_LAST]


app = typer.Typer(
    cls=_InOrderOfUse, add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None,
    help="Rank, deduplicate and select pretraining text for chosen benchmarks, on Spark.",
    epilog="Exit codes: 0 done, 2 user error, 3 another run holds the output, 1 anything else.",
)  # fmt: skip
