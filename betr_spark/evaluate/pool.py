"""The pool of an evaluation: documents drawn by a hash, and their order by each scorer."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from betr_spark import schemas
from betr_spark.config import Config
from betr_spark.corpus.snapshot import InputSnapshot
from betr_spark.errors import DataError
from betr_spark.schemas import DOC_ID, N_WORDS, REASON, TEXT
from betr_spark.scoring.combination import with_combined_logits
from betr_spark.scoring.logit import logit_of
from betr_spark.storage import delta

_MAX_CHARACTERS = 200_000  # of a document of the pool
_GENERAL_ONE_IN = 5  # in a small corpus the general slice is at most 1 in 5 documents
_ORDER, _HASH = "order", "hash"
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pool:
    """Texts of the general slice and of the pool, in the order of a hash; each scorer's ranking of the pool, the best first."""

    general: list[str]
    texts: list[str]
    rankings: dict[str, NDArray[np.int64]]


def draw_pool(spark: SparkSession, config: Config, names: Sequence[str]) -> Pool:
    """Draw the general slice and the pool by a hash. The driver holds the texts of both.

    Args:
        spark: the session.
        config: sizes of slice and pool; its tables `features` and `duplicates` exist.
        names: scorers that rank the pool.

    Returns:
        The documents; a small corpus has a smaller slice, with a warning.

    Raises:
        DataError: the corpus is too small for a slice of two documents.
    """
    features = with_combined_logits(delta.read(spark, config.table(schemas.FEATURES_TABLE)), config, names)
    features = features.where(F.col(N_WORDS) > 0)
    removed = delta.read(spark, config.table(schemas.DUPLICATES_TABLE)).select(DOC_ID)
    survivors = features.join(removed, on=DOC_ID, how="left_anti")
    logits = [logit_of(config, name).alias(schemas.logit_column(name)) for name in names]
    rows = survivors.select(
        DOC_ID, F.xxhash64(F.lit("evaluation"), DOC_ID).alias(_ORDER), F.xxhash64(DOC_ID).alias(_HASH), *logits
    )
    drawn = rows.orderBy(_ORDER, DOC_ID).limit(config.evaluate.general + config.evaluate.documents)
    documents = InputSnapshot.scored(spark, config).documents().where(F.col(REASON).isNull())
    texts = documents.select(DOC_ID, F.substring(TEXT, 1, _MAX_CHARACTERS).alias(TEXT))
    drawn_texts: pa.Table = texts.join(F.broadcast(drawn), on=DOC_ID, how="inner").toArrow()
    ids, drawn_at = drawn_texts.column(DOC_ID).to_pylist(), drawn_texts.column(_ORDER).to_pylist()
    rows_in_order = sorted(range(len(ids)), key=lambda row: (drawn_at[row], ids[row]))
    single = [
        row for row, last in zip(rows_in_order, [-1, *rows_in_order], strict=False) if last < 0 or ids[row] != ids[last]
    ]
    n_general, n_required = config.evaluate.general, config.evaluate.general + config.evaluate.documents
    if len(single) < n_required and n_general > len(single) // _GENERAL_ONE_IN:
        n_general = len(single) // _GENERAL_ONE_IN
        if n_general < 2:
            min_documents = 2 * _GENERAL_ONE_IN
            raise DataError(
                f"evaluate: the corpus has {len(single)} documents after deduplication; at least {min_documents} are required"
            )
        _logger.warning(
            "evaluate.general: reduced to %d, 1 in %d of the available documents", n_general, _GENERAL_ONE_IN
        )
    all_texts = drawn_texts.column(TEXT).to_pylist()
    pool = single[n_general:]
    by_id = np.empty(len(pool), np.int64)
    by_id[sorted(range(len(pool)), key=lambda position: ids[pool[position]])] = np.arange(len(pool))
    hashes = drawn_texts.column(_HASH).to_numpy()[pool]
    rankings = {}
    for name in names:
        logit = drawn_texts.column(schemas.logit_column(name)).to_numpy()[pool]
        order = np.lexsort([by_id, hashes, -logit])
        rankings[name] = order[~np.isnan(logit[order])]
    return Pool([all_texts[row] for row in single[:n_general]], [all_texts[row] for row in pool], rankings)
