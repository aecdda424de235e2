"""Scorers that combine the percentiles of other scorers; they need no pass over the text."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import reduce
from operator import add, and_

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark import Broadcast
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from betr_spark.config import Config
from betr_spark.config.scorers import CombineScorer
from betr_spark.schemas import N_TOKENS, logit_column
from betr_spark.scoring.logit import logit_of
from betr_spark.scoring.percentiles import SHIFTS, Bins, Percentiles

_SCORER = "scorer"
_HISTOGRAM = f"{_SCORER} int, number bigint, tokens bigint, first bigint, last bigint"
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
    names = list(logits)
    columns = [F.col(N_TOKENS), *[logit.cast("double").alias(f"logit_{i}") for i, logit in enumerate(logits.values())]]
    rows, context = population.select(*columns), population.sparkSession.sparkContext
    levels: list[list[Bins]] = [[] for _ in names]
    within: dict[int, NDArray[np.int64] | None] = dict.fromkeys(range(len(names)))
    n_tokens = [0] * len(names)
    for level in range(len(SHIFTS)):
        if not within:
            break
        histograms = _histograms(rows, level, within)
        within = {}
        for scorer, bins in histograms.items():
            n_tokens[scorer] = n_tokens[scorer] or int(bins.tokens.sum())
            heavy = bins.is_heavy(n_tokens[scorer]) & (level + 1 < len(SHIFTS))
            levels[scorer].append(Bins(*(column[~heavy] for column in bins)))
            if heavy.any():
                within[scorer] = bins.number[heavy]
    percentiles = [Percentiles(each or [Bins.of(np.empty(0), np.empty(0, np.int64))]) for each in levels]
    return {
        name: _position(logits[name], context.broadcast(each)) for name, each in zip(names, percentiles, strict=True)
    }


def _histograms(rows: DataFrame, level: int, within: Mapping[int, NDArray[np.int64] | None]) -> dict[int, Bins]:
    """Histograms of some scorers, by their number.

    Args:
        rows: n_tokens and a double for each scorer.
        level: of the bins.
        within: by the number of the scorer, the bins of the level before that are split.
    """

    def count(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            n_tokens = batch.column(0).to_numpy().astype(np.int64)
            for scorer, split in within.items():
                scores = batch.column(scorer + 1).to_numpy(zero_copy_only=False).astype(np.float64)
                bins = Bins.of(scores, n_tokens, level=level, within=split)
                columns = [np.full(len(bins.number), scorer, np.int32), *bins]
                yield pa.RecordBatch.from_arrays([pa.array(values) for values in columns], [_SCORER, *Bins._fields])

    sums = [F.sum("tokens").alias("tokens"), F.min("first").alias("first"), F.max("last").alias("last")]
    table = (
        rows.mapInArrow(count, _HISTOGRAM).groupBy(_SCORER, "number").agg(*sums).toArrow()
    )  # at most 2**22 rows of a scorer
    scorer, values = table.column(_SCORER).to_numpy(), [table.column(name).to_numpy() for name in Bins._fields]
    return {number: Bins(*(column[scorer == number] for column in values)) for number in within}


def _position(logit: Column, shared: Broadcast[Percentiles]) -> Column:
    def positions(scores: pa.Array) -> pa.Array:
        values = shared.value.positions(scores.to_numpy(zero_copy_only=False).astype(np.float64))
        return pa.array(values, pa.float64(), from_pandas=True)

    column: Column = F.arrow_udf(positions, "double")(logit.cast("double"))  # type: ignore[attr-defined] # not in its stubs
    return column
