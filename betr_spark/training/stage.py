"""Stage `train`: every scorer that has an artifact, folded, with its figures, under `scorers/NAME`."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from betr_spark import schemas
from betr_spark.config import Config
from betr_spark.config.scorers import BetrScorer, DsirScorer, FastTextScorer
from betr_spark.errors import DataError
from betr_spark.kernels.text_preparation import PREPARATION
from betr_spark.pipeline.stage import Result, RunContext, Stage
from betr_spark.ranking.labels import BENCHMARKS, held_out, target_order
from betr_spark.schemas import (
    BEST_BENCHMARK,
    BEST_COSINE,
    BY_BENCHMARK,
    DOC_ID,
    LABEL,
    LOGIT,
    N_BYTES,
    SCORE,
    SOURCE,
    SPLIT,
    TARGET_SCORE,
    TEXT,
    TRAIN,
    VALIDATION,
)
from betr_spark.scoring import artifact
from betr_spark.scoring.ngram_table import NgramTable, Table
from betr_spark.storage import delta, runs
from betr_spark.storage.runs import StageKey, StageRun
from betr_spark.training import training_data
from betr_spark.training.agreement import Sampled, agreement, details, in_words, warnings
from betr_spark.training.fasttext import LEAST_AUC, Labelled, Trained, score_texts, train, train_heads
from betr_spark.training.linear import MOST_DOCUMENTS, Placed, train_on_order

_MOST_EVALUATED = 200_000  # documents of the sample
_MOST_VALIDATED = 20_000  # whose texts the driver holds
_logger = logging.getLogger(__name__)


class Train(Stage):
    """Fits one scorer, and its benchmark scorers, and folds them into artifacts."""

    rebuilds = True

    def __init__(self, scorer: str) -> None:
        """Name the scorer."""
        super().__init__(f"train/{scorer}")
        self.scorer = scorer

    def outputs(self, config: Config) -> Sequence[str]:
        """Folders of the artifacts: the scorer's, then those of its benchmark scorers."""
        return [folder(config, name) for name in (self.scorer, *config.benchmark_scorers(self.scorer).values())]

    def key(self, context: RunContext) -> StageKey:
        """The scorer's settings, the text preparation, the ranked sample, and what else it is trained on."""
        config, name = context.config, self.scorer
        scorer = config.trained_scorers()[name]
        settings = {"scorer": scorer, "preparation": PREPARATION, "heads": config.benchmark_scorers(name)}
        ranked = runs.input_version(context.spark, config.table(schemas.RANKED_SAMPLE_TABLE))
        others = training_data.versions(context.spark, scorer)
        return StageKey.of(self.name, settings, ranked_sample=ranked, **others)

    def made_by(self, context: RunContext) -> StageRun | None:
        """The run that wrote the artifacts, or None if one is missing or belongs to another training."""
        spark, config = context.spark, context.config
        about = artifact.describe(spark, folder(config, self.scorer))
        if about is None:
            return None
        for name in config.benchmark_scorers(self.scorer).values():
            own = artifact.describe(spark, folder(config, name))
            if own is None or own["sha256"] != about.get("heads", {}).get(name):
                return None
        return StageRun.from_json(about.get("run", ""))

    @contextmanager
    def build(self, context: RunContext, key: StageKey) -> Iterator[Result]:  # noqa: ARG002 - part of the protocol
        """Fit, measure agreement with the target ranking on documents that were held out, and save."""
        yield _train(context.spark, context.config, self.scorer)

    def summary(self, run: StageRun) -> list[str]:
        """With the figures."""
        return [*super().summary(run), f"  {in_words(run.metrics)}"]


def stages(config: Config) -> list[Stage]:
    """One stage for each scorer that is trained."""
    return [Train(name) for name in config.trained_scorers()]


def folder(config: Config, name: str) -> str:
    """Folder of a scorer's artifact."""
    return config.table(f"scorers/{name}")


