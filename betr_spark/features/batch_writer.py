"""Writes the micro-batches of `features`: the pass is evaluated once, and each table has one idempotent commit."""

import math
from collections.abc import Callable, Mapping

from pyspark.sql import Column, DataFrame, Observation
from pyspark.sql import functions as F

from betr_spark import schemas
from betr_spark.config import Config
from betr_spark.corpus.documents import check_unique
from betr_spark.corpus.tombstones import tombstones, without_forgotten
from betr_spark.features.checkpoint import progress_if_any, progress_of
from betr_spark.features.input_state import InputState
from betr_spark.features.outcome import Written
from betr_spark.schemas import (
    BATCH,
    CONTENT_HASH,
    DETAIL,
    DOC_ID,
    INPUT_FILE,
    LOOKED_FOR,
    N_BYTES,
    N_LM_TOKENS,
    N_TOKENS,
    REASON,
    ROW,
    SIGNATURE,
    SOURCE,
    TEST_ITEMS,
    TEXT,
)
from betr_spark.spark.small_frames import small_frame
from betr_spark.storage import delta
from betr_spark.storage.staged_rows import staged

_NOTHING = {"rows_in": 0, "copies": 0, "forgotten": 0, "batch": -1}
_FORGOTTEN, _KEY, _ROW = "betr_spark_forgotten", "betr_spark_key", "betr_spark_row"
_ROWS, _FORGOTTEN_ROWS, _BAD, _GOOD = "n_rows", "n_forgotten", "n_bad", "n_good"
WITHOUT_DICTIONARY = (DOC_ID, CONTENT_HASH, SIGNATURE)
STATISTICS = (DOC_ID, BATCH)  # those of hashes and signatures are of no use, and cost time and log


class BatchWriter:
    """foreachBatch: writes one batch; keeps the error that stopped it.

    The files of `features` are written first, and counted while they are written. Ids and input files are checked in what was
    written. Then one commit adds the files, with the counts so far. Rows for `quarantine` are found by a second look at the
    input, without the pass, and only if the batch has any. A pass that looks for test items is kept, because they are written
    to a table of their own.
    """

    def __init__(
        self, config: Config, checkpoint: str, input_state: InputState, transform: Callable[[DataFrame], DataFrame],
        begin: Callable[[int], None], before_commit: Callable[[], None], looked_for: str = "", written: Written | None = None,
    ) -> None:  # fmt: skip
        self._config, self._checkpoint, self._transform = config, checkpoint, transform
        self._begin, self._before_commit = begin, before_commit
        self._input_state, self._looked_for = input_state, looked_for
        self.called = False
        self.error: Exception | None = None
        self.written = written or Written()

    def __call__(self, documents: DataFrame, batch: int) -> None:
        """Write one batch."""
        self.called = True
        self._begin(batch)
        computed = self._transform(documents)
        finds_items = TEST_ITEMS in computed.columns
        if finds_items:
            computed.persist()  # written to `features`, `quarantine` and `_test_items`

        def bad_rows() -> DataFrame:
            if finds_items:
                return computed
            rows = documents if TEXT in documents.columns else self._input_state.again(batch)
            # the only reason that the pass adds is that of texts that are not UTF-8
            return self._transform(rows.where(F.col(REASON).isNotNull() | ~F.is_valid_utf8(TEXT)))

        try:
            self._write(computed, bad_rows, batch)
        except Exception as error:
            self.error = error
            raise
        finally:
            if finds_items:
                computed.unpersist()

    def _write(self, computed: DataFrame, bad_rows: Callable[[], DataFrame], batch: int) -> None:
        spark, config = computed.sparkSession, self._config
        path = config.table(schemas.FEATURES_TABLE)
        progress: Mapping[str, str | int] | None
        progress = (
            progress_of(spark, path, self._checkpoint) if batch else progress_if_any(spark, path, self._checkpoint)
        )
        has_bad = True
        if progress is None or int(progress["batch"]) < batch:  # else committed before the process died: write the rest
            progress, has_bad = self._write_features(computed, batch, progress or _NOTHING)
        else:
            self.written = self.written.with_unknown()
        if has_bad or batch == 0:  # the first batch replaces the table
            rows = small_frame(spark, [], schemas.QUARANTINED)
            if has_bad:
                bad = without_forgotten(bad_rows().where(F.col(REASON).isNotNull()), config)
                rows = bad.select(_doc_id(), REASON, DETAIL, ROW, INPUT_FILE)
            self._commit(rows, config.table(schemas.QUARANTINE_TABLE), batch, progress)
        if TEST_ITEMS in computed.columns:
            found = self._found(without_forgotten(computed.where(F.col(REASON).isNull()), config), batch)
            self._commit(found, config.table(schemas.FOUND_TABLE), batch, progress)

    def _write_features(
        self, computed: DataFrame, batch: int, before: Mapping[str, str | int]
    ) -> tuple[dict[str, str | int], bool]:  # fmt: skip
        """Commit the rows of `features`; return the progress, and whether there are rows for `quarantine`."""
        spark, config = computed.sparkSession, self._config
        path, counter, counter_of_written = config.table(schemas.FEATURES_TABLE), Observation(), Observation()
        known = delta.read(spark, path).select(DOC_ID) if batch else None
        rows = _counted(_with_forgotten(computed, config), counter, config, known)
        rows = rows.select(*[name for name in computed.columns if name not in (REASON, DETAIL, ROW, TEST_ITEMS)])
        sums = [F.sum(name).alias(name) for name in (N_BYTES, N_TOKENS)]
        rows = rows.withColumn(BATCH, F.lit(batch).cast("bigint"))
        rows = rows.observe(counter_of_written, F.count("*").alias(_ROWS), *sums)
        transaction = (self._checkpoint, batch)
        staging = staged(
            rows, path, transaction=transaction, overwrite=batch == 0, statistics=STATISTICS,
            without_dictionary=WITHOUT_DICTIONARY,
        )  # fmt: skip
        with staging as written:
            counts = {name: int(count or 0) for name, count in counter.get.items()}
            if config.input.id is not None:
                ids = written.read(DOC_ID)
                repeated = ids if known is None else ids.unionByName(known.join(ids, on=DOC_ID, how="left_semi"))
                check_unique(repeated, f"input.path: {config.input.path}")
            state = self._input_state.after(written.read(INPUT_FILE), batch)
            progress: dict[str, str | int] = {
                "rows_in": int(before["rows_in"]) + counts[_ROWS],
                "copies": int(before["copies"]) + counts[_GOOD] - int(counter_of_written.get[_ROWS]),
                "forgotten": int(before["forgotten"]) + counts[_FORGOTTEN_ROWS],
                "batch": batch,
                **state.to_metadata(),
            }
            self._before_commit()
            written.commit(user_metadata=self._metadata(progress))
        of_batch = [int(counter_of_written.get[name] or 0) for name in (_ROWS, N_BYTES, N_TOKENS)]
        self.written = self.written.after(batch, counts[_ROWS], of_batch, has_bad=counts[_BAD] > 0)
        return progress, counts[_BAD] > 0

    def _found(self, good: DataFrame, batch: int) -> DataFrame:
        """Rows of `_test_items`: the test items of the documents, and a row without a document for the batch itself."""
        number = F.lit(batch).cast("bigint").alias(BATCH)
        items = good.select(DOC_ID, F.explode(TEST_ITEMS).alias(TEST_ITEMS)).select(DOC_ID, f"{TEST_ITEMS}.*", number)
        of_batch = good.sparkSession.range(1).select(
            *[F.lit(None).cast(field.dataType).alias(field.name) for field in items.schema.fields[:-1]], number
        )
        return items.unionByName(of_batch).withColumn(LOOKED_FOR, F.lit(self._looked_for))

    def _metadata(self, progress: Mapping[str, str | int]) -> str:
        return delta.to_json({**progress, "checkpoint": self._checkpoint})

    def _commit(self, rows: DataFrame, path: str, batch: int, progress: Mapping[str, str | int]) -> None:
        metadata, transaction = self._metadata(progress), (self._checkpoint, batch)
        self._before_commit()
        if batch:
            add_columns = LOOKED_FOR in rows.columns  # `_test_items` of an older version has not all columns
            delta.append(rows, path, user_metadata=metadata, transaction=transaction, add_columns=add_columns)
        else:
            statistics = [REASON] if REASON in rows.columns else ()  # rows of `quarantine` have texts
            delta.overwrite(rows, path, user_metadata=metadata, transaction=transaction, statistics=statistics)


