"""Histograms of scores over the tokens, computed on executors; bins that hold much of the tokens are split."""

from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from betr_spark.schemas import N_TOKENS
from betr_spark.scoring.percentiles import SHIFTS, Bins

_SCORER = "scorer"
_HISTOGRAM = f"{_SCORER} int, number bigint, tokens bigint, first bigint, last bigint"


def score_bins(population: DataFrame, logits: Mapping[str, Column]) -> dict[str, Bins]:
    """Count the tokens of the documents by score: a bin has at most 1/1024 of the tokens, or one score.

    Args:
        population: n_tokens and what the logits are computed from; read here, once, or up to five times where many tokens
            have nearly the same score.
        logits: by scorer; documents where it is null do not count.

    Returns:
        By scorer, the best bin first.
    """
    names = list(logits)
    columns = [F.col(N_TOKENS), *[logit.cast("double").alias(f"logit_{i}") for i, logit in enumerate(logits.values())]]
    rows = population.select(*columns)
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
    empty = Bins.of(np.empty(0), np.empty(0, np.int64))
    return {name: Bins.joined(each or [empty]) for name, each in zip(names, levels, strict=True)}


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
