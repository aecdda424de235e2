"""An input that is a Delta table, at one version."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Self

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from betr_spark.config import Config
from betr_spark.config.column_path import quoted
from betr_spark.corpus import column_types
from betr_spark.corpus.column_types import Example
from betr_spark.corpus.columns import Located, Path, UsedColumn
from betr_spark.corpus.layouts import Layout
from betr_spark.corpus.listing import IDENTITY, LAYOUT, ROW_FILE
from betr_spark.corpus.scored_state import scored_state
from betr_spark.errors import DataError
from betr_spark.storage import delta


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class InputTable:
    """A Delta table at one version.

    Attributes:
        spark: the session.
        path: of the table.
        table_id: of the table.
        number: the version that is read.
        changed: the newest version up to it that changed rows.
    """

    spark: SparkSession
    path: str
    table_id: str
    number: int
    changed: int

    @classmethod
    def current(cls, spark: SparkSession, path: str) -> Self:
        """Take the newest version.

        Raises:
            DataError: there is no table, or it has no rows.
        """
        if not delta.exists(spark, path):
            raise DataError(f"input.path: {path}: no Delta table found")
        number, newest = delta.newest_version(spark, path), delta.newest_commit(spark, path)
        changed = newest.version if newest else number
        table = cls(spark=spark, path=path, table_id=delta.table_id(spark, path), number=number, changed=changed)
        if not table.read().select(F.lit(1)).take(1):
            raise DataError(f"input.path: {path}: the corpus is empty, no delta rows found")
        return table

    @classmethod
    def scored(cls, spark: SparkSession, config: Config) -> Self:
        """Take the version that `features` scored.

        Raises:
            DataError: `features` has not run, or its version does not exist any more.
        """
        path, state = config.input.path, scored_state(spark, config)
        table = cls(spark=spark, path=path, table_id=state.table, number=state.version, changed=state.version)
        if not (delta.exists(spark, path) and delta.table_id(spark, path) == state.table and table._is_whole()):
            raise DataError(
                f"input.path: {path}: version {state.version} of the table, which `features` scored, does not exist any more; "
                "run `betr-spark features`"
            )
        return table

    def _is_whole(self) -> bool:
        """Whether the version is in the table's history, and VACUUM has left its files."""
        try:
            return delta.has_files(self.spark, self.path, self.number)
        except DataError:
            return False

    def version(self) -> str:
        """Id of the table, and the version that last changed rows."""
        return f"{self.table_id}:{self.changed}"

    @property
    def inventory(self) -> DataFrame:
        """One row that stands for the table in `_inputs`, since Delta records no commit that changes nothing."""
        row = [F.lit(self.table_id), F.lit(0).cast("bigint"), F.lit(0).cast("timestamp"), F.lit(None).cast("int")]
        columns = [value.alias(name) for name, value in zip([*IDENTITY, LAYOUT], row, strict=True)]
        return self.spark.range(1).select(*columns)

    def to_metadata(self) -> dict[str, object]:
        """What a commit of `_inputs` says about its row."""
        return {}

    def read(self) -> DataFrame:
        """All columns of the version."""
        return delta.read(self.spark, self.path, version=self.number)

    def located(self, used: Sequence[UsedColumn]) -> dict[Path, Located]:
        """Find the used columns; see `column_types.located`."""
        layout = Example(Layout(fields=self.read().schema), self.path)
        return column_types.located(used, [layout], folders=list, where=self.path)

    def rows(
        self, columns: Mapping[Path, Located], *, only_files: Sequence[str] | None = None
    ) -> Iterator[tuple[DataFrame, Mapping[Path, Located]]]:
        """Read these columns; `only_files` has no effect."""
        del only_files
        yield _rows(self.read(), columns, self.path), {}

    def stream(self, columns: Mapping[Path, Located], *, max_bytes: int) -> DataFrame:
        """Follow the table's appends, of which a batch takes up to `max_bytes`."""
        return _rows(delta.input_stream(self.spark, self.path, max_bytes=max_bytes), columns, self.path)


def _rows(table: DataFrame, columns: Mapping[Path, Located], path: str) -> DataFrame:
    names = dict.fromkeys(column.path[0] for column in columns.values())
    return table.select(*[F.col(quoted(name)) for name in names], F.lit(path).alias(ROW_FILE))
