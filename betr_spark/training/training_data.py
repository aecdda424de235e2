"""Training data: texts of the sample with labels, and fastText trained on them."""

import hashlib
import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from betr_spark.config.scorers import FastTextTraining
from betr_spark.pipeline.stage import RunContext
from betr_spark.ranking.labels import BENCHMARKS, benchmark_labels
from betr_spark.schemas import DOC_ID, LABEL, SPLIT, TEXT, TRAIN, VALIDATION
from betr_spark.targets.reading import read_targets, targets_of
from betr_spark.training.fasttext import Recipe, train
from betr_spark.training.records import Fitted, Labelled

MAX_VALIDATED = 20_000  # validation documents whose texts the driver holds


class TrainingSample(NamedTuple):
    """What scorers are fitted to.

    documents: doc_id, source and the other columns of `ranked_sample`; without a target ranking doc_id and source only. texts:
    doc_id, text. n_documents: number of rows of each.
    """

    documents: DataFrame
    texts: DataFrame
    n_documents: int


class FittedScorer(NamedTuple):
    """The result of a fit.

    scorer: the scorer's table. unseen: the rows of `TrainingSample.documents` that it was not fitted to. benchmark_scorers: the
    tables of its benchmark scorers, in the order of the targets.
    """

    scorer: Fitted
    unseen: DataFrame
    benchmark_scorers: Sequence[Fitted] = ()


def labelled_texts(labels: DataFrame, texts: DataFrame) -> DataFrame:
    """Join the documents that have a label with their texts: doc_id, label, split, text."""
    labels = labels.where(F.col(LABEL).isNotNull()).select(DOC_ID, LABEL, SPLIT)
    return labels.join(texts, on=DOC_ID, how="inner")


def labelled_by_benchmark(sample: TrainingSample, benchmarks: Sequence[str], *, positive_fraction: float) -> DataFrame:
    """Training data of benchmark scorers: doc_id, label, benchmarks (their indices), split, text.

    These are the documents that have a label, and those that are positive for a benchmark.
    """
    ranked, n = sample.documents, sample.n_documents
    positives = benchmark_labels(ranked, benchmarks, n_documents=n, positive_fraction=positive_fraction)
    rows = ranked.join(positives, on=DOC_ID, how="left").where(F.col(LABEL).isNotNull() | F.col(BENCHMARKS).isNotNull())
    indices = F.coalesce(BENCHMARKS, F.array().cast("array<int>")).alias(BENCHMARKS)
    split = F.coalesce(SPLIT, F.lit(TRAIN)).alias(SPLIT)
    return rows.select(DOC_ID, LABEL, indices, split).join(sample.texts, on=DOC_ID, how="inner")


def in_fixed_order(labelled: DataFrame) -> DataFrame:
    """Sort documents by a hash of the id, so that training repeats."""
    return labelled.orderBy(F.xxhash64(DOC_ID), DOC_ID)


def train_on_labels(
    labelled: DataFrame, sample: TrainingSample, scorer: FastTextTraining, *, recipe: Recipe, name: str
) -> FittedScorer:
    """Train fastText on labelled texts.

    Args:
        labelled: doc_id, text, label (1, 0), split.
        sample: the sample, for the documents that the scorer was not trained on.
        scorer: hyper-parameters.
        recipe: the paper's settings or DCLM's.
        name: of the scorer, for messages.
    """
    labelled = in_fixed_order(labelled)
    held = labelled.where(F.col(SPLIT) == VALIDATION).limit(MAX_VALIDATED).select(TEXT, LABEL).collect()
    validation = Labelled([row[TEXT] for row in held], np.array([row[LABEL] for row in held], np.int8))
    training = labelled.where(F.col(SPLIT) == TRAIN)
    rows = ((row[TEXT], row[LABEL]) for row in training.select(TEXT, LABEL).toLocalIterator())
    fitted = train(scorer, rows, validation, recipe=recipe, name=name)
    return FittedScorer(fitted, sample.documents.join(training.select(DOC_ID), on=DOC_ID, how="left_anti"))


def examples_by_benchmark(context: RunContext) -> dict[str, list[str]]:
    """Texts of the targets' examples, the same ones that rank the sample, in the order of the configuration."""
    targets = context.config.targets
    texts: dict[str, list[str]] = {name: [] for name in targets}
    for example in targets_of(targets, read_targets(context.spark, context.config)):
        texts[example.benchmark].append(example.text)
    return texts


def target_versions(context: RunContext) -> dict[str, str]:
    """Digest of each target's settings and train file, for keys."""
    versions = {}
    for name, benchmark in read_targets(context.spark, context.config).items():
        settings = context.config.targets[name].model_dump(exclude={"test"})
        packed = json.dumps([settings, benchmark.digest()], sort_keys=True)
        versions[f"targets.{name}"] = hashlib.sha256(packed.encode()).hexdigest()
    return versions
