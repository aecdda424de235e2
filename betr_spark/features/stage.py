"""Stage `features`: the one pass as a Structured Streaming query, so that first run, resumed run and increment are one.

`_inputs` holds the files the query was last started for, and in its commit the checkpoint in use. New files under
the same settings go on with that checkpoint. Other settings, another scorer, or a file that was changed or taken away make
a new checkpoint, whose first batch replaces the table.
"""

import logging
import re
import uuid
from collections.abc import Callable
from typing import Any

from pyspark.errors import StreamingQueryException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from betr_spark import files, schemas, tables
from betr_spark.config import Config
from betr_spark.corpus.documents import check_unique, input_fingerprint, stream_documents
from betr_spark.corpus.input_schema import input_schema
from betr_spark.corpus.text import PREPARATION
from betr_spark.errors import BetrSparkError, DataError
from betr_spark.features.minhash import MinHasher
from betr_spark.features.one_pass import one_pass
from betr_spark.ranking.direct import direct_versions, with_direct_logits
from betr_spark.schemas import BATCH, DETAIL, DOC_ID, INPUT_FILE, REASON, ROW, SOURCE, TEXT
from betr_spark.scorer import artifact
from betr_spark.scorer.table import Banks, stack
from betr_spark.tables import Clock, StageKey, StageRun

_CHECKPOINTS = "_checkpoints/features"
_INPUTS = "_inputs"
# Delta's errors where a source's history cannot be followed by appends alone.
_CHANGED_SOURCE = (
    r"DELTA_SOURCE_TABLE_IGNORE_CHANGES|DELTA_SOURCE_IGNORE_DELETE|DIFFERENT_DELTA_TABLE|DELTA_SCHEMA_CHANGED|"
    r"FILE_NOT_EXIST|FILE_NOT_FOUND|FileNotFound|VERSION_NOT_FOUND|TRUNCATED_TRANSACTION_LOG|DELTA_LOG_FILE"
)
_logger = logging.getLogger(__name__)


def _settings_key(spark: SparkSession, config: Config) -> StageKey:
    """Key of all but the input's version: what a batch's rows depend on besides its documents."""
    mapping = config.input.model_dump(exclude={"columns", "max_batch_bytes"})
    scorers = {name: f"column {column}" for name, column in config.expressions().items()}
    scorers |= direct_versions(spark, config)
    for name in config.folded():
        about = artifact.describe(spark, config.table(f"scorers/{name}"))
        scorers[name] = about["sha256"] if about else "none"
    settings = {"input": mapping, "minhash": config.minhash, "scorers": scorers, "preparation": PREPARATION}
    return StageKey.of("features", settings)


def key(spark: SparkSession, config: Config) -> StageKey:
    """Key of the features table: settings, scorers, and the input's version."""
    settings = _settings_key(spark, config)
    return StageKey(
        stage=settings.stage, config=settings.config, input_versions={"input": input_fingerprint(spark, config.input)}
    )


def run(spark: SparkSession, config: Config) -> list[StageRun]:
    """Bring `features` and `quarantine` up to date with the input."""
    path = config.table(schemas.FEATURES_TABLE)
    wanted = key(spark, config)
    found = tables.finished(spark, config.output, path, wanted)
    if found and tables.exists(spark, config.table(schemas.QUARANTINE_TABLE)):
        return [found]
    clock = Clock(wanted)
    schema = input_schema(spark, config.input)
    folded = [artifact.load(spark, config.table(f"scorers/{name}"), name).table for name in config.folded()]
    transform = _transform(config, artifact.ship(spark, stack(folded)))
    settings_key = _settings_key(spark, config).key
    checkpoint = _checkpoint(spark, config, settings_key)
    try:
        rows_new = _follow(spark, config, schema, checkpoint, transform)
    except StreamingQueryException as error:
        if config.input.format != "delta" or not re.search(_CHANGED_SOURCE, str(error)):
            raise
        checkpoint = _checkpoint(spark, config, settings_key, why="rows of the source were changed or deleted")
        rows_new = _follow(spark, config, schema, checkpoint, transform)
    progress = _progress(spark, path, checkpoint)
    done = _summary(spark, config, clock, progress, rows_new)
    metadata = done.to_json(checkpoint=checkpoint, copies=progress["copies"], batch=progress["batch"])
    tables.mark(spark, path, name="features_key", value=wanted.key, user_metadata=metadata)
    tables.record(spark, config.output, done)
    for old in files.children(spark, config.table(_CHECKPOINTS)):
        if old != checkpoint:
            files.delete(spark, config.table(f"{_CHECKPOINTS}/{old}"))
    return [done]


