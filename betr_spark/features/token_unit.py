"""The unit of token budgets: `n_tokens` of each row of `features`, as `input.tokens` says."""

import math
from typing import NamedTuple, Self

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from betr_spark import schemas
from betr_spark.config import Config, TokensConfig
from betr_spark.errors import DataError
from betr_spark.features.tokenizer_file import token_settings
from betr_spark.pipeline.stage import RunContext
from betr_spark.schemas import N_BYTES, N_LM_TOKENS, N_TOKENS
from betr_spark.storage import delta, runs


class Counted(NamedTuple):
    """Rows of `features` whose `n_tokens` is in the unit of budgets, and this unit for people."""

    features: DataFrame
    unit: str


class TokenRate(NamedTuple):
    """Tokens of a byte over the documents whose tokens were counted.

    Attributes:
        documents_tokenized: their number.
        tokens_per_byte: their tokens over their bytes.
        tokens_per_byte_error: its standard error, that of the ratio of two means of a random sample (Cochran, Sampling
            Techniques, 6.4) without the correction for a finite corpus; None of a single document.
    """

    documents_tokenized: int
    tokens_per_byte: float
    tokens_per_byte_error: float | None

    @classmethod
    def of(cls, features: DataFrame) -> Self | None:
        """Measure; None if the counted documents have no text. The rate is the same for any partitioning.

        Args:
            features: n_bytes, and n_lm_tokens, null where it was not counted.
        """
        tokens, n_bytes = F.col(N_LM_TOKENS), F.col(N_BYTES)
        x, y = n_bytes.cast("double"), tokens.cast("double")
        sums = [F.count("*"), F.sum(tokens), F.sum(n_bytes), F.sum(y * y), F.sum(x * y), F.sum(x * x)]
        row = features.where(tokens.isNotNull()).agg(*sums).head()
        if row is None or not row[2]:
            return None
        n, all_tokens, all_bytes, yy, xy, xx = row
        rate = all_tokens / all_bytes
        squares = max(0.0, yy - 2 * rate * xy + rate * rate * xx)  # of what the rate does not explain
        error = math.sqrt(squares * n / (n - 1)) / all_bytes if n > 1 else None
        return cls(int(n), rate, error)


def counted(features: DataFrame, config: Config) -> Counted:
    """Give `n_tokens` the unit of budgets: words, the column `n_lm_tokens`, or where this is null, an estimate from the bytes.

    The only place that decides what a budget counts. If `features` has no counts yet, the unit is words.

    Args:
        features: rows of the table, all of them if the tokens are estimated.
        config: for `input.tokens`.

    Raises:
        DataError: no document was counted to estimate from.
    """
    tokens = config.input.tokens
    if tokens.are_words or N_LM_TOKENS not in features.columns:
        return Counted(features, TokensConfig().unit)
    n_tokens = F.col(N_LM_TOKENS)
    if tokens.estimate is not None:
        n_tokens = F.coalesce(n_tokens, _estimate(features, tokens.estimate))
    return Counted(features.withColumn(N_TOKENS, n_tokens), tokens.unit)


def _estimate(features: DataFrame, one_in: int) -> Column:
    rate = TokenRate.of(features)
    if rate is not None:
        return F.round(F.col(N_BYTES) * rate.tokens_per_byte).cast("int")
    if features.where(F.col(N_BYTES) > 0).take(1):
        raise DataError(
            f"input.tokens.estimate: no document is in the sample of 1 in {one_in}; choose a smaller number, or leave it out"
        )
    return F.lit(0)


def is_counted_as_configured(spark: SparkSession, config: Config) -> bool:
    """Whether `features` was counted with the tokenizer or column of the configuration."""
    run = runs.made_by(spark, config.table(schemas.FEATURES_TABLE))
    if run is None:
        return True
    settings = delta.as_object(run.config).get("input", {}).get("tokens", {})
    return bool(settings == token_settings(spark, config.input.tokens))


def counted_if_configured(features: DataFrame, config: Config) -> Counted:
    """As `counted`; the unit is words if `features` was counted with another tokenizer or column."""
    if is_counted_as_configured(features.sparkSession, config):
        return counted(features, config)
    return Counted(features, TokensConfig().unit)


def check_unit(context: RunContext) -> None:
    """Check that `features` was counted with the tokenizer or column of the configuration.

    Raises:
        DataError: it was counted otherwise.
    """
    path = context.config.table(schemas.FEATURES_TABLE)
    if not is_counted_as_configured(context.spark, context.config):
        raise DataError(f"{path}: its tokens were not counted as input.tokens says; run `betr-spark features`")
