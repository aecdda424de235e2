"""Stage `features`: the one pass as a Structured Streaming query, so that first run, resumed run and increment are one.

`_inputs` lists the files that were scored, and its commit names the checkpoint. New files under the same settings continue with
that checkpoint. Other settings, another scorer, or a file that was changed or deleted start a new checkpoint, whose first batch
replaces the table. Each commit of `features` names the state of the input that it scored: later stages read text from there.
"""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from py4j.protocol import Py4JJavaError
from pyspark.errors.exceptions.captured import CapturedException
from pyspark.sql import DataFrame
from pyspark.sql import types as T

from betr_spark import schemas
from betr_spark.config import Config
from betr_spark.contamination.detection import ship_finder
from betr_spark.contamination.test_files import looked_for_by
from betr_spark.corpus.parquet_texts import TEXT_ROW, why_texts_not_read
from betr_spark.corpus.scored_state import INPUTS_TABLE, scored_state
from betr_spark.errors import BetrSparkError
from betr_spark.features.batch_writer import BatchWriter
from betr_spark.features.checkpoint import CHECKPOINTS, Checkpoint, choose_checkpoint, is_damage, progress_of
from betr_spark.features.input_state import InputState
from betr_spark.features.outcome import FeaturesMetrics, Written, result_of
from betr_spark.features.token_counter import require_tokenizers
from betr_spark.features.tokenizer_file import check_tokenizer, ship_counter, token_settings
from betr_spark.features.transform import transform_of
from betr_spark.kernels.text_preparation import PREPARATION
from betr_spark.pipeline.stage import Result, RunContext, Stage
from betr_spark.ranking.direct import direct_versions
from betr_spark.schemas import DETAIL, DOC_ID, INPUT_FILE, N_LM_TOKENS, REASON, ROW, SOURCE, TEXT
from betr_spark.scoring import artifact
from betr_spark.scoring.ngram_table import stack
from betr_spark.spark.error_messages import problems_of
from betr_spark.spark.jobs import describe
from betr_spark.storage import delta, hadoop_files, runs
from betr_spark.storage.runs import StageKey, StageRun

_logger = logging.getLogger(__name__)


def _settings_key(context: RunContext) -> StageKey:
    """Key of all but the input's version: what a batch's rows depend on besides its documents."""
    spark, config = context.spark, context.config
    mapping = config.input.model_dump(exclude={"columns", "max_batch_bytes", "tokens"})
    if tokens := token_settings(spark, config.input.tokens):
        mapping["tokens"] = tokens
    scorers = {name: f"column {column}" for name, column in config.expressions().items()}
    scorers |= direct_versions(context)
    for name in config.folded():
        about = artifact.describe(spark, config.table(f"scorers/{name}"))
        scorers[name] = about["sha256"] if about else "none"
    settings = {"input": mapping, "minhash": config.minhash, "scorers": scorers, "preparation": PREPARATION}
    if scale := _scale_of_ids(context):
        settings["id_scale"] = scale
    return StageKey.of("features", settings)


def _scale_of_ids(context: RunContext) -> int:
    """Digits after the point of decimal ids: in a file with more of them, the ids of all files are spelled with as many."""
    column = context.input.used.id
    kind = context.input.columns[column.path].kind if column else None
    return kind.scale if isinstance(kind, T.DecimalType) else 0


class Features(Stage):
    """The one pass over the text."""

    def __init__(self) -> None:
        """Name the stage."""
        super().__init__("features")

    def outputs(self, config: Config) -> Sequence[str]:
        """`features` and `quarantine`, and the list of the files that were scored."""
        return [config.table(name) for name in (schemas.FEATURES_TABLE, schemas.QUARANTINE_TABLE, INPUTS_TABLE)]

    def key(self, context: RunContext) -> StageKey:
        """Settings, scorers, and the input's version."""
        settings = _settings_key(context)
        versions = {"input": context.input.version}
        return StageKey(stage=settings.stage, config=settings.config, input_versions=versions)

    def problems(self, context: RunContext) -> Iterator[str]:
        """Whatever is wrong with the input's files and columns, and with the tokenizer."""
        yield from problems_of(lambda: context.input)
        yield from problems_of(lambda: check_tokenizer(context.spark, context.config.input.tokens))

    def requirements(self, context: RunContext) -> Iterator[str]:
        """The package `tokenizers`, if there is a tokenizer."""
        if context.config.input.tokens.tokenizer is not None:
            yield from problems_of(lambda: require_tokenizers("input.tokens"))

    def estimate(self, context: RunContext) -> str | None:
        """From the last run's rate: for new files, or for all of them where settings or scorers changed.

        None for a Delta source, and with a direct scorer, whose key exists after `rank` alone.
        """
        last_run = None if context.config.direct() else self.made_by(context)
        read = last_run.metrics_as(FeaturesMetrics).rows_new if last_run else None
        before = hadoop_files.bytes_of(last_run.input_versions.get("input", "")) if last_run else 0
        if last_run is None or not read or not before:
            return None
        n_bytes, what = hadoop_files.bytes_of(context.input.version), "MB to read"
        if _settings_key(context).config == last_run.config and n_bytes > before:
            n_bytes, what = n_bytes - before, "MB of new files"
        seconds = last_run.seconds / read * last_run.rows_in * n_bytes / before
        return f"about {seconds:.0f} s for {n_bytes / 1e6:,.1f} {what}, at the last run's rate"

    @contextmanager
    def build(self, context: RunContext, key: StageKey) -> Iterator[Result]:
        """Follow the input from the checkpoint on; each batch is a commit, the last commit has the record of the run."""
        spark, config = context.spark, context.config
        path = config.table(schemas.FEATURES_TABLE)
        folded = [artifact.load(spark, config.table(f"scorers/{name}"), name).table for name in config.folded()]
        counter = ship_counter(spark, config.input.tokens)
        finder = ship_finder(spark, config)
        # A join with logits loses the order of rows; `_test_items` and `quarantine` are written from one evaluation.
        texts = None if config.direct() or finder is not None else context.input.text_column()
        transform = transform_of(config, artifact.ship(spark, stack(folded)), counter, finder, texts)
        settings_key = _settings_key(context).key
        checkpoint = choose_checkpoint(context.input, config, settings_key)
        try:
            followed = _follow(context, checkpoint, transform, by_row=texts is not None)
        except _CannotFollowError as error:
            checkpoint = choose_checkpoint(context.input, config, settings_key, why=str(error))
            followed = _follow(context, checkpoint, transform, by_row=texts is not None)
        progress = progress_of(spark, path, checkpoint.name)
        state = followed.input_state.at_end(scored_state(spark, config))

        def commit(run: StageRun) -> None:
            counts = {name: progress[name] for name in ("copies", "forgotten", "batch")}
            metadata = run.to_json(checkpoint=checkpoint.name, **counts, **state.to_metadata())
            delta.mark(spark, path, name="features_key", value=key.key, user_metadata=metadata)
            for old in hadoop_files.children(spark, config.table(CHECKPOINTS)):
                if old != checkpoint.name:
                    hadoop_files.delete(spark, config.table(f"{CHECKPOINTS}/{old}"))

        yield result_of(spark, config, progress, followed.written, commit)

    def summary(self, run: StageRun) -> list[str]:
        """With the number of new rows, and the rate that tokens are estimated with."""
        metrics, lines = run.metrics_as(FeaturesMetrics), super().summary(run)
        if metrics.rows_new and not run.skipped:
            lines = [line.replace(" in,", f" in ({metrics.rows_new:.0f} new),", 1) for line in lines]
        lines += metrics.rate_lines()
        return lines


