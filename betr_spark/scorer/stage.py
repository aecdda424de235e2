"""Stage `train`: a fastText scorer on the labels of `ranked_sample`, folded, with its figures, under `scorers/NAME`."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from betr_spark import schemas, tables
from betr_spark.config import Config, ScorerConfig
from betr_spark.corpus.text import PREPARATION
from betr_spark.schemas import BEST_COSINE, BEST_RANK, DOC_ID, LABEL, LOGIT, SPLIT, TEXT, TRAIN, VALIDATION
from betr_spark.scorer import artifact
from betr_spark.scorer.table import NgramTable
from betr_spark.scorer.train import Labelled, Trained, score_texts, train
from betr_spark.tables import Clock, StageKey, StageRun

KEEP_RATE = 0.10


def key(spark: SparkSession, config: Config, name: str) -> StageKey:
    """Key of one scorer: its settings, the text preparation and the ranked sample."""
    settings = {"scorer": config.scorers[name], "preparation": PREPARATION}
    ranked = tables.input_version(spark, config.table(schemas.RANKED_SAMPLE_TABLE))
    return StageKey.of(f"train/{name}", settings, ranked_sample=ranked)


def trained(spark: SparkSession, config: Config, name: str) -> StageRun | None:
    """Return the run that made a scorer's artifact, or None where there is none."""
    about = artifact.describe(spark, folder(config, name))
    return StageRun.from_json(about.get("run", "")) if about else None


def folder(config: Config, name: str) -> str:
    """Folder of a scorer's artifact."""
    return config.table(f"scorers/{name}")


def run(spark: SparkSession, config: Config, *, again: bool = False) -> list[StageRun]:
    """Train every scorer whose artifact is not there under the same key; all of them with `again`."""
    runs = []
    for name, scorer in config.trained_scorers().items():
        wanted = key(spark, config, name)
        made = None if again else trained(spark, config, name)
        if made is not None and made.key == wanted.key:
            tables.record(spark, config.output, made)
            runs.append(made)
        else:
            runs.append(_train(spark, config, name, scorer, wanted))
    return runs


def _train(spark: SparkSession, config: Config, name: str, scorer: ScorerConfig, wanted: StageKey) -> StageRun:
    clock = Clock(wanted)
    ranked = tables.read(spark, config.table(schemas.RANKED_SAMPLE_TABLE))
    texts = tables.read(spark, config.table(schemas.SAMPLE_TABLE)).select(DOC_ID, TEXT)
    labelled = (
        ranked.where(F.col(LABEL).isNotNull())
        .join(texts, on=DOC_ID, how="inner")
        .orderBy(F.xxhash64(DOC_ID), DOC_ID)
        .select(TEXT, LABEL, SPLIT)
    )
    held_out = labelled.where(F.col(SPLIT) == VALIDATION).collect()  # a fifth of the labels of the sample
    validation = Labelled([row[TEXT] for row in held_out], np.array([row[LABEL] for row in held_out], np.int8))
    rows = ((row[TEXT], row[LABEL]) for row in labelled.where(F.col(SPLIT) == TRAIN).toLocalIterator())
    fitted = train(scorer, rows, validation, name=name)
    metrics = {**fitted.metrics, **_agreement(ranked, texts, fitted.table)}
    done = clock.done(
        rows_in=ranked.count(), rows_out=int(metrics["n_training"] + metrics["n_validation"]), metrics=metrics
    )
    artifact.save(spark, folder(config, name), fitted.table, _about(name, fitted, metrics, done))
    tables.record(spark, config.output, done)
    return done


def _about(name: str, fitted: Trained, metrics: dict[str, float], done: StageRun) -> dict[str, Any]:
    return {
        "name": name, "kind": "betr", "preparation": PREPARATION, "word_ngrams": fitted.table.word_ngrams,
        "settings": fitted.settings, "metrics": metrics, "run": done.to_json(),
    }  # fmt: skip


def _agreement(ranked: DataFrame, texts: DataFrame, table: NgramTable) -> dict[str, float]:
    """Compare with the teacher's order on what was not trained on: Spearman, and recall of its top tenth."""
    context = ranked.sparkSession.sparkContext
    shared = context.broadcast(table)

    def with_logit(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            logits = pa.array(score_texts(batch.column(TEXT).to_pylist(), shared.value), pa.float32())
            yield batch.drop_columns([TEXT]).append_column(LOGIT, logits)

    unseen = ranked.where((F.col(SPLIT) != TRAIN) | F.col(SPLIT).isNull()).select(DOC_ID, BEST_RANK, BEST_COSINE)
    rows = unseen.join(texts, on=DOC_ID, how="inner").select(BEST_RANK, BEST_COSINE, TEXT)
    schema = f"{BEST_RANK} int, {BEST_COSINE} float, {LOGIT} float"
    scored = rows.mapInArrow(with_logit, schema).toArrow()  # three numbers a document of the sample
    rank, cosine, logit = (column.to_numpy() for column in scored.columns)
    if len(rank) < 2:
        return {}
    teacher = np.argsort(np.lexsort((-cosine, rank)))
    student = np.argsort(np.argsort(-np.nan_to_num(logit, nan=-np.inf), kind="stable"))
    top = max(1, round(KEEP_RATE * len(rank)))
    return {
        "spearman": float(np.corrcoef(teacher, student)[0, 1]),
        "recall_at_10_percent": float(np.mean(student[teacher < top] < top)),
    }
