"""Stage `forget`: removes documents from every table, and from later runs by table `tombstones`.

The ids are in `tombstones` before anything is deleted, so a run that is killed deletes the rest when it is repeated. `dedup`
and `select` run afterwards: a duplicate of a forgotten document may be kept now, and the next best documents are selected. If
one of them fails, the forgotten documents are in no table all the same.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from betr_spark import schemas
from betr_spark.config import Config
from betr_spark.errors import DataError
from betr_spark.pipeline.stage import Result, RunContext, Stage
from betr_spark.redaction import has_credentials
from betr_spark.schemas import CONTENT_HASH, DOC_ID
from betr_spark.spark.error_messages import problems_of
from betr_spark.spark.jobs import describe
from betr_spark.storage import delta, hadoop_files, runs
from betr_spark.storage.delta_upkeep import delete_rows
from betr_spark.storage.runs import Metrics, StageKey, StageRun

_logger = logging.getLogger(__name__)
_SHOWN = 5  # ids
_WITH_TEXTS = (schemas.SAMPLE_TABLE, schemas.EMBEDDINGS_TABLE, schemas.RANKED_SAMPLE_TABLE)


@dataclass(frozen=True, kw_only=True)
class ForgetMetrics(Metrics):
    """Rows that were deleted from `features` and from `quarantine`, and ids that are in neither."""

    features: int
    quarantine: int
    unknown: int


class Forget(Stage):
    """Forgets the documents whose ids a file lists, one in a line."""

    def __init__(self, ids: str, *, copies: bool, why: str) -> None:
        """Name the file.

        Args:
            ids: path of the file.
            copies: forget all documents with the text of a listed one, too.
            why: reason, for `tombstones`.
        """
        super().__init__("forget")
        self.ids, self.copies, self.why = ids, copies, why

    def outputs(self, config: Config) -> Sequence[str]:
        """`tombstones`."""
        return [config.table(schemas.TOMBSTONES_TABLE)]

    def key(self, context: RunContext) -> StageKey:
        """The file, and what `features` holds."""
        settings = {"ids": self.ids, "copies": self.copies, "why": self.why}
        features = runs.input_version(context.spark, context.config.table(schemas.FEATURES_TABLE))
        return StageKey.of(self.name, settings, file=hadoop_files.version(context.spark, self.ids), features=features)

    def problems(self, context: RunContext) -> Iterator[str]:
        """A file that cannot be read or whose path has credentials in it; an output that is incomplete."""
        if has_credentials(self.ids):
            yield "--ids: a path with credentials in it; remove them (docs/cluster.md, Object stores)"
            return
        if self.ids.rpartition("/")[2].startswith(("_", ".")):
            yield f"--ids: {self.ids}: Spark reads no file whose name begins with '_' or '.'; rename it"
            return
        yield from problems_of(lambda: self._ids(context.spark).take(1))
        for name in (schemas.FEATURES_TABLE, schemas.QUARANTINE_TABLE):
            yield from problems_of(lambda table=name: delta.read(context.spark, context.config.table(table)))  # type: ignore[misc]

    @contextmanager
    def build(self, context: RunContext, key: StageKey) -> Iterator[Result]:
        """Write the tombstones, delete, and record the run."""
        spark, config = context.spark, context.config
        (path,) = self.outputs(config)
        features = delta.read(spark, config.table(schemas.FEATURES_TABLE))
        with context.scratch("forget") as materialise:
            describe(spark, "forget: find documents")
            ids = self._ids(spark)
            n_ids = ids.count()
            quarantined = delta.read(spark, config.table(schemas.QUARANTINE_TABLE)).select(DOC_ID)
            known = features.select(DOC_ID).unionByName(quarantined)
            unknown = ids.join(known, on=DOC_ID, how="left_anti")
            n_unknown = unknown.count()
            if n_unknown:
                shown = [row[DOC_ID] for row in unknown.orderBy(DOC_ID).limit(_SHOWN).collect()]
                names = ", ".join(shown) + (", ..." if n_unknown > len(shown) else "")
                _logger.warning(
                    "forget: %d of %d ids are neither in `features` nor in `quarantine`: %s", n_unknown, n_ids, names
                )
            if self.copies:
                hashes = features.join(ids, on=DOC_ID, how="left_semi").select(CONTENT_HASH).distinct()
                copies = features.join(hashes, on=CONTENT_HASH, how="left_semi").select(DOC_ID)
                ids = ids.unionByName(copies).distinct()
            ids = materialise(ids)
            describe(spark, "forget: write tombstones")
            _add_tombstones(ids, path, why=self.why)
            context.check_lease()
            describe(spark, "forget: delete rows")
            n_quarantine = _forget_quarantined(ids, config)
            n_features = _forget_features(ids, config, n_quarantine)
            for name in _WITH_TEXTS:
                _forget_rows(ids, config.table(name), same_for_readers=True)
            for name in (schemas.CONTAMINATION_TABLE, schemas.FOUND_TABLE):
                _forget_rows(ids, config.table(name))
            for name in hadoop_files.children(spark, config.table("selected")):  # also selections that were renamed
                _forget_rows(ids, config.table(f"selected/{name}"))
            hadoop_files.delete(spark, config.table(schemas.REPORT_PAGE))  # it may have their texts
            total = delta.read(spark, path).count()
            yield Result(
                rows_in=n_ids,
                rows_out=total,
                metrics=ForgetMetrics(features=n_features, quarantine=n_quarantine, unknown=n_unknown),
                commit=lambda run: delta.mark(
                    spark, path, name="forget_key", value=key.key, user_metadata=run.to_json()
                ),
            )

    def summary(self, run: StageRun) -> list[str]:
        """How many documents were deleted."""
        metrics = run.metrics_as(ForgetMetrics)
        deleted = f"{metrics.features:.0f} documents and {metrics.quarantine:.0f} quarantined rows deleted"
        return [f"forget: {run.rows_in} ids, {metrics.unknown:.0f} of them unknown; {deleted}; {run.seconds:.1f} s"]

    def _ids(self, spark: SparkSession) -> DataFrame:
        """The ids of the file: doc_id, each once."""
        if not hadoop_files.is_file(spark, self.ids):
            raise DataError(f"--ids: {self.ids}: no such file; a text file with one id in each line is required")
        lines = spark.read.text(self.ids).select(F.rtrim(F.col("value"), F.lit("\r")).alias(DOC_ID))
        return lines.where(F.col(DOC_ID) != "").distinct()


def _add_tombstones(ids: DataFrame, path: str, *, why: str) -> None:
    spark = ids.sparkSession
    rows = ids.select(DOC_ID, F.current_timestamp().alias("requested_at"), F.lit(why).alias("why"))
    if delta.exists(spark, path):
        rows = rows.join(delta.read(spark, path).select(DOC_ID), on=DOC_ID, how="left_anti")
        delta.append(rows, path, user_metadata="")
    else:
        delta.overwrite(rows, path, user_metadata="")


def _forget_features(ids: DataFrame, config: Config, n_quarantine: int) -> int:
    """Delete from `features`; its commit keeps what the last one says of the input, and counts what was forgotten."""
    spark, path = ids.sparkSession, config.table(schemas.FEATURES_TABLE)
    n_rows = delta.read(spark, path).join(ids, on=DOC_ID, how="left_semi").count()
    newest = delta.newest_commit(spark, path)
    about = delta.as_object(newest.user_metadata) if newest else {}
    forgotten = int(about.get("forgotten", 0)) + n_rows + n_quarantine
    metadata = delta.to_json({**about, "forgotten": forgotten})
    if n_rows:
        delete_rows(path, ids, on=DOC_ID, user_metadata=metadata)
    elif n_quarantine:
        delta.mark(spark, path, name="forgotten", value=str(forgotten), user_metadata=metadata)
    return n_rows


def _forget_rows(ids: DataFrame, path: str, *, same_for_readers: bool = False) -> None:
    """Delete from a table; with `same_for_readers`, what was computed from it (scorers) counts as up to date."""
    spark = ids.sparkSession
    if not delta.exists(spark, path) or not delta.read(spark, path).join(ids, on=DOC_ID, how="left_semi").take(1):
        return
    newest = delta.newest_commit(spark, path)
    about = delta.as_object(newest.user_metadata) if newest else {}
    same_as = {runs.SAME_AS: runs.input_version(spark, path)} if same_for_readers else {}
    delete_rows(path, ids, on=DOC_ID, user_metadata=delta.to_json({**about, **same_as}))


def _forget_quarantined(ids: DataFrame, config: Config) -> int:
    """Delete from `quarantine`; rows whose id could not be read stay."""
    spark, path = ids.sparkSession, config.table(schemas.QUARANTINE_TABLE)
    n_rows = delta.read(spark, path).join(ids, on=DOC_ID, how="left_semi").count()
    if n_rows:
        newest = delta.newest_commit(spark, path)
        delete_rows(path, ids, on=DOC_ID, user_metadata=newest.user_metadata if newest else "")
    return n_rows