def _follow(
    spark: SparkSession,
    config: Config,
    schema: StructType,
    checkpoint: str,
    transform: Callable[[DataFrame], DataFrame],
) -> int:
    """Take in all that the checkpoint has not seen; return its rows."""
    writer = _BatchWriter(config, checkpoint, transform)
    numbers = {schemas.logit_column(name): column for name, column in config.expressions().items()}
    query = (
        stream_documents(spark, config.input, schema, numbers=numbers)
        .select(DOC_ID, SOURCE, TEXT, REASON, DETAIL, ROW, INPUT_FILE, *numbers)
        .writeStream.foreachBatch(writer)
        .option("checkpointLocation", config.table(f"{_CHECKPOINTS}/{checkpoint}"))
        .trigger(availableNow=True)
        .start()
    )
    try:
        query.awaitTermination()
    except StreamingQueryException:
        if writer.error is not None:
            raise writer.error from None
        raise
    finally:
        query.stop()
    return writer.rows_new


def _transform(config: Config, banks: Callable[[], Banks]) -> Callable[[DataFrame], DataFrame]:
    sketch = MinHasher(**config.minhash.model_dump())
    schema = f"{schemas.features_schema(config.scored())}, {schemas.QUARANTINE}"
    run_pass = one_pass(sketch, config.folded(), banks, numbers=[*config.direct(), *config.expressions()])
    return lambda documents: with_direct_logits(documents, config).mapInArrow(run_pass, schema)


class _BatchWriter:
    """foreachBatch: features and quarantine of one batch, each one idempotent commit; keeps the error that stopped it."""

    def __init__(self, config: Config, checkpoint: str, transform: Callable[[DataFrame], DataFrame]) -> None:
        self._config, self._checkpoint, self._transform = config, checkpoint, transform
        self.error: BetrSparkError | None = None
        self.rows_new = 0

    def __call__(self, documents: DataFrame, batch: int) -> None:
        """Write one batch."""
        computed = self._transform(documents).persist()  # counted, checked, and written to two tables
        try:
            self._write(computed, batch)
        except BetrSparkError as error:
            self.error = error
            raise
        finally:
            computed.unpersist()

    def _write(self, computed: DataFrame, batch: int) -> None:
        spark, config = computed.sparkSession, self._config
        path = config.table(schemas.FEATURES_TABLE)
        good = computed.where(F.col(REASON).isNull()).drop(REASON, DETAIL, ROW)
        good = good.withColumn(BATCH, F.lit(batch).cast("bigint"))
        bad = computed.where(F.col(REASON).isNotNull()).select(REASON, DETAIL, ROW, INPUT_FILE)
        before = _progress(spark, path, self._checkpoint) if batch else {"rows_in": 0, "copies": 0, "batch": -1}
        if before["batch"] >= batch:  # committed before the process died: only what follows it is left to do
            self._commit(bad, config.table(schemas.QUARANTINE_TABLE), batch, before)
            return
        n_rows, n_good = computed.agg(F.count("*"), F.sum(F.col(REASON).isNull().cast("bigint"))).first() or (0, 0)
        n_good = n_good or 0
        self.rows_new += n_rows
        known = tables.read(spark, path).select(DOC_ID) if batch else None
        if config.input.id is None:
            good = good.groupBy(DOC_ID).agg(
                F.min_by(F.struct(*good.columns), F.struct(F.coalesce(SOURCE, F.lit("")), INPUT_FILE)).alias("row")
            )
            good = good.select("row.*")
            good = good if known is None else good.join(known, on=DOC_ID, how="left_anti")
            copies = n_good - good.count()
        else:
            copies = 0
            ids = good.select(DOC_ID)
            repeated = ids if known is None else ids.unionByName(known.join(ids, on=DOC_ID, how="left_semi"))
            check_unique(repeated, f"input.path: {config.input.path}")
        progress = {"rows_in": before["rows_in"] + n_rows, "copies": before["copies"] + copies, "batch": batch}
        self._commit(good, path, batch, progress)
        self._commit(bad, config.table(schemas.QUARANTINE_TABLE), batch, progress)

    def _commit(self, rows: DataFrame, path: str, batch: int, progress: dict[str, int]) -> None:
        write = tables.append if batch else tables.overwrite
        metadata = {**progress, "checkpoint": self._checkpoint}
        write(rows, path, user_metadata=tables.to_json(metadata), transaction=(self._checkpoint, batch))


