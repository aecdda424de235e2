"""Stage `select`: rank the survivors of one scorer, keep the budget, join the text of the winners; `selected/NAME`."""

import math

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from betr_spark import schemas
from betr_spark.config import Config, SelectionConfig
from betr_spark.corpus.documents import quoted
from betr_spark.corpus.snapshot import InputSnapshot
from betr_spark.ordering import with_rank
from betr_spark.schemas import (
    BEST_BENCHMARK,
    DOC_ID,
    LOGIT,
    N_BYTES,
    N_TOKENS,
    RANK,
    REASON,
    SCORE,
    SOURCE,
    TEXT,
)
from betr_spark.scoring.logit import logit_of, score_of
from betr_spark.selection.budget import with_order, within_budget
from betr_spark.storage import delta, runs
from betr_spark.storage.runs import StageKey, StageRun, StageTimer

_FILE_BYTES = 256 * 2**20


def key(spark: SparkSession, config: Config, name: str) -> StageKey:
    """Key of one selection: its rule and scorer, the carried columns, features and duplicates."""
    selection = config.selections[name]
    mapping = config.input.model_dump(exclude={"max_batch_bytes"})
    settings = {"selection": selection, "scorer": config.scorers.get(selection.scorer), "input": mapping}
    settings["heads"] = config.benchmark_scorers(selection.scorer)
    versions = {
        t: runs.input_version(spark, config.table(t)) for t in (schemas.FEATURES_TABLE, schemas.DUPLICATES_TABLE)
    }
    return StageKey.of(f"select/{name}", settings, **versions)


def run(spark: SparkSession, config: Config) -> list[StageRun]:
    """Write every selection that is not there under the same key."""
    all_runs = []
    for name, selection in config.selections.items():
        wanted = key(spark, config, name)
        done = runs.finished(spark, config.output, config.table(f"selected/{name}"), wanted)
        all_runs.append(done or _select(spark, config, name, selection, wanted))
    return all_runs


def scored_survivors(features: DataFrame, duplicates: DataFrame, config: Config, scorer: str) -> DataFrame:
    """Documents that were not removed and have text: doc_id, source, n_bytes, n_tokens, logit of `scorer`.

    With heads also best_benchmark, that of the highest head (the first one of equals).
    """
    survivors = features.join(duplicates.select(DOC_ID), on=DOC_ID, how="left_anti")
    heads = {name: F.col(schemas.logit_column(head)) for name, head in config.benchmark_scorers(scorer).items()}
    highest = F.array_max(F.array(*heads.values()))
    best = [F.coalesce(*[F.when(head == highest, F.lit(name)) for name, head in heads.items()]).alias(BEST_BENCHMARK)]
    columns = [logit_of(config, scorer).alias(LOGIT), *(best if heads else [])]
    return survivors.select(DOC_ID, SOURCE, N_BYTES, N_TOKENS, *columns).where(F.col(LOGIT).isNotNull())


def _select(spark: SparkSession, config: Config, name: str, selection: SelectionConfig, wanted: StageKey) -> StageRun:
    clock = StageTimer(wanted)
    features = delta.read(spark, config.table(schemas.FEATURES_TABLE))
    duplicates = delta.read(spark, config.table(schemas.DUPLICATES_TABLE))
    survivors = scored_survivors(features, duplicates, config, selection.scorer)
    ordered = with_order(survivors).persist()  # read for the total, each cut, and the kept rows
    kept = within_budget(ordered, selection.keep).persist()  # read for the bins, the totals, and the join
    try:
        size = [F.count("*").alias("n"), F.sum(N_TOKENS).alias("tokens"), F.sum(N_BYTES).alias("bytes")]
        all_rows, kept_rows = ordered.agg(*size).first(), kept.agg(*size).first()
        assert all_rows is not None
        assert kept_rows is not None
        n_kept = int(kept_rows["n"])
        selected = _with_text(spark, config, with_rank(kept), n_kept, int(kept_rows["bytes"] or 0))
        total, tokens = int(all_rows["tokens"] or 0), int(kept_rows["tokens"] or 0)
        n_features, n_removed = features.count(), duplicates.count()
        done = clock.done(
            rows_in=n_features,
            rows_out=n_kept,
            dropped={
                "duplicate": n_removed,
                "no_score": n_features - n_removed - int(all_rows["n"]),
                "below_cut": int(all_rows["n"]) - n_kept,
            },
            metrics={
                "survivor_tokens": total,
                "kept_tokens": tokens,
                "kept_fraction": tokens / total if total else 0.0,
            },
        )
        delta.overwrite(selected, config.table(f"selected/{name}"), user_metadata=done.to_json())
    finally:
        kept.unpersist()
        ordered.unpersist()
    runs.record(spark, config.output, done)
    return done


def _with_text(spark: SparkSession, config: Config, ranked: DataFrame, n_kept: int, n_bytes: int) -> DataFrame:
    """Join text and carried columns; files of about 256 MB in order of rank."""
    carried = [F.col(quoted(name)) for name in config.input.columns]
    documents = (
        InputSnapshot.scored(spark, config)
        .documents(carried=True)
        .where(F.col(REASON).isNull())
        .select(DOC_ID, TEXT, F.col(SOURCE).alias("source_of_copy"), *carried)
    )
    best = [BEST_BENCHMARK] if BEST_BENCHMARK in ranked.columns else []
    winners = ranked.select(DOC_ID, RANK, SOURCE, LOGIT, N_TOKENS, *best)
    if (
        config.input.id is None
    ):  # copies of a text are one document: the columns of one copy of the source that features has
        own = winners.select(DOC_ID, F.col(SOURCE).alias("source_in_features"))
        wanted = documents.join(own, on=DOC_ID, how="inner")
        other = ~F.col("source_of_copy").eqNullSafe(F.col("source_in_features"))
        order = F.struct(other, F.to_json(F.struct(*carried)) if carried else F.lit(""))
        documents = wanted.groupBy(DOC_ID).agg(F.min_by(F.struct(TEXT, *carried), order).alias("row"))
        documents = documents.select(DOC_ID, "row.*")
    joined = winners.join(documents, on=DOC_ID, how="left")
    lost = F.concat(F.lit(f"input.path: {config.input.path}: the text of a ranked document is gone: id "), DOC_ID)
    text = F.when(F.col(TEXT).isNotNull(), F.col(TEXT)).otherwise(F.raise_error(lost).cast("string"))
    parts = max(1, math.ceil(n_bytes / _FILE_BYTES))
    part = F.floor((F.col(RANK) - 1) * parts / max(1, n_kept)).cast("int")
    columns: list[str | Column] = [
        RANK,
        DOC_ID,
        text.alias(TEXT),
        SOURCE,
        *carried,
        score_of(F.col(LOGIT)).alias(SCORE),
        LOGIT,
        N_TOKENS,
        *best,
    ]
    return joined.repartitionById(parts, part).sortWithinPartitions(RANK).select(*columns)
