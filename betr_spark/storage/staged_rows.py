"""Rows of a Delta table whose files are written before the record of their commit is known."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

from py4j.protocol import Py4JError, Py4JJavaError
from pyspark.sql import DataFrame, SparkSession

from betr_spark.spark.jvm import java_class
from betr_spark.spark.small_frames import small_frame
from betr_spark.storage import delta, hadoop_files

_logger = logging.getLogger(__name__)
_DELTA = "org.apache.spark.sql.delta"
_WRITE = f"{_DELTA}.commands.WriteIntoDelta"
_STATISTICS = "delta.dataSkippingStatsColumns"


class StagedRows(Protocol):
    """Rows that were evaluated, and that no commit has added to the table yet, so that no reader sees them."""

    def read(self, *columns: str) -> DataFrame:
        """Read columns of the rows; a table is not needed for it.

        Args:
            columns: of type string.
        """

    def commit(self, *, user_metadata: str) -> None:
        """Add the rows to the table, with their schema."""


class _Files:
    """Data files in the folder of the table."""

    def __init__(self, spark: SparkSession, path: str, transaction: Any, mode: Any, actions: Any) -> None:
        """Take Delta's transaction, SaveMode, and the actions of the commit, or None if there is nothing to commit."""
        self._spark, self._folder = spark, path.rstrip("/")
        self._transaction, self._mode, self._actions = transaction, mode, actions
        self._files = [] if actions is None else [f"{self._folder}/{file}" for file in _added(actions)]

    def read(self, *columns: str) -> DataFrame:
        schema = ", ".join(f"{column} string" for column in columns)
        if not self._files:
            return small_frame(self._spark, [], schema)
        return self._spark.read.schema(schema).parquet(*self._files)

    def commit(self, *, user_metadata: str) -> None:
        if self._actions is None:
            return
        nothing, some = _nothing(self._spark), java_class(self._spark, "scala.Option").apply
        operation = java_class(self._spark, f"{_DELTA}.DeltaOperations$Write")(
            self._mode, some(_sequence(self._spark)), nothing, some(user_metadata), *[nothing] * 5
        )
        self._transaction.commit(self._actions, operation)
        self._actions, self._files = None, []

    def discard(self) -> None:
        """Delete the files if they were not committed."""
        for file in self._files:
            hadoop_files.delete(self._spark, file)


class _Kept:
    """Rows in the memory of executors or on their disks, for a Delta without the classes of `_Files`."""

    def __init__(self, rows: DataFrame, path: str, write: Callable[[DataFrame, str, str], None]) -> None:
        """Evaluate the rows."""
        self._rows, self._path, self._write = rows.persist(), path, write
        try:
            self._rows.count()
        except BaseException:
            self.discard()
            raise

    def read(self, *columns: str) -> DataFrame:
        return self._rows.select(*columns)

    def commit(self, *, user_metadata: str) -> None:
        self._write(self._rows, self._path, user_metadata)

    def discard(self) -> None:
        self._rows.unpersist()


@contextmanager
def staged(
    rows: DataFrame, path: str, *, transaction: tuple[str, int], overwrite: bool, statistics: Sequence[str],
    without_dictionary: Sequence[str] = (),
) -> Iterator[StagedRows]:  # fmt: skip
    """Evaluate rows once and write their files; the block checks them, and commits them with a record of what was written.

    DataFrameWriter takes `userMetadata` before it evaluates the rows. This calls the two halves of Delta's own write
    (`WriteIntoDelta`) one after the other, so that schema, transaction and conflicts are handled as in any other write. Files
    that are not committed in the block are deleted at its end, or by VACUUM if the process is killed. The classes are not
    public: with a Delta that has others, as that of Databricks, the rows are kept while the block runs, and written by its
    commit, which costs more.

    Args:
        rows: for the table.
        path: of the table, which need not exist.
        transaction: name and number; if the table has it already, nothing is written and the commit does nothing.
        overwrite: replace rows and schema instead of adding the rows.
        statistics: columns with statistics in the log of a new table.
        without_dictionary: Parquet's paths of columns whose values hardly repeat; a dictionary of them would only cost time.
    """
    written: _Files | _Kept | None
    with ExitStack() as settings:
        for column in without_dictionary:
            settings.enter_context(
                delta.session_conf(rows.sparkSession, f"parquet.enable.dictionary#{column}", "false")
            )
        written = _files(rows, path, transaction, overwrite=overwrite, statistics=statistics)
    if written is None:
        _logger.info("%s: this Delta has no %s; rows are kept in memory until they are written", path, _WRITE)

        def write(kept: DataFrame, path: str, metadata: str) -> None:
            if overwrite:
                delta.overwrite(kept, path, user_metadata=metadata, transaction=transaction, statistics=statistics)
            else:
                delta.append(kept, path, user_metadata=metadata, transaction=transaction)

        written = _Kept(rows, path, write)
    try:
        yield written
    finally:
        written.discard()


def _files(
    rows: DataFrame, path: str, transaction: tuple[str, int], *, overwrite: bool, statistics: Sequence[str]
) -> _Files | None:
    """Write the files; None if Delta does not have the classes, or has others of these names."""
    spark = rows.sparkSession
    session = spark._jsparkSession  # noqa: SLF001
    name, number = transaction
    options = {"txnAppId": name, "txnVersion": str(number), "overwriteSchema": str(overwrite).lower()}
    mode = getattr(java_class(spark, "org.apache.spark.sql.SaveMode"), "Overwrite" if overwrite else "Append")
    properties = _map(spark, {_STATISTICS: ",".join(statistics)} if overwrite and statistics else {})
    nothing, by_name, replaces_table = _nothing(spark), False, False
    try:
        log = java_class(spark, f"{_DELTA}.DeltaLog").forTable(session, path)
        delta_options = java_class(spark, f"{_DELTA}.DeltaOptions")(_map(spark, options), session.sessionState().conf())
        write = java_class(spark, _WRITE)(
            log, mode, delta_options, _sequence(spark), properties, rows._jdf, nothing, nothing, by_name  # noqa: SLF001
        )  # fmt: skip
    except (TypeError, Py4JError) as error:  # a package where a class is expected; other parameters
        if isinstance(error, Py4JJavaError):
            raise
        return None
    begun = log.startTransaction()
    is_committed = begun.txnVersion(name) >= number
    actions = (
        None if is_committed else write.writeAndReturnCommitData(begun, session, nothing, replaces_table).actions()
    )
    return _Files(spark, path, begun, mode, actions)


def _added(actions: Any) -> Iterator[str]:
    """Names of the files that actions of a commit add."""
    each = actions.iterator()
    while each.hasNext():
        action = each.next()
        if action.getClass().getSimpleName() == "AddFile":
            yield str(action.path())


def _nothing(spark: SparkSession) -> Any:
    return java_class(spark, "scala.Option").empty()


def _sequence(spark: SparkSession) -> Any:
    return java_class(spark, "org.apache.spark.api.python.PythonUtils").toSeq(
        java_class(spark, "java.util.ArrayList")()
    )


def _map(spark: SparkSession, values: Mapping[str, str]) -> Any:
    java_map = java_class(spark, "java.util.HashMap")()
    for name, value in values.items():
        java_map.put(name, value)
    return java_class(spark, "org.apache.spark.api.python.PythonUtils").toScalaMap(java_map)