def _train(spark: SparkSession, config: Config, name: str) -> Result:
    scorer = config.trained_scorers()[name]
    _check_sample(spark, config)
    ranked = delta.read(spark, config.table(schemas.RANKED_SAMPLE_TABLE))
    texts = delta.read(spark, config.table(schemas.SAMPLE_TABLE)).select(DOC_ID, TEXT)
    unseen, n_ranked, heads = ranked, ranked.count(), list[Trained]()
    if isinstance(scorer, FastTextScorer):
        made = Trained(training_data.folded_model(spark, scorer, name), {"label": scorer.label}, {})
    elif isinstance(scorer, DsirScorer):
        fitted = training_data.fitted_ratio(spark, config, scorer, texts)
        made = Trained(fitted, {"normalize": scorer.normalize, "buckets": scorer.buckets}, {})
    elif isinstance(scorer, BetrScorer) and _is_linear(scorer, n_ranked, name):
        made, *heads = _fit_to_order(spark, config, name, ranked, texts)
        unseen = ranked.where(held_out())
    else:
        labelled = training_data.labelled(spark, config, name, ranked, texts).orderBy(F.xxhash64(DOC_ID), DOC_ID)
        held = labelled.where(F.col(SPLIT) == VALIDATION).limit(_MOST_VALIDATED).select(TEXT, LABEL).collect()
        validation = Labelled([row[TEXT] for row in held], np.array([row[LABEL] for row in held], np.int8))
        training = labelled.where(F.col(SPLIT) == TRAIN)
        rows = ((row[TEXT], row[LABEL]) for row in training.select(TEXT, LABEL).toLocalIterator())
        made = train(scorer, rows, validation, name=name)
        unseen = ranked.join(training.select(DOC_ID), on=DOC_ID, how="left_anti")
        if isinstance(scorer, BetrScorer) and scorer.per_benchmark:
            heads = _trained_heads(config, name, scorer, ranked, texts, made)
    sampled = _sampled(unseen, texts, made.table)
    metrics = {**made.metrics, **agreement(sampled)}
    for warning in warnings(metrics):
        _logger.warning("scorers.%s: %s", name, warning)

    def commit(run: StageRun) -> None:
        saved = {}
        for (benchmark, head), one in zip(config.benchmark_scorers(name).items(), heads, strict=True):
            settings = {**one.settings, "benchmark": benchmark}
            about = _about(head, "head", one._replace(settings=settings), one.metrics)
            saved[head] = artifact.save(spark, folder(config, head), one.table, about)["sha256"]
            _logger.info("scorers.%s: %s", head, in_words(one.metrics))
            if one.metrics.get("validation_auc", 0.0) < LEAST_AUC:
                _logger.warning(
                    "scorers.%s: its benchmark's documents are not told from others; raise sample.documents", head
                )
        about = {
            **_about(name, scorer.kind, made, metrics),
            "evaluation": details(sampled),
            "heads": saved,
            "run": run.to_json(),
        }
        artifact.save(spark, folder(config, name), made.table, about)  # after the benchmark scorers that it names

    count = int(metrics.get("n_training", 0) + metrics.get("n_validation", 0))
    return Result(rows_in=n_ranked, rows_out=count, metrics=metrics, commit=commit)


def _check_sample(spark: SparkSession, config: Config) -> None:
    """Refuse a ranking of another sample than the one that is there, which a `rank` that was stopped leaves behind."""
    path = config.table(schemas.RANKED_SAMPLE_TABLE)
    made = runs.made_by(spark, path)
    if made and made.input_versions.get("sample") != runs.input_version(spark, config.table(schemas.SAMPLE_TABLE)):
        raise DataError(f"{path}: made of another sample than `_sample` holds now; `betr-spark rank` makes it anew")


def _about(name: str, kind: str, made: Trained, metrics: dict[str, float]) -> dict[str, Any]:
    return {
        "name": name, "kind": kind, "preparation": PREPARATION, "settings": made.settings, "metrics": metrics,
        "word_ngrams": made.table.word_ngrams if isinstance(made.table, NgramTable) else 2,
    }  # fmt: skip


def _is_linear(scorer: BetrScorer, n_documents: int, name: str) -> bool:
    """Whether a scorer is fitted to the order of a sample of so many documents rather than trained by fastText."""
    if scorer.model == "linear" and n_documents > MOST_DOCUMENTS:
        raise DataError(
            f"scorers.{name}.model: linear is for samples of up to {MOST_DOCUMENTS} documents, this one has {n_documents}"
        )
    small = n_documents <= MOST_DOCUMENTS and scorer.lr == scorer.epochs == "auto"
    return scorer.model == "linear" or (scorer.model == "auto" and small)


