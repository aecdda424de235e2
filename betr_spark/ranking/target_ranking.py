"""The target ranking: the sample in the order of best rank over the targets' examples, with labels."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from betr_spark import schemas
from betr_spark.config import Config
from betr_spark.config.ranking import EncoderConfig
from betr_spark.ranking import best_rank
from betr_spark.ranking.direct_logits import direct_logits
from betr_spark.ranking.embeddings import embedded, embeddings_of
from betr_spark.ranking.labels import target_order, with_labels
from betr_spark.ranking.passes import best_ranks_of
from betr_spark.ranking.query_vectors import query_vectors
from betr_spark.schemas import DOC_ID, EMBEDDING, SOURCE, TEXT
from betr_spark.spark.jobs import describe
from betr_spark.storage.runs import Metrics
from betr_spark.targets.examples import Example

_N_RANK_COLUMNS = 8  # of `ranked_sample`; the other columns are the labels
_MIN_DOCUMENTS_PER_EXAMPLE = 100
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RankMetrics(Metrics):
    """Number of examples, documents for each example, and length of the list of cosines for each query vector."""

    n_examples: int | None = None
    documents_per_example: float | None = None
    depth: int | None = None


class TargetRanking(NamedTuple):
    """The rows of `ranked_sample`, and figures of the ranking."""

    documents: DataFrame
    metrics: RankMetrics


def target_ranking(
    sampled: DataFrame,
    examples: Sequence[Example],
    config: Config,
    *,
    n_documents: int,
    materialise: Callable[[DataFrame], DataFrame],
) -> TargetRanking:
    """Embed the sample and the examples, rank the sample in two passes, and label it.

    Each pass reads each document once: `materialise` stores the ranks, which the labels read several times.

    Args:
        sampled: doc_id, source, text; one row for each document.
        examples: the targets.
        config: encoder, labels, and the scorers of direct mode.
        n_documents: number of rows of `sampled`.
        materialise: stores a frame and returns what was stored.
    """
    spark = sampled.sparkSession
    describe(spark, "rank: embed documents")
    vectors = embeddings_of(sampled, n_documents, config, materialise=materialise)
    describe(spark, "rank: embed examples")
    queries = query_vectors(
        [example.benchmark for example in examples],
        [example.row for example in examples],
        embed_examples(spark, examples, config.encoder),
        granularity=config.labels.granularity,
        clusters=config.labels.clusters,
    )
    fraction = config.labels.positive_fraction
    depth = best_rank.depth(n_documents=n_documents, n_examples=len(queries.rows), positive_fraction=fraction)
    ratio = n_documents / len(examples)
    if ratio < _MIN_DOCUMENTS_PER_EXAMPLE:
        _logger.warning(
            "rank: %.1f documents per example, fewer than %d: many documents share a best rank",
            ratio,
            _MIN_DOCUMENTS_PER_EXAMPLE,
        )
    schema = StructType.fromDDL(schemas.RANKED_SAMPLE)
    assert isinstance(schema, StructType)
    describe(spark, "rank: rank documents by examples")
    ranked = best_ranks_of(
        sampled.select(DOC_ID, SOURCE).join(vectors, on=DOC_ID, how="inner"), queries,
        depth=depth, aggregate=config.labels.aggregate, schema=StructType(schema.fields[:_N_RANK_COLUMNS]),
    )  # fmt: skip
    ranked = materialise(ranked)
    describe(spark, "rank: label documents")
    labelled = with_labels(ranked, target_order(), n_documents=n_documents, positive_fraction=fraction)
    labelled = labelled.select(*[F.col(field.name).cast(field.dataType).alias(field.name) for field in schema.fields])
    if config.direct():
        logits = direct_logits(ranked, config.direct(), n_documents=n_documents, materialise=materialise)
        labelled = labelled.join(logits, on=DOC_ID, how="inner")
    metrics = RankMetrics(n_examples=len(examples), documents_per_example=ratio, depth=depth)
    return TargetRanking(labelled, metrics)


def embed_examples(spark: SparkSession, examples: Sequence[Example], encoder: EncoderConfig) -> NDArray[np.float32]:
    """Vectors of the examples, [M, d]; a long example is cut, never split into chunks."""
    rows = [(f"{index:09d}", example.text) for index, example in enumerate(examples)]
    frame = spark.createDataFrame(rows, f"{DOC_ID} string, {TEXT} string")
    settings = encoder.model_copy(update={"long_documents": "truncate"})
    vectors = embedded(frame, len(rows), settings, prompt=encoder.example_prompt).collect()  # one row for each example
    return np.stack([np.frombuffer(row[EMBEDDING], np.float32) for row in sorted(vectors)])
