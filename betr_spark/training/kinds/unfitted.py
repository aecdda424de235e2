"""`kind: expression` and `kind: random`: scorers without an artifact."""

from betr_spark.config.scorers import ExpressionScorer
from betr_spark.training.kinds.base import Kind


class Expression(Kind):
    """A numeric column of the input; the input's own check finds what is wrong with it."""

    settings: ExpressionScorer


class Random(Kind):
    """Uniform scores; nothing can be wrong with them."""
