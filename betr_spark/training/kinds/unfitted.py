"""`kind: expression` and `kind: random`: scorers without an artifact."""

import difflib
from collections.abc import Mapping

from pyspark.sql import SparkSession
from pyspark.sql.types import DataType, NumericType

from betr_spark.config.scorers import ExpressionScorer
from betr_spark.training.kinds.base import Kind


class Expression(Kind):
    """A numeric column of the input."""

    settings: ExpressionScorer

    def problems(self, spark: SparkSession, columns: Mapping[str, DataType | None] | None) -> list[str]:  # noqa: ARG002
        """A column that is missing or not numeric."""
        if columns is None:
            return []
        column, path = self.settings.column, self.config.input.path
        types = {name.lower(): kind for name, kind in columns.items()}  # Spark ignores case
        if column.lower() not in types:
            close = difflib.get_close_matches(column, columns, n=1)
            hint = f"did you mean '{close[0]}'?" if close else f"found {', '.join([*columns][:20]) or 'none'}"
            return [f"scorers.{self.name}.column: no column '{column}' in {path} ({hint})"]
        kind = types[column.lower()]
        if kind is None or isinstance(kind, NumericType):
            return []
        return [
            f"scorers.{self.name}.column: column '{column}' in {path} is {kind.simpleString()}; a numeric column is required"
        ]


class Random(Kind):
    """Uniform scores; nothing can be wrong with them."""
