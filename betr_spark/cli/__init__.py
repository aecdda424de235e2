"""The command line: commands and what they print; no logic."""

from betr_spark.cli.application import app
from betr_spark.cli.entry import main

__all__ = ["app", "main"]
