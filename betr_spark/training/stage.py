"""Stage `train`: fits every scorer that has an artifact, and folds it into a table of weights under `scorers/NAME`."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from betr_spark import schemas
from betr_spark.config import Config
from betr_spark.errors import DataError, SetupError
from betr_spark.kernels.text_preparation import PREPARATION
from betr_spark.pipeline.stage import Result, RunContext, Stage
from betr_spark.schemas import (
    BEST_BENCHMARK,
    BEST_COSINE,
    DOC_ID,
    LABEL,
    LOGIT,
    N_BYTES,
    SOURCE,
    TARGET_SCORE,
    TEXT,
)
from betr_spark.scoring import artifact
from betr_spark.scoring.ngram_table import NgramTable, Table
from betr_spark.storage import delta, runs
from betr_spark.storage.runs import Metrics, StageKey, StageRun
from betr_spark.training.agreement import Evaluated, TargetScores, details, scorer_metrics, warnings
from betr_spark.training.kinds import kind_of
from betr_spark.training.records import Fitted, in_words
from betr_spark.training.training_data import FittedScorer, TrainingSample
from betr_spark.training.validation import MIN_AUC, score_texts

_MAX_EVALUATED = 200_000  # documents of the sample
_logger = logging.getLogger(__name__)


class Train(Stage):
    """Fits one scorer and its benchmark scorers."""

    rebuilds = True

    def __init__(self, scorer: str) -> None:
        """Name the scorer."""
        super().__init__(f"train/{scorer}")
        self.scorer = scorer

    def outputs(self, config: Config) -> Sequence[str]:
        """Folders of the artifacts: the scorer's, then those of its benchmark scorers."""
        return [folder(config, name) for name in (self.scorer, *config.benchmark_scorers(self.scorer).values())]

    def key(self, context: RunContext) -> StageKey:
        """The scorer's settings, the text preparation, the sample and its ranking, and the scorer's other inputs."""
        config, name = context.config, self.scorer
        benchmark_scorers = config.benchmark_scorers(name)
        settings = {"scorer": config.scorers[name], "preparation": PREPARATION, "benchmark_scorers": benchmark_scorers}
        table = schemas.RANKED_SAMPLE_TABLE if config.needs_target_ranking() else schemas.SAMPLE_TABLE
        sample = {table.removeprefix("_"): runs.input_version(context.spark, config.table(table))}
        return StageKey.of(self.name, settings, **sample, **kind_of(config, name).versions(context))

    def problems(self, context: RunContext) -> Iterator[str]:
        """Everything that is wrong with the scorer's inputs."""
        yield from kind_of(context.config, self.scorer).problems(context)

    def requirements(self, context: RunContext) -> Iterator[str]:
        """FastText, for the kinds that train or read its models."""
        yield from kind_of(context.config, self.scorer).requirements()

    def made_by(self, context: RunContext) -> StageRun | None:
        """The run that wrote the artifacts, or None if one is missing or from another run."""
        spark, config = context.spark, context.config
        about = artifact.describe(spark, folder(config, self.scorer))
        if about is None:
            return None
        for name in config.benchmark_scorers(self.scorer).values():
            description = artifact.describe(spark, folder(config, name))
            if description is None or description["sha256"] != about.get("benchmark_scorers", {}).get(name):
                return None
        return StageRun.from_json(about.get("run", ""))

    @contextmanager
    def build(self, context: RunContext, key: StageKey) -> Iterator[Result]:  # noqa: ARG002 - part of the protocol
        """Fit, and evaluate on documents that the scorer was not fitted to."""
        config, name = context.config, self.scorer
        if missing := list(self.requirements(context)):
            raise SetupError(missing[0])
        sample = _training_sample(context)
        fitted = kind_of(config, name).fit(context, sample)
        evaluated = _evaluated(fitted.unseen, sample.texts, fitted.scorer.table, ranked=config.needs_target_ranking())
        metrics = scorer_metrics(fitted.scorer.metrics, evaluated)
        for warning in warnings(metrics):
            _logger.warning("scorers.%s: %s", name, warning)

        def commit(run: StageRun) -> None:
            saved = _save_benchmark_scorers(context, name, fitted)  # before the scorer, which names them
            about = {
                **_about(name, config.scorers[name].kind, fitted.scorer, metrics),
                "evaluation": details(evaluated),
                "benchmark_scorers": saved,
                "run": run.to_json(),
            }
            artifact.save(context.spark, folder(config, name), fitted.scorer.table, about)

        n_fitted = (metrics.n_training or 0) + (metrics.n_validation or 0)
        yield Result(rows_in=sample.n_documents, rows_out=n_fitted, metrics=metrics, commit=commit)

    def summary(self, run: StageRun) -> list[str]:
        """With the figures."""
        return [*super().summary(run), f"  {in_words(run.metrics)}"]