def _doc_id() -> Column:
    """The id of a row that cannot be used: valid UTF-8, or null."""
    return F.nullif(F.make_valid_utf8(DOC_ID), F.lit("")).alias(DOC_ID)


def _with_forgotten(computed: DataFrame, config: Config) -> DataFrame:
    """Mark the rows of documents that were asked to be forgotten."""
    forgotten = tombstones(computed, config)
    if forgotten is None:
        return computed.withColumn(_FORGOTTEN, F.lit(False))
    mark = forgotten.distinct().withColumn(_FORGOTTEN, F.lit(True))
    return computed.join(mark, on=DOC_ID, how="left").withColumn(_FORGOTTEN, F.col(_FORGOTTEN).isNotNull())


def _counted(marked: DataFrame, counter: Observation, config: Config, known: DataFrame | None) -> DataFrame:
    """Leave the rows of `features`, one for each id if ids are hashes of texts, and count those that go in.

    The counter is above every shuffle: the tasks that write count, and Spark counts each of them once, whereas a task before a
    shuffle counts again when it is repeated for a lost executor.
    """
    good = ~F.col(_FORGOTTEN) & F.col(REASON).isNull()
    kinds = {_FORGOTTEN_ROWS: F.col(_FORGOTTEN), _BAD: ~F.col(_FORGOTTEN) & F.col(REASON).isNotNull(), _GOOD: good}
    if config.input.id is not None:
        counts = [F.count_if(kind).alias(name) for name, kind in kinds.items()]
        return marked.observe(counter, F.count("*").alias(_ROWS), *counts).where(good)
    numbers = [-F.col(schemas.logit_column(name)) for name in config.expressions()]  # of copies, the highest
    tokens = [name for name in marked.columns if name == N_LM_TOKENS]  # a column may differ between copies
    order = F.struct(
        F.coalesce(SOURCE, F.lit("")), *[F.coalesce(n, F.lit(math.inf)) for n in numbers], INPUT_FILE, *tokens
    )
    groups = marked.groupBy(F.when(good, F.col(DOC_ID)).alias(_KEY)).agg(
        F.min_by(F.struct(*marked.columns), order).alias(_ROW),
        F.count("*").alias(_ROWS),
        *[F.count_if(kind).alias(name) for name, kind in kinds.items()],
    )
    groups = groups.observe(counter, *[F.sum(name).alias(name) for name in (_ROWS, *kinds)])
    groups = groups.where(F.col(_KEY).isNotNull())
    if known is not None:
        groups = groups.join(known.withColumnRenamed(DOC_ID, _KEY), on=_KEY, how="left_anti")
    return groups.select(f"{_ROW}.*")
