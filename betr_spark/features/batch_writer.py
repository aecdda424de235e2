"""Writes the micro-batches of `features`, each as one idempotent commit of each table."""

import math
from collections.abc import Callable, Mapping

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from betr_spark import schemas
from betr_spark.config import Config
from betr_spark.corpus.documents import check_unique
from betr_spark.corpus.tombstones import without_forgotten
from betr_spark.features.checkpoint import progress_of
from betr_spark.features.input_state import InputState
from betr_spark.schemas import (
    BATCH,
    DETAIL,
    DOC_ID,
    INPUT_FILE,
    LOOKED_FOR,
    N_LM_TOKENS,
    REASON,
    ROW,
    SOURCE,
    TEST_ITEMS,
)
from betr_spark.storage import delta

_NOTHING = {"rows_in": 0, "copies": 0, "forgotten": 0, "batch": -1}


def _doc_id() -> Column:
    """The id of a row that cannot be used: valid UTF-8, or null."""
    return F.nullif(F.make_valid_utf8(DOC_ID), F.lit("")).alias(DOC_ID)


class BatchWriter:
    """foreachBatch: features and quarantine of one batch, each one idempotent commit; keeps the error that stopped it."""

    def __init__(
        self, config: Config, checkpoint: str, input_state: InputState, transform: Callable[[DataFrame], DataFrame],
        begin: Callable[[int], None], before_commit: Callable[[], None], looked_for: str = "",
    ) -> None:  # fmt: skip
        self._config, self._checkpoint, self._transform = config, checkpoint, transform
        self._begin, self._before_commit = begin, before_commit
        self._input_state, self._looked_for = input_state, looked_for
        self.called = False
        self.error: Exception | None = None
        self.rows_new = 0

    def __call__(self, documents: DataFrame, batch: int) -> None:
        """Write one batch."""
        self.called = True
        self._begin(batch)
        computed = self._transform(documents).persist()  # counted, checked, and written to two tables
        try:
            self._write(computed, batch)
        except Exception as error:
            self.error = error
            raise
        finally:
            computed.unpersist()

    def _write(self, computed: DataFrame, batch: int) -> None:
        spark, config = computed.sparkSession, self._config
        path = config.table(schemas.FEATURES_TABLE)
        kept = without_forgotten(computed, config)
        good = kept.where(F.col(REASON).isNull()).drop(REASON, DETAIL, ROW)
        good = good.withColumn(BATCH, F.lit(batch).cast("bigint"))
        found = self._found(good, batch)
        good = good.drop(TEST_ITEMS)
        bad = kept.where(F.col(REASON).isNotNull()).select(_doc_id(), REASON, DETAIL, ROW, INPUT_FILE)
        before = progress_of(spark, path, self._checkpoint) if batch else dict(_NOTHING)
        if before["batch"] >= batch:  # committed before the process died: only what follows it is left to do
            self._commit(bad, config.table(schemas.QUARANTINE_TABLE), batch, before)
            if found is not None:
                self._commit(found, config.table(schemas.FOUND_TABLE), batch, before)
            return
        n_rows = computed.count()
        self.rows_new += n_rows
        known = delta.read(spark, path).select(DOC_ID) if batch else None
        if config.input.id is None:
            n_good = good.count()
            numbers = [-F.col(schemas.logit_column(name)) for name in config.expressions()]  # of copies, the highest
            tokens = [name for name in good.columns if name == N_LM_TOKENS]  # a column may differ between copies
            order = F.struct(
                F.coalesce(SOURCE, F.lit("")), *[F.coalesce(n, F.lit(math.inf)) for n in numbers], INPUT_FILE, *tokens
            )
            good = good.groupBy(DOC_ID).agg(F.min_by(F.struct(*good.columns), order).alias("row"))
            good = good.select("row.*")
            good = good if known is None else good.join(known, on=DOC_ID, how="left_anti")
            copies = n_good - good.count()
        else:
            copies = 0
            ids = good.select(DOC_ID)
            repeated = ids if known is None else ids.unionByName(known.join(ids, on=DOC_ID, how="left_semi"))
            check_unique(repeated, f"input.path: {config.input.path}")
        forgotten = before["forgotten"] + (0 if kept is computed else n_rows - kept.count())
        counts = {"rows_in": before["rows_in"] + n_rows, "copies": before["copies"] + copies, "forgotten": forgotten}
        counts["batch"] = batch
        progress = {**counts, **self._input_state.after(computed, batch).to_metadata()}
        self._commit(good, path, batch, progress)
        self._commit(bad, config.table(schemas.QUARANTINE_TABLE), batch, progress)
        if found is not None:
            self._commit(found, config.table(schemas.FOUND_TABLE), batch, progress)

    def _found(self, good: DataFrame, batch: int) -> DataFrame | None:
        """Rows of `_test_items`: the test items of the documents, and a row without a document for the batch itself."""
        if TEST_ITEMS not in good.columns:
            return None
        items = good.select(DOC_ID, BATCH, F.explode(TEST_ITEMS).alias(TEST_ITEMS)).select(
            DOC_ID, f"{TEST_ITEMS}.*", BATCH
        )
        of_batch = good.sparkSession.range(1).select(
            *[F.lit(None).cast(field.dataType).alias(field.name) for field in items.schema.fields[:-1]],
            F.lit(batch).cast("bigint").alias(BATCH),
        )
        return items.unionByName(of_batch).withColumn(LOOKED_FOR, F.lit(self._looked_for))

    def _commit(self, rows: DataFrame, path: str, batch: int, progress: Mapping[str, str | int]) -> None:
        metadata = delta.to_json({**progress, "checkpoint": self._checkpoint})
        transaction = (self._checkpoint, batch)
        self._before_commit()
        if batch:
            add_columns = LOOKED_FOR in rows.columns  # `_test_items` of an older version has not all columns
            delta.append(rows, path, user_metadata=metadata, transaction=transaction, add_columns=add_columns)
        else:
            statistics = [REASON] if REASON in rows.columns else ()  # rows of `quarantine` have texts
            delta.overwrite(rows, path, user_metadata=metadata, transaction=transaction, statistics=statistics)
