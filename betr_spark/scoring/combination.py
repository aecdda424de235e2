"""Scorers that combine the percentiles of other scorers; they need no pass over the text."""

from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from operator import add, and_

import numpy as np
import pyarrow as pa
from pyspark import Broadcast
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from betr_spark.config import Config
from betr_spark.config.scorers import CombineScorer
from betr_spark.schemas import logit_column
from betr_spark.scoring.logit import logit_of
from betr_spark.scoring.percentiles import Percentiles
from betr_spark.scoring.score_bins import score_bins

_CLIP = 2.0**-40  # from 0 and 1, so that the logit is finite


def with_combined_logits(features: DataFrame, config: Config, scorers: Iterable[str]) -> DataFrame:
    """Add the logit of each of the scorers that is a combination, a double as the logits of `features`.

    One scan of the logits and token counts for each combination. The score is the combined percentile: 1 minus the share of the
    tokens of `features` that rank higher. It is null where a combined score is.

    Args:
        features: rows of `features`.
        config: for the settings of the scorers.
        scorers: any scorers.
    """
    for name in scorers:
        settings = config.scorers.get(name)
        if isinstance(settings, CombineScorer):
            logits = {part: logit_of(config, part) for part in settings.of}
            positions = positions_of(features, logits)
            weights = [settings.of[part] for part in logits]
            score = _combined([positions[part] for part in logits], weights, settings.by)
            features = features.withColumn(logit_column(name), logit_of_score(score))
    return features


def _combined(positions: Sequence[Column], weights: Sequence[float], by: str) -> Column:
    """The combined score in [0, 1], higher is better; null where a position is."""
    shares = [weight / sum(weights) for weight in weights]
    scores = [1 - position for position in positions]
    if by == "rank":
        combined = reduce(add, [score * share for score, share in zip(scores, shares, strict=True)])
    elif by == "product":
        logs = [F.log(F.greatest(score, F.lit(_CLIP))) for score in scores]
        combined = F.exp(reduce(add, [log * share for log, share in zip(logs, shares, strict=True)]))
    else:
        depths = [position * (max(weights) / weight) for position, weight in zip(positions, weights, strict=True)]
        combined = 1 - F.least(*depths)
    all_known = reduce(and_, [position.isNotNull() for position in positions])  # `greatest` and `least` skip nulls
    return F.when(all_known, combined)


def logit_of_score(score: Column) -> Column:
    """The logit of a score in [0, 1], a double; finite also at the ends."""
    inside = F.least(F.greatest(score, F.lit(_CLIP)), F.lit(1 - _CLIP))
    return F.when(score.isNotNull(), F.log(inside / (1 - inside)))


def positions_of(population: DataFrame, logits: Mapping[str, Column]) -> dict[str, Column]:
    """The position of a document by each of several scorers: the share of the population's tokens that have a higher score.

    Args:
        population: n_tokens and what the logits are computed from; read here, once, or up to five times where many tokens
            have nearly the same score.
        logits: by scorer.

    Returns:
        Columns for rows that have the logits, in [0, 1]; null where the logit is.
    """
    context = population.sparkSession.sparkContext
    return {
        name: _position(logits[name], context.broadcast(Percentiles(bins)))
        for name, bins in score_bins(population, logits).items()
    }


def _position(logit: Column, shared: Broadcast[Percentiles]) -> Column:
    def positions(scores: pa.Array) -> pa.Array:
        values = shared.value.positions(scores.to_numpy(zero_copy_only=False).astype(np.float64))
        return pa.array(values, pa.float64(), from_pandas=True)

    column: Column = F.arrow_udf(positions, "double")(logit.cast("double"))  # type: ignore[attr-defined] # not in its stubs
    return column
