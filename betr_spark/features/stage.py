"""Stage `features`: the one pass as a Structured Streaming query, so that first run, resumed run and increment are one.

`_inputs` holds the files the query was last started for, and in its commit the checkpoint in use. New files under
the same settings go on with that checkpoint. Other settings, another scorer, or a file that was changed or taken away make
a new checkpoint, whose first batch replaces the table.
"""

import logging
import re
from collections.abc import Callable

from pyspark.errors import StreamingQueryException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from betr_spark import schemas
from betr_spark.config import Config
from betr_spark.corpus.snapshot import InputSnapshot
from betr_spark.features.batch_writer import BatchWriter
from betr_spark.features.checkpoint import CHECKPOINTS, choose_checkpoint, progress_of
from betr_spark.features.one_pass import one_pass
from betr_spark.kernels.minhash import MinHasher
from betr_spark.kernels.text_preparation import PREPARATION
from betr_spark.ranking.direct import direct_versions, with_direct_logits
from betr_spark.schemas import DETAIL, DOC_ID, INPUT_FILE, REASON, ROW, SOURCE, TEXT
from betr_spark.scoring import artifact
from betr_spark.scoring.ngram_table import SharedTables, stack
from betr_spark.storage import delta, hadoop_files, runs
from betr_spark.storage.runs import StageKey, StageRun, StageTimer

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
        stage=settings.stage,
        config=settings.config,
        input_versions={"input": InputSnapshot.current(spark, config).version},
    )


def run(spark: SparkSession, config: Config) -> list[StageRun]:
    """Bring `features` and `quarantine` up to date with the input."""
    path = config.table(schemas.FEATURES_TABLE)
    wanted = key(spark, config)
    found = runs.finished(spark, config.output, path, wanted)
    if found and delta.exists(spark, config.table(schemas.QUARANTINE_TABLE)):
        return [found]
    clock = StageTimer(wanted)
    snapshot = InputSnapshot.current(spark, config)
    folded = [artifact.load(spark, config.table(f"scorers/{name}"), name).table for name in config.folded()]
    transform = _transform(config, artifact.ship(spark, stack(folded)))
    settings_key = _settings_key(spark, config).key
    checkpoint = choose_checkpoint(spark, config, settings_key)
    try:
        rows_new = _follow(snapshot, config, checkpoint, transform)
    except StreamingQueryException as error:
        if config.input.format != "delta" or not re.search(_CHANGED_SOURCE, str(error)):
            raise
        checkpoint = choose_checkpoint(spark, config, settings_key, why="rows of the source were changed or deleted")
        rows_new = _follow(snapshot, config, checkpoint, transform)
    progress = progress_of(spark, path, checkpoint)
    done = _summary(spark, config, clock, progress, rows_new)
    metadata = done.to_json(checkpoint=checkpoint, copies=progress["copies"], batch=progress["batch"])
    delta.mark(spark, path, name="features_key", value=wanted.key, user_metadata=metadata)
    runs.record(spark, config.output, done)
    for old in hadoop_files.children(spark, config.table(CHECKPOINTS)):
        if old != checkpoint:
            hadoop_files.delete(spark, config.table(f"{CHECKPOINTS}/{old}"))
    return [done]


def _follow(
    snapshot: InputSnapshot,
    config: Config,
    checkpoint: str,
    transform: Callable[[DataFrame], DataFrame],
) -> int:
    """Take in all that the checkpoint has not seen; return its rows."""
    writer = BatchWriter(config, checkpoint, transform)
    numbers = [schemas.logit_column(name) for name in config.expressions()]
    query = (
        snapshot.stream()
        .select(DOC_ID, SOURCE, TEXT, REASON, DETAIL, ROW, INPUT_FILE, *numbers)
        .writeStream.foreachBatch(writer)
        .option("checkpointLocation", config.table(f"{CHECKPOINTS}/{checkpoint}"))
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


def _transform(config: Config, shared_tables: Callable[[], SharedTables]) -> Callable[[DataFrame], DataFrame]:
    sketch = MinHasher(**config.minhash.model_dump())
    schema = f"{schemas.features_schema(config.scored())}, {schemas.QUARANTINE}"
    run_pass = one_pass(sketch, config.folded(), shared_tables, numbers=[*config.direct(), *config.expressions()])
    return lambda documents: with_direct_logits(documents, config).mapInArrow(run_pass, schema)


def _summary(
    spark: SparkSession, config: Config, clock: StageTimer, progress: dict[str, int], rows_new: int
) -> StageRun:
    totals = (
        delta.read(spark, config.table(schemas.FEATURES_TABLE))
        .agg(F.count("*").alias("n"), *[F.sum(c).alias(c) for c in ("n_bytes", "n_tokens")])
        .first()
    )
    assert totals is not None
    quarantined = delta.read(spark, config.table(schemas.QUARANTINE_TABLE)).groupBy(REASON)
    dropped = {row[REASON]: row["count"] for row in quarantined.count().collect()}  # one row a reason
    if progress["copies"]:
        dropped["copies"] = progress["copies"]
    metrics = {f"{name}": float(totals[name] or 0) for name in ("n_bytes", "n_tokens")}
    metrics["rows_new"] = float(rows_new)
    return clock.done(rows_in=progress["rows_in"], rows_out=totals["n"], dropped=dropped, metrics=metrics)
