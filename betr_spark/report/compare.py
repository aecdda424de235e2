"""The agreement of the orders of several scorers."""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from betr_spark import schemas
from betr_spark.config import Config
from betr_spark.corpus.sampling import has_small_hash
from betr_spark.errors import ConfigError
from betr_spark.schemas import DOC_ID, logit_column
from betr_spark.scoring.combination import with_combined_logits
from betr_spark.scoring.logit import logit_of
from betr_spark.storage import delta
from betr_spark.training.agreement import positions, spearman

_MAX_COMPARED = 200_000  # documents of the corpus
_HASH = "hash"


class Agreement(NamedTuple):
    """Rank correlation of two scorers, and the fraction of the left one's top documents that are in the right one's top."""

    left: str
    right: str
    spearman: float
    overlap: float


def compare(
    spark: SparkSession, config: Config, *, percent: float, scorers: Sequence[str] | None = None
) -> tuple[list[Agreement], int]:
    """Compare every two scorers of `features` on documents that both score, at most 200,000, chosen by a hash.

    Args:
        spark: the session.
        config: names the scorers.
        percent: size of the top, as a percentage of the documents, in (0, 100].
        scorers: names, also of random ones; by default all that have a logit in `features`.

    Returns:
        The pairs in the order of the names, and the number of documents that were read.

    Raises:
        ConfigError: fewer than two scorers have a logit.
    """
    with_logit = (*config.scored(), *config.combinations())
    names = [name for name in config.scorers if name in with_logit] if scorers is None else list(scorers)
    if len(names) < 2:
        raise ConfigError(f"config.scorers: compare requires at least two scorers, found {', '.join(names) or 'none'}")
    features = delta.read(spark, config.table(schemas.FEATURES_TABLE))
    n_rows, features = features.count(), with_combined_logits(features, config, names)
    columns = [F.col(logit_column(name)) if name in with_logit else logit_of(config, name) for name in names]
    return agreements(features, dict(zip(names, columns, strict=True)), percent=percent, n_rows=n_rows)


def agreements(
    documents: DataFrame, scorers: Mapping[str, Column], *, percent: float, n_rows: int
) -> tuple[list[Agreement], int]:
    """As `compare`.

    Args:
        documents: doc_id, and what the logits are computed from; one row a document.
        scorers: logits by name.
        percent: size of the top, as a percentage of the documents, in (0, 100].
        n_rows: number of documents.
    """
    hash64 = F.xxhash64(F.lit("comparison"), DOC_ID)
    named = [logit.cast("double").alias(logit_column(name)) for name, logit in scorers.items()]
    drawn = documents.where(has_small_hash(hash64, n=_MAX_COMPARED, n_rows=n_rows))
    rows = drawn.select(hash64.alias(_HASH), *named).toArrow().sort_by(_HASH).slice(0, _MAX_COMPARED)
    logits = {name: rows.column(logit_column(name)).to_numpy() for name in scorers}
    found = []
    for left, right in itertools.combinations(scorers, 2):
        both = ~np.isnan(logits[left]) & ~np.isnan(logits[right])
        a, b = logits[left][both], logits[right][both]
        top = round(len(a) * percent / 100)
        overlap = float(np.mean(positions(b)[positions(a) < top] < top)) if top else 0.0
        found.append(Agreement(left, right, spearman(a, b), overlap))
    return found, rows.num_rows
