"""The documents that a selection may keep, with the columns that its conditions and quotas name."""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from pyspark.errors import AnalysisException, ParseException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import StringType

from betr_spark import schemas
from betr_spark.config import SelectionConfig
from betr_spark.corpus.documents import quoted
from betr_spark.corpus.side_table import SideTable
from betr_spark.corpus.snapshot import InputSnapshot
from betr_spark.errors import DataError, SchemaError
from betr_spark.ordering import GROUP
from betr_spark.pipeline.stage import RunContext
from betr_spark.schemas import BANDS, BATCH, CONTENT_HASH, DOC_ID, INPUT_FILE, REASON, SIGNATURE, SOURCE
from betr_spark.selection.copies import one_copy
from betr_spark.spark.error_messages import problems_of
from betr_spark.storage import delta

IS_ELIGIBLE, _CARRIED = "is_eligible", "carried"
_INTERNAL = (CONTENT_HASH, BANDS, SIGNATURE, INPUT_FILE, BATCH)  # columns of `features` that conditions do not see
_SHOWN = 3


class Conditions(NamedTuple):
    """`where`, `quota`, `max_fraction` and `annotations` of a selection.

    Attributes:
        name: of the selection.
        selection: its settings.
        context: of the run.
    """

    name: str
    selection: SelectionConfig
    context: RunContext

    @property
    def annotations(self) -> SideTable | None:
        """The table of annotations."""
        path = self.selection.annotations
        return None if path is None else SideTable(self.context.spark, path, f"selections.{self.name}.annotations")

    def versions(self) -> dict[str, str]:
        """Version of the annotations, for the stage's key."""
        return {} if self.annotations is None else {"annotations": self.annotations.version()}

    def problems(self) -> Iterator[str]:
        """An unreadable table, a condition that Spark refuses, a column that does not exist."""
        unreadable = list(self.annotations.problems()) if self.annotations else []
        yield from unreadable or problems_of(self._check)

    def _check(self) -> None:
        config, spark = self.context.config, self.context.spark
        lm_tokens = not config.input.tokens.are_words
        schema = schemas.features_schema(config.scored(), config.expressions(), lm_tokens=lm_tokens)
        features = spark.createDataFrame([], f"{schema}, {INPUT_FILE} string, {BATCH} bigint")
        self.marked(features, lambda: self.context.input)

    def marked(self, features: DataFrame, snapshot: Callable[[], InputSnapshot]) -> DataFrame:
        """Add `is_eligible`, whether `where` is true, and `group`, the value of the column of quotas as a string.

        Args:
            features: rows of `features`.
            snapshot: of the input; called only if `where` or a quota uses a carried column.

        Raises:
            DataError, SchemaError: the condition or a column is wrong, or a document has several rows of annotations.
        """
        if self.selection.where is None and self.selection.balanced_by() is None:
            return features.withColumns({IS_ELIGIBLE: F.lit(True), GROUP: F.lit(None).cast("string")})
        rows = self._with_annotations(features)
        if self._uses_carried():
            more = self._carried(features, snapshot())
            _refuse_same_names(rows.columns, more.columns, "input.columns")
            rows = rows.join(more, on=DOC_ID, how="left")
        return self._evaluated(rows, features.columns)

    def _combined(self) -> list[str]:
        """Columns of combinations, which a condition does not see because the stage's key does not have them."""
        return [schemas.logit_column(name) for name in self.context.config.combinations()]

    def _uses_carried(self) -> bool:
        """Whether a carried column is the one of quotas, or its name occurs in the condition."""
        names = {name.lower() for name in self.context.config.input.columns}
        words = set(re.findall(r"\w+", (self.selection.where or "").lower()))
        by = self.selection.balanced_by()
        quoted_in = any(f"`{name}`" in (self.selection.where or "").lower() for name in names)
        return bool(names & words) or quoted_in or (by is not None and by.lower() in names)

    def _with_annotations(self, features: DataFrame) -> DataFrame:
        if self.annotations is None:
            return features
        table = self.annotations.read()
        if DOC_ID not in table.columns:
            raise SchemaError(f"{self.annotations.where}: no column '{DOC_ID}'; found {', '.join(table.columns)}")
        if not isinstance(table.schema[DOC_ID].dataType, StringType):
            table = table.withColumn(DOC_ID, F.col(DOC_ID).cast("string"))
        known = [*features.columns, *self.context.config.input.columns, *self._combined()]
        _refuse_same_names(known, table.columns, self.annotations.where)
        return features.join(table, on=DOC_ID, how="left")

    def _carried(self, features: DataFrame, snapshot: InputSnapshot) -> DataFrame:
        """doc_id and the carried columns, of one row of the input for each document; reads the text only where ids need it."""
        names = [F.col(quoted(name)) for name in snapshot.source.columns]
        rows = snapshot.documents(carried=True)
        if snapshot.source.id is None or self._has_quarantined_ids(features):
            rows = rows.where(F.col(REASON).isNull())
        rows = rows.select(DOC_ID, SOURCE, F.struct(*names).alias(_CARRIED))
        return one_copy(rows, features, [_CARRIED]).select(DOC_ID, f"{_CARRIED}.*")

    def _has_quarantined_ids(self, features: DataFrame) -> bool:
        """Whether a row that was quarantined has the id of a document."""
        path = self.context.config.table(schemas.QUARANTINE_TABLE)
        if not delta.exists(self.context.spark, path):
            return False
        return bool(delta.read(self.context.spark, path).join(features, on=DOC_ID, how="left_semi").take(1))

    def _evaluated(self, rows: DataFrame, names: Sequence[str]) -> DataFrame:
        """Evaluate the condition and the group's column, and drop the joined columns."""
        key, condition, visible = (
            f"selections.{self.name}",
            self.selection.where or "true",
            rows.drop(*_INTERNAL, *self._combined()),
        )
        empty = rows.sparkSession.createDataFrame([], visible.schema)  # Spark would find a column that was only dropped
        try:
            plan = empty.where(F.expr(condition))._jdf.queryExecution().analyzed()  # noqa: SLF001
        except (ParseException, AnalysisException) as error:
            reason = str(error).strip().splitlines()[0].partition(" SQLSTATE:")[0][:300]
            raise SchemaError(f"{key}.where: {condition}: {reason}") from error
        if not plan.deterministic():
            raise SchemaError(f"{key}.where: {condition}: gives other rows each time; use a hash of {DOC_ID} instead")
        column = self.selection.balanced_by()
        if column is not None and column not in visible.columns:
            setting = "quota" if self.selection.quota else "max_fraction"
            found = ", ".join(dict.fromkeys([*visible.columns, *self.context.config.input.columns]))
            raise SchemaError(f"{key}.{setting}: no column '{column}'; found {found}")
        group = F.lit(None) if column is None else F.col(quoted(column))
        is_eligible = F.coalesce(F.expr(condition), F.lit(False)).alias(IS_ELIGIBLE)
        return rows.select(*names, is_eligible, group.cast("string").alias(GROUP))

    def check_unique(self) -> None:
        """Refuse annotations that have several rows for a document; one aggregation of its ids.

        Raises:
            DataError: with some of the ids.
        """
        if self.annotations is None:
            return
        ids = self.annotations.read().groupBy(F.col(DOC_ID).cast("string").alias(DOC_ID)).count()
        several = ids.where(F.col("count") > 1).orderBy(DOC_ID).limit(_SHOWN).collect()
        if several:
            names = ", ".join(f"'{row[DOC_ID]}'" for row in several)
            raise DataError(
                f"{self.annotations.where}: several rows for {DOC_ID} {names}; one row for each is required"
            )


def _refuse_same_names(known: Sequence[str], added: Sequence[str], where: str) -> None:
    """Raise SchemaError if another column than doc_id is in both, whatever its case."""
    lowered = {name.lower() for name in known}
    same = [name for name in added if name != DOC_ID and name.lower() in lowered]
    if same:
        raise SchemaError(f"{where}: column '{same[0]}' exists already; rename it")