def _fit_to_order(spark: SparkSession, config: Config, name: str, ranked: DataFrame, texts: DataFrame) -> list[Trained]:
    """Fit the scorer, and its heads, to the order of the sample, but for a fifth that is held out."""
    heads = list(config.benchmark_scorers(name))
    labelled = training_data.labelled_by_benchmark(config, ranked, texts) if heads else ranked.join(texts, on=DOC_ID)
    rows = (
        labelled.where(F.col(SPLIT) == VALIDATION).orderBy(F.xxhash64(DOC_ID), DOC_ID).collect()
    )  # a fifth of the labels
    validation = Labelled([row[TEXT] for row in rows], np.array([row[LABEL] for row in rows], np.int8))
    labels = [np.array([number in row[BENCHMARKS] for row in rows], np.int8) for number in range(len(heads))]
    training = ranked.where(~held_out()).join(texts, on=DOC_ID, how="inner").orderBy(*target_order())
    by_benchmark = [F.col(BY_BENCHMARK)[benchmark] for benchmark in heads]
    own = [value for head in by_benchmark for value in (head[SCORE], head["cosine"])]
    found = training.select(TEXT, F.coalesce(F.col(LABEL) == 1, F.lit(False)), *own).toLocalIterator()
    placed = (Placed(row[0], row[1], list(zip(row[2::2], row[3::2], strict=True))) for row in found)
    examples = training_data.examples_by_benchmark(spark, config)
    return train_on_order(placed, list(examples.values()), validation, labels, name=name)


def _trained_heads(
    config: Config, name: str, scorer: BetrScorer, ranked: DataFrame, texts: DataFrame, made: Trained
) -> list[Trained]:
    labelled = training_data.labelled_by_benchmark(config, ranked, texts).orderBy(F.xxhash64(DOC_ID), DOC_ID)
    validation, training = (labelled.where(F.col(SPLIT) == s).select(TEXT, BENCHMARKS) for s in (VALIDATION, TRAIN))
    held = [(row[TEXT], row[BENCHMARKS]) for row in validation.limit(_MOST_VALIDATED).collect()]
    rows = ((row[TEXT], row[BENCHMARKS]) for row in training.toLocalIterator())
    return train_heads(scorer, list(config.benchmark_scorers(name)), rows, held, settings=made.settings, name=name)


def _sampled(unseen: DataFrame, texts: DataFrame, table: Table) -> Sampled:
    """Score documents of the sample, at most 200,000 of them, chosen by a hash."""
    shared = unseen.sparkSession.sparkContext.broadcast(table)

    def with_logit(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            logits = pa.array(score_texts(batch.column(TEXT).to_pylist(), shared.value), pa.float32())
            yield batch.drop_columns([TEXT]).append_column(LOGIT, logits)

    order = [F.xxhash64(F.lit("evaluation"), DOC_ID), F.col(DOC_ID)]
    rows = unseen.orderBy(*order).limit(_MOST_EVALUATED).join(texts, on=DOC_ID, how="inner")
    source = F.coalesce(SOURCE, F.lit("(none)")).alias(SOURCE)
    label = F.coalesce(LABEL, F.lit(-1)).cast("tinyint").alias(LABEL)
    size = F.octet_length(TEXT).cast("bigint").alias(N_BYTES)
    columns: list[str | Column] = [DOC_ID, TARGET_SCORE, BEST_COSINE, label, size, BEST_BENCHMARK, source, TEXT]
    schema = (
        f"{DOC_ID} string, {TARGET_SCORE} double, {BEST_COSINE} float, {LABEL} tinyint, {N_BYTES} bigint, "
        f"{BEST_BENCHMARK} string, {SOURCE} string, {LOGIT} float"
    )
    found = rows.select(*columns).mapInArrow(with_logit, schema).toArrow().sort_by(DOC_ID)
    numbers = (found.column(n).to_numpy() for n in (TARGET_SCORE, BEST_COSINE, LOGIT, LABEL, N_BYTES))
    return Sampled(*numbers, *(found.column(name).to_pylist() for name in (BEST_BENCHMARK, SOURCE)))
