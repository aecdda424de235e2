"""A ranking whose prefix has the same part of each benchmark's own first documents."""

from functools import reduce
from operator import add

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from betr_spark import schemas
from betr_spark.config import Config, KeepConfig
from betr_spark.schemas import CHOSEN_FOR, DOC_ID, LOGIT, N_TOKENS
from betr_spark.scoring.combination import positions_of
from betr_spark.selection.budget import Budget
from betr_spark.selection.equal_recall import equal_recall_weights

_MAX_SAMPLED = 200_000  # documents that the weights are found on
_SMALLEST = 1e-9
_TINY = 1e-300


def with_balanced_logit(
    rows: DataFrame, population: DataFrame, config: Config, scorer: str, keep: KeepConfig
) -> DataFrame:
    """Rank documents by their weighted value for all benchmarks (see `equal_recall`), and name the one that ranks it highest.

    Two scans of the narrow rows: one for the distribution of each benchmark's scores, and one for a sample, drawn by a hash, on
    which the driver finds the weights. So the recalls are equal on the sample, and nearly equal on the corpus.

    Args:
        rows: with the logits of the benchmark scorers.
        population: the documents that may be kept, with doc_id and n_tokens.
        config: of the run.
        scorer: has benchmark scorers.
        keep: the budget; the ranking depends on it.

    Returns:
        `rows` with logit (double, of the weighted mean of the values) and chosen_for.
    """
    scorers = config.benchmark_scorers(scorer)
    logits = {benchmark: F.col(schemas.logit_column(name)) for benchmark, name in scorers.items()}
    positions = positions_of(population, logits)
    n_rows, n_tokens = population.agg(F.count("*"), F.coalesce(F.sum(N_TOKENS), F.lit(0))).head() or (0, 0)
    fraction = max(_SMALLEST, _fraction(keep, n_rows=int(n_rows), n_tokens=int(n_tokens)))
    order = [F.xxhash64(F.lit("balance"), DOC_ID), F.col(DOC_ID)]
    drawn = population.select(DOC_ID, N_TOKENS, *logits.values()).orderBy(*order).limit(_MAX_SAMPLED)
    sample = drawn.select(
        N_TOKENS, *[position.alias(f"_{i}") for i, position in enumerate(positions.values())]
    ).toArrow()
    columns = [sample.column(i + 1).to_numpy() for i in range(len(positions))]
    weights = equal_recall_weights(
        np.stack(columns, axis=1), sample.column(N_TOKENS).to_numpy().astype(np.int64), fraction=fraction
    )
    shares = weights / weights.sum()
    names = [f"_position_{i}" for i in range(len(positions))]
    rows = rows.withColumns(dict(zip(names, positions.values(), strict=True)))
    depths = [F.col(name) / fraction for name in names]
    powers = [depth * depth * depth * depth for depth in depths]
    values = [F.lit(float(share)) / (1 + power) for share, power in zip(shares, powers, strict=True)]
    rest = [
        value * power for value, power in zip(values, powers, strict=True)
    ]  # what is missing to 1, exactly also near 1
    logit = F.log(F.greatest(reduce(add, values), F.lit(_TINY))) - F.log(F.greatest(reduce(add, rest), F.lit(_TINY)))
    best = F.array_min(F.array(*names))
    chosen = [F.when(F.col(name) == best, F.lit(benchmark)) for name, benchmark in zip(names, positions, strict=True)]
    return rows.withColumns({LOGIT: logit, CHOSEN_FOR: F.coalesce(*chosen)}).drop(*names)


def _fraction(keep: KeepConfig, *, n_rows: int, n_tokens: int) -> float:
    """The budget as a share of the tokens (with `documents`, of the documents), at most 1."""
    amount = Budget.of(keep, n_tokens=n_tokens).amount
    return min(1.0, amount / max(1, n_rows if keep.documents is not None else n_tokens))