class _CannotFollowError(Exception):
    """Why a checkpoint cannot be continued with."""


class _Followed(NamedTuple):
    """What a query has written, and the state of the input after its batches."""

    written: Written
    input_state: InputState


def _follow(
    context: RunContext, checkpoint: Checkpoint, transform: Callable[[DataFrame], DataFrame], *, by_row: bool,
    written: Written | None = None,
) -> _Followed:  # fmt: skip
    """Take in all that the checkpoint has not seen; `by_row` as in `InputSnapshot.stream`, as long as Arrow reads the files.

    `written` is what this run has written before.
    """
    config = context.config
    input_state = InputState(context.input, config, checkpoint)
    begin = _batch_announcer(context, checkpoint)
    looked_for = looked_for_by(context.spark, config, checkpoint.name)
    writer = BatchWriter(
        config, checkpoint.name, input_state, transform, begin, context.check_lease, looked_for, written
    )
    numbers = [schemas.logit_column(name) for name in config.expressions()]
    numbers += [] if config.input.tokens.column is None else [N_LM_TOKENS]
    of_text = [TEXT_ROW] if by_row else [TEXT, DETAIL, ROW]
    query = (
        context.input.stream(by_row=by_row)
        .select(DOC_ID, SOURCE, *of_text, REASON, INPUT_FILE, *numbers)
        .writeStream.foreachBatch(writer)
        .option("checkpointLocation", config.table(f"{CHECKPOINTS}/{checkpoint.name}"))
        .trigger(availableNow=True)
    )
    try:
        started = query.start()
        try:
            started.awaitTermination()
        finally:
            started.stop()
    except (CapturedException, Py4JJavaError) as error:
        if isinstance(writer.error, BetrSparkError):
            raise writer.error from None
        if by_row and (reason := why_texts_not_read(writer.error)):
            _logger.info("features: Spark reads the texts, because Arrow cannot: %s", reason)
            return _follow(context, checkpoint, transform, by_row=False, written=writer.written)
        if why := _why_from_scratch(error, writer, checkpoint, config):
            raise _CannotFollowError(why) from error
        raise error from writer.error  # the query's own error does not have it as a cause
    return _Followed(writer.written, input_state)


def _why_from_scratch(error: BaseException, writer: BatchWriter, checkpoint: Checkpoint, config: Config) -> str | None:
    if checkpoint.is_new:
        return None
    if config.input.format == "delta" and delta.cannot_follow(error, writer.error):
        return "rows or columns of the source were changed or deleted"
    return "the checkpoint is damaged" if not writer.called and is_damage(error) else None


def _batch_announcer(context: RunContext, checkpoint: Checkpoint) -> Callable[[int], None]:
    """Return a function that describes Spark's jobs of a batch and shows it; of how many is estimated from the files' sizes."""
    last_run = None if checkpoint.is_new else runs.made_by(context.spark, context.config.table(schemas.FEATURES_TABLE))
    before = hadoop_files.bytes_of(last_run.input_versions.get("input", "")) if last_run else 0
    n_bytes = hadoop_files.bytes_of(context.input.version) - before  # 0 of a Delta table, whose version has no size
    expected = math.ceil(max(0, n_bytes) / context.config.input.max_batch_bytes)
    first: list[int] = []

    def begin(batch: int) -> None:
        first.append(batch)
        number = batch - first[0]
        of = f" of {expected}" if number < expected else ""
        describe(context.spark, f"features: score batch {number + 1}{of}")
        if context.progress and expected:
            context.progress.part(number, expected)

    return begin