def stages(config: Config) -> list[Stage]:
    """One stage for each scorer that is trained."""
    return [Train(name) for name in config.trained_scorers()]


def folder(config: Config, name: str) -> str:
    """Folder of a scorer's artifact."""
    return config.table(f"scorers/{name}")


def _training_sample(context: RunContext) -> TrainingSample:
    """The sample, with its ranking if a scorer uses it.

    Raises:
        DataError: the ranking is of another sample than `_sample`, as a killed `rank` leaves it.
    """
    spark, config = context.spark, context.config
    sampled = delta.read(spark, config.table(schemas.SAMPLE_TABLE))
    texts = sampled.select(DOC_ID, TEXT)
    if not config.needs_target_ranking():
        return TrainingSample(sampled.select(DOC_ID, SOURCE), texts, sampled.count())
    path = config.table(schemas.RANKED_SAMPLE_TABLE)
    ranked, ranking = delta.read(spark, path), runs.made_by(spark, path)
    current = runs.input_version(spark, config.table(schemas.SAMPLE_TABLE))
    if ranking and ranking.input_versions.get("sample") != current:
        raise DataError(f"{path}: built from a different sample than `_sample`; rank again with `betr-spark rank`")
    return TrainingSample(ranked, texts, ranked.count())


def _save_benchmark_scorers(context: RunContext, name: str, fitted: FittedScorer) -> dict[str, str]:
    """Save the artifacts of the benchmark scorers; returns the sha256 of each by its name."""
    saved = {}
    spark, config = context.spark, context.config
    names = config.benchmark_scorers(name).items()
    for (benchmark, scorer), table in zip(names, fitted.benchmark_scorers, strict=True):
        settings = {**table.settings, "benchmark": benchmark}
        about = _about(scorer, "benchmark", table._replace(settings=settings), table.metrics)
        saved[scorer] = artifact.save(spark, folder(config, scorer), table.table, about)["sha256"]
        _logger.info("scorers.%s: %s", scorer, in_words(table.metrics.to_mapping()))
        if (table.metrics.validation_auc or 0.0) < MIN_AUC:
            _logger.warning(
                "scorers.%s: validation AUC below %s: it does not separate the documents of its benchmark from others; "
                "increase sample.documents",
                scorer,
                MIN_AUC,
            )
    return saved


def _about(name: str, kind: str, fitted: Fitted, metrics: Metrics) -> dict[str, Any]:
    """What scorer.json says of every artifact."""
    return {
        "name": name, "kind": kind, "preparation": PREPARATION, "settings": fitted.settings,
        "metrics": metrics.to_mapping(),
        "word_ngrams": fitted.table.word_ngrams if isinstance(fitted.table, NgramTable) else 2,
    }  # fmt: skip


def _evaluated(unseen: DataFrame, texts: DataFrame, table: Table, *, ranked: bool) -> Evaluated:
    """Score documents of the sample, at most 200,000 of them, chosen by a hash."""
    shared = unseen.sparkSession.sparkContext.broadcast(table)

    def with_logit(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            logits = pa.array(score_texts(batch.column(TEXT).to_pylist(), shared.value), pa.float32())
            yield batch.drop_columns([TEXT]).append_column(LOGIT, logits)

    order = [F.xxhash64(F.lit("evaluation"), DOC_ID), F.col(DOC_ID)]
    rows = unseen.orderBy(*order).limit(_MAX_EVALUATED).join(texts, on=DOC_ID, how="inner")
    size = F.octet_length(TEXT).cast("bigint").alias(N_BYTES)
    columns: list[str | Column] = [DOC_ID, size, F.coalesce(SOURCE, F.lit("(none)")).alias(SOURCE)]
    schema = f"{DOC_ID} string, {N_BYTES} bigint, {SOURCE} string"
    if ranked:
        label = F.coalesce(LABEL, F.lit(-1)).cast("tinyint").alias(LABEL)
        columns += [TARGET_SCORE, BEST_COSINE, label, BEST_BENCHMARK]
        schema += f", {TARGET_SCORE} double, {BEST_COSINE} float, {LABEL} tinyint, {BEST_BENCHMARK} string"
    scored = rows.select(*columns, TEXT).mapInArrow(with_logit, f"{schema}, {LOGIT} float").toArrow().sort_by(DOC_ID)
    target = None
    if ranked:
        score, cosine, labels = (scored.column(name).to_numpy() for name in (TARGET_SCORE, BEST_COSINE, LABEL))
        target = TargetScores(score, cosine, labels, scored.column(BEST_BENCHMARK).to_pylist())
    logit, n_bytes = (scored.column(name).to_numpy() for name in (LOGIT, N_BYTES))
    return Evaluated(logit, n_bytes, scored.column(SOURCE).to_pylist(), target)
