"""Stage `decontaminate`: test items of benchmarks in the documents of `features`; table `contamination`.

The pass of `features` finds them in new documents (`_test_items`). Other test files or settings have all documents looked at
here, which computes no features.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from betr_spark import schemas
from betr_spark.config import Config, DecontaminateConfig
from betr_spark.contamination.common import with_action
from betr_spark.contamination.detection import contaminated, contaminated_texts, ship_index
from betr_spark.contamination.index import Index, build_index
from betr_spark.contamination.test_files import item_problems, looked_for_by, read_items, search_key
from betr_spark.corpus.listing import files_of
from betr_spark.errors import DataError
from betr_spark.pipeline.stage import Result, RunContext, Stage
from betr_spark.schemas import (
    ACTION,
    BATCH,
    BENCHMARK,
    DOC_ID,
    IGNORED,
    ITEM,
    LONGEST_MATCH,
    LOOKED_FOR,
    REASON,
    TEXT,
)
from betr_spark.spark.jobs import describe
from betr_spark.storage import delta, runs
from betr_spark.storage.runs import Metrics, StageKey, StageRun
from betr_spark.targets.choice import parts_of
from betr_spark.targets.examples import examples_of
from betr_spark.targets.reading import read_content

_logger = logging.getLogger(__name__)
_ROWS_IN_TASK = 2**20  # that one task sorts and writes


@dataclass(frozen=True, kw_only=True)
class DecontaminateMetrics(Metrics):
    """Test items, and those that are not looked for; new documents; documents and items of the table.

    `documents_new` are those that no run has looked at for these items. The texts of `documents_read` of them were read for it,
    because the pass of `features` had looked for other items. `rows_ignored` have the action `ignored`.
    """

    items: int
    items_without_words: int
    items_without_answer: int
    documents_new: int
    documents_read: int
    documents_contaminated: int
    items_found: int
    rows_ignored: int


class _LookedAt(NamedTuple):
    """Up to where a run has looked: the checkpoint of `features`, its last batch, and a digest of what was looked for."""

    checkpoint: str
    batch: int
    items: str


class Decontaminate(Stage):
    """Looks for test items in documents."""

    def __init__(self) -> None:
        """Name the stage."""
        super().__init__("decontaminate")

    def outputs(self, config: Config) -> Sequence[str]:
        """`contamination`."""
        return [config.table(schemas.CONTAMINATION_TABLE)]

    def key(self, context: RunContext) -> StageKey:
        """The settings, the test files, and the features."""
        spark, config = context.spark, context.config
        settings = {**search_key(spark, config), **_settings(config).model_dump(include={"action", "common"})}
        features = runs.input_version(spark, config.table(schemas.FEATURES_TABLE))
        return StageKey.of(self.name, settings, features=features)

    def problems(self, context: RunContext) -> Iterator[str]:
        """Whatever is wrong with the test files and their templates."""
        yield from item_problems(context.spark, context.config)

    @contextmanager
    def build(self, context: RunContext, key: StageKey) -> Iterator[Result]:  # noqa: ARG002 - part of the protocol
        """Look at the documents that no run has looked at for these items.

        Raises:
            DataError: `features` does not exist, or a file that it scored was changed or deleted.
        """
        spark, config, settings = context.spark, context.config, _settings(context.config)
        (path,) = self.outputs(config)
        features = delta.read(spark, config.table(schemas.FEATURES_TABLE))
        items = read_items(spark, config)
        looked_at = _LookedAt(*_newest_batch(spark, config), StageKey.of(self.name, search_key(spark, config)).key)
        before = _before(spark, path, looked_at)
        index = build_index(items, n_min=settings.ngram[0], n_max=settings.ngram[1])
        _warn_of_targets(spark, config, index)
        with context.scratch("decontaminate") as materialise:
            describe(spark, "decontaminate: find new documents")
            new = features if before is None else features.where(F.col(BATCH) > before)
            found, batches = _found_by_pass(spark, config, looked_at.checkpoint)
            to_read = new.join(batches, on=BATCH, how="left_anti")
            n_new, n_read = new.count(), to_read.count()
            rows = found.join(new.select(DOC_ID), on=DOC_ID, how="left_semi")
            if n_read:
                describe(spark, "decontaminate: read texts")
                texts = _texts(to_read, context)
                read = contaminated(texts, ship_index(spark, index), min_coverage=settings.min_coverage)
                rows = rows.unionByName(read)
            rows = materialise(rows.dropDuplicates([DOC_ID, BENCHMARK, ITEM]))  # copies of a text have the same id
            if before is not None:
                earlier = delta.read(spark, path).drop(ACTION).join(features, on=DOC_ID, how="left_semi")
                rows = rows.unionByName(earlier)
            rows = materialise(with_action(rows, settings.action, common=settings.common))
            counted = rows.where(F.col(ACTION) != IGNORED)
            sums = [F.count("*"), F.countDistinct(DOC_ID), F.countDistinct(BENCHMARK, ITEM)]
            n_counted, n_documents, n_items = counted.agg(*sums).head() or (0, 0, 0)
            n_rows = rows.count()
            if n_rows > n_counted:
                _warn_of_ignored_items(rows, settings.common)
            order = [DOC_ID, BENCHMARK, ITEM]
            table = rows.repartitionByRange(n_rows // _ROWS_IN_TASK + 1, *order).sortWithinPartitions(*order)
            yield Result(
                rows_in=features.count(),
                rows_out=n_rows,
                metrics=DecontaminateMetrics(
                    items=len(items), items_without_words=index.n_without_words,
                    items_without_answer=index.n_without_answer, documents_new=n_new, documents_read=n_read,
                    documents_contaminated=n_documents, items_found=n_items, rows_ignored=n_rows - n_counted,
                ),
                commit=lambda run: delta.overwrite(
                    table, path, user_metadata=run.to_json(**looked_at._asdict())
                ),
            )  # fmt: skip

    def summary(self, run: StageRun) -> list[str]:
        """How many documents have a test item."""
        metrics = run.metrics_as(DecontaminateMetrics)
        counts = (
            f"{run.rows_in} documents, {metrics.documents_contaminated:.0f} of them with {metrics.items_found:.0f} of "
        )
        counts += f"{metrics.items:.0f} test items"
        lines = [f"decontaminate: {counts}; {'skipped, up to date' if run.skipped else f'{run.seconds:.1f} s'}"]
        if short := metrics.items_without_answer:
            lines.append(f"  {short:.0f} items of few words are not looked for: they have no `question` and `answer`")
        if ignored := metrics.rows_ignored:
            lines.append(
                f"  {ignored:.0f} rows are ignored: more than `decontaminate.common` documents have each of their n-grams"
            )
        return lines


def _settings(config: Config) -> DecontaminateConfig:
    assert config.decontaminate is not None
    return config.decontaminate


def _warn_of_targets(spark: SparkSession, config: Config, index: Index) -> None:
    """Warn of training examples that contain test items: a selection by them finds the items."""
    for name, target in config.targets.items():
        examples = parts_of(name, target, examples_of(name, target, read_content(spark, target.path))).train
        texts = [example.text for example in examples]
        found = contaminated_texts(texts, index, min_coverage=_settings(config).min_coverage)
        if found:
            row, n_examples = found[0], len({row[DOC_ID] for row in found})
            _logger.warning(
                "targets.%s: %d of %d examples contain test items, for example example %d, item %d of %s (%d words in a row)",
                name, n_examples, len(examples), examples[int(row[DOC_ID])].row + 1, row[ITEM] + 1, row[BENCHMARK],
                row[LONGEST_MATCH],
            )  # fmt: skip


def _warn_of_ignored_items(rows: DataFrame, common: int | None) -> None:
    """Warn of items that no document contains any more, because too many have each n-gram: they may be leaks of many copies."""
    by_item = rows.groupBy(BENCHMARK, ITEM).agg(F.every(F.col(ACTION) == IGNORED).alias(IGNORED))
    ignored = by_item.where(IGNORED).orderBy(BENCHMARK, ITEM)
    if first := ignored.head():
        _logger.warning(
            "decontaminate.common: %d items are ignored wherever they occur, for example item %d of %s: more than %d documents"
            " have each n-gram", ignored.count(), first[ITEM] + 1, first[BENCHMARK], common,
        )  # fmt: skip


def _newest_batch(spark: SparkSession, config: Config) -> tuple[str, int]:
    """The checkpoint of `features` and the number of its newest batch."""
    newest = delta.newest_commit(spark, config.table(schemas.FEATURES_TABLE))
    about = delta.as_object(newest.user_metadata if newest else None)
    return str(about.get("checkpoint", "")), int(about.get("batch", -1))


def _before(spark: SparkSession, path: str, now: _LookedAt) -> int | None:
    """The last batch that was looked at for the same items; None if all documents have to be looked at."""
    newest = delta.newest_commit(spark, path) if delta.exists(spark, path) else None
    about = delta.as_object(newest.user_metadata if newest else None)
    same = (about.get("checkpoint"), about.get("items")) == (now.checkpoint, now.items)
    batch = about.get("batch")
    return batch if same and isinstance(batch, int) and batch <= now.batch else None


def _found_by_pass(spark: SparkSession, config: Config, checkpoint: str) -> tuple[DataFrame, DataFrame]:
    """Rows of the documents in which the pass of `features` found these items, and the batches that it looked at for them."""
    path = config.table(schemas.FOUND_TABLE)
    if not delta.exists(spark, path):
        return spark.createDataFrame([], schemas.CONTAMINATION), spark.createDataFrame([], f"{BATCH} bigint")
    found = delta.read(spark, path).where(F.col(LOOKED_FOR) == looked_for_by(spark, config, checkpoint))
    rows = spark.createDataFrame([], schemas.CONTAMINATION).unionByName(  # an older table has not all columns
        found.where(F.col(DOC_ID).isNotNull()).drop(BATCH, LOOKED_FOR), allowMissingColumns=True
    )
    return rows, found.where(F.col(DOC_ID).isNull()).select(BATCH)


def _texts(documents: DataFrame, context: RunContext) -> DataFrame:
    """Read the texts of documents of `features`, from their files alone: doc_id, text."""
    source = context.config.input
    files = None if source.id is None else files_of(documents, source)  # a copy of a text may be in any file
    texts = context.scored_input().documents(only_files=files).where(F.col(REASON).isNull()).select(DOC_ID, TEXT)
    return texts.join(documents.select(DOC_ID), on=DOC_ID, how="left_semi")


def require_current(context: RunContext) -> None:
    """Raise DataError if documents with test items are dropped and some documents were not looked at for them."""
    config = context.config
    if config.drops_contaminated() and not Decontaminate().is_current(context):
        path = config.table(schemas.CONTAMINATION_TABLE)
        raise DataError(f"{path}: is missing or not up to date; run `betr-spark decontaminate`")


def stages(config: Config) -> list[Stage]:
    """The stage, if the configuration has `decontaminate`."""
    return [Decontaminate()] if config.decontaminate is not None else []