def _progress(spark: SparkSession, path: str, checkpoint: str) -> dict[str, int]:
    """Counts so far, from the newest batch's or summary's commit of this checkpoint."""
    for commit in tables.commits(spark, path):
        found = tables.as_object(commit.user_metadata)
        if found.get("checkpoint") == checkpoint:
            return {name: int(found[name]) for name in ("rows_in", "copies", "batch")}
    raise DataError(f"{path}: no commit of checkpoint {checkpoint}; delete the output's _checkpoints to start anew")


def _checkpoint(spark: SparkSession, config: Config, settings_key: str, why: str | None = None) -> str:
    """Name of the checkpoint to go on with, or of a new one (with `why`, always); written down before the query starts."""
    path, features = config.table(_INPUTS), config.table(schemas.FEATURES_TABLE)
    names = ["file", "n_bytes", "modified"]
    if config.input.format == "delta":
        # One row, since Delta records no commit, nor its userMetadata, that changes nothing.
        current = spark.range(1).select(
            F.lit(tables.table_id(spark, config.input.path)).alias("file"),
            F.lit(0).cast("bigint").alias("n_bytes"),
            F.lit(0).cast("timestamp").alias("modified"),
        )
    else:
        current = files.listing(spark, config.input.path)
    newest = tables.newest_commit(spark, path)
    last: dict[str, Any] = tables.as_object(newest.user_metadata) if newest else {}

    def committed(checkpoint: str) -> bool:
        found = (tables.as_object(commit.user_metadata) for commit in tables.commits(spark, features))
        return any(about.get("checkpoint") == checkpoint for about in found)

    name = last.get("checkpoint")
    if why is not None:
        pass
    elif name is None or last.get("settings_key") != settings_key:
        why = "other settings, input path or scorer"
    elif tables.read(spark, path).join(current, on=names, how="left_anti").take(1):
        why = "an input file was changed or taken away"
    elif _has(spark, config, name, "commits") and not committed(name):
        why = "the features table is not the one of the checkpoint"
    elif committed(name) and not _has(spark, config, name, "offsets"):
        why = "the checkpoint is gone"
    elif newest and not tables.exists(spark, config.table(schemas.QUARANTINE_TABLE)):
        why = "the table of quarantined rows is gone"
    if why is not None:
        name = f"{settings_key[:16]}-{uuid.uuid4().hex[:8]}"  # one that no commit of `features` has
        if newest:
            _logger.info("features: %s, the whole input is read again", why)
    metadata = tables.to_json({"settings_key": settings_key, "checkpoint": name})
    tables.overwrite(current, path, user_metadata=metadata)
    return str(name)


def _has(spark: SparkSession, config: Config, checkpoint: str, what: str) -> bool:
    return bool(files.children(spark, config.table(f"{_CHECKPOINTS}/{checkpoint}/{what}")))


def _summary(spark: SparkSession, config: Config, clock: Clock, progress: dict[str, int], rows_new: int) -> StageRun:
    features = tables.read(spark, config.table(schemas.FEATURES_TABLE))
    totals = features.agg(F.count("*").alias("n"), *[F.sum(c).alias(c) for c in ("n_bytes", "n_tokens")]).first()
    assert totals is not None
    quarantined = tables.read(spark, config.table(schemas.QUARANTINE_TABLE)).groupBy(REASON)
    dropped = {row[REASON]: row["count"] for row in quarantined.count().collect()}  # one row a reason
    if progress["copies"]:
        dropped["copies"] = progress["copies"]
    metrics = {f"{name}": float(totals[name] or 0) for name in ("n_bytes", "n_tokens")}
    metrics["rows_new"] = float(rows_new)
    return clock.done(rows_in=progress["rows_in"], rows_out=totals["n"], dropped=dropped, metrics=metrics)
