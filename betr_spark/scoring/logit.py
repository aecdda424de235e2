"""The logit of a scorer, from the columns of `features`."""

from collections.abc import Iterable

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from betr_spark import schemas
from betr_spark.config import Config
from betr_spark.config.scorers import DsirScorer, RandomScorer
from betr_spark.errors import DataError
from betr_spark.schemas import DOC_ID, N_WORDS


def logit_of(config: Config, scorer: str) -> Column:
    """The logit of a scorer from the columns of `features`, a random one or DSIR's noise included; null without text.

    The logit of a combination is a column that `combination.with_combined_logits` adds.
    """
    settings = config.scorers.get(scorer)
    if scorer not in (*config.scored(), *config.combinations()):
        return F.when(F.col(N_WORDS) > 0, random_logit(settings.seed if isinstance(settings, RandomScorer) else 0))
    logit = F.col(schemas.logit_column(scorer))
    if isinstance(settings, DsirScorer) and settings.noise:
        return (logit + gumbel_noise(settings.seed)).cast("float")
    return logit


def check_logits(features: DataFrame, config: Config, scorers: Iterable[str]) -> None:
    """Check that `features` has the logits of scorers, of what they combine, and of their benchmark scorers.

    Raises:
        DataError: a column is missing.
    """
    scorers = list(scorers)
    parts = [part for name in scorers for part in config.combinations().get(name, (name,))]
    parts += [part for name in scorers for part in config.benchmark_scorers(name).values()]
    for column in (schemas.logit_column(part) for part in parts if part in config.scored()):
        if column not in features.columns:
            path = config.table(schemas.FEATURES_TABLE)
            raise DataError(f"{path}: no column '{column}'; add it with `betr-spark features`")


_MANTISSA = 2.0**53


def gumbel_noise(seed: int) -> Column:
    """Standard Gumbel noise from a hash of (seed, doc_id): the largest of weight + noise are a draw by weight."""
    return -F.log(-F.log(_uniform(F.lit(f"gumbel {seed}"))))


def random_logit(seed: int) -> Column:
    """Logit of a uniform number in (0, 1) from a hash of (seed, doc_id) of its own; the same for any partitioning."""
    uniform = uniform_draw("random", seed)
    return F.log(uniform / (F.lit(1.0) - uniform)).cast("float")


def uniform_draw(purpose: str, seed: int) -> Column:
    """Uniform number in (0, 1) from a hash of (purpose, seed, doc_id): draws for two purposes are independent."""
    return _uniform(F.lit(f"{purpose} {seed}"))


def _uniform(seed: Column) -> Column:
    return (F.shiftrightunsigned(F.xxhash64(seed, DOC_ID), 11) + F.lit(0.5)) / F.lit(_MANTISSA)


def score_of(logit: Column) -> Column:
    """Score = sigmoid(logit), double."""
    return F.lit(1.0) / (F.lit(1.0) + F.exp(-logit.cast("double")))
