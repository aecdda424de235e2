"""`kind: expression` and `kind: random`: scorers without an artifact."""

import difflib
from collections.abc import Iterator

from pyspark.sql.types import NumericType

from betr_spark.config.scorers import ExpressionScorer
from betr_spark.pipeline.stage import RunContext, problems_of
from betr_spark.training.kinds.base import Kind


class Expression(Kind):
    """A numeric column of the input."""

    settings: ExpressionScorer

    def problems(self, context: RunContext) -> Iterator[str]:
        """A column that is missing or not numeric; nothing if the input has problems itself, or has no types."""
        if any(problems_of(lambda: context.input)) or self.config.input.format == "json":
            return
        column, path = self.settings.column, self.config.input.path
        types = {field.name.lower(): field.dataType for field in context.input.schema}  # Spark ignores case
        if column.lower() not in types and column.lower().partition(".")[0] not in types:
            names = context.input.schema.names
            close = difflib.get_close_matches(column, names, n=1)
            hint = f"did you mean '{close[0]}'?" if close else f"found {', '.join(names[:20])}"
            yield f"scorers.{self.name}.column: no column '{column}' in {path} ({hint})"
        column_type = types.get(column.lower())
        if column_type is not None and not isinstance(column_type, NumericType):
            where = f"scorers.{self.name}.column: column '{column}' in {path}"
            yield f"{where} is {column_type.simpleString()}; a numeric column is required"


class Random(Kind):
    """Uniform scores; nothing can be wrong with them."""
