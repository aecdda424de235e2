"""Why a selection has a document, or why not: computed from the selection's own order of its eligible documents."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from betr_spark.config import SelectionConfig
from betr_spark.errors import BetrSparkError, quoted
from betr_spark.explain.cut import IS_KEPT, Missed, distances
from betr_spark.explain.lookups import Row, rows_of, table
from betr_spark.ordering import GROUP
from betr_spark.pipeline.stage import RunContext
from betr_spark.schemas import (
    BEST_BENCHMARK,
    CHOSEN_FOR,
    DOC_ID,
    KEPT_DOC_ID,
    KIND,
    LOGIT,
    N_TOKENS,
    N_WORDS,
    PHASE,
    RANK,
    REPEAT_COUNT,
    SIMILARITY,
)
from betr_spark.selection.conditions import IS_ELIGIBLE, Conditions
from betr_spark.selection.population import RankedTables, marked_survivors
from betr_spark.selection.reference import Reference
from betr_spark.storage import delta

_SHOWN = (RANK, PHASE, REPEAT_COUNT, CHOSEN_FOR, BEST_BENCHMARK)


class Outcome(NamedTuple):
    """What a selection did with a document.

    Attributes:
        selection, scorer: names.
        status: `selected`, a reason as in `dropped` of the table `runs`, `quarantined`, `forgotten`, or `unknown` if the
            selection does not exist or cannot be read.
        why: the reason in a sentence; empty if it is selected.
        rows: rank, phase, repeat_count, chosen_for and best_benchmark of the document's rows in `selected/NAME`.
        missed: of an eligible document that is not selected.
    """

    selection: str
    scorer: str
    status: str
    why: str = ""
    rows: Sequence[Mapping[str, Any]] = ()
    missed: Missed | None = None


class Found(NamedTuple):
    """Rows of the tables for the documents, by id.

    Attributes:
        features: rows of `features`.
        duplicates: rows of `duplicates`.
        contaminated: ids that `decontaminate` drops.
        quarantined, forgotten: why a document is not in `features`.
    """

    features: Mapping[str, Row]
    duplicates: Mapping[str, Row]
    contaminated: frozenset[str]
    quarantined: Mapping[str, str]
    forgotten: frozenset[str]


class Outcomes:
    """Looks at one selection after the other; what all of them rank is read once."""

    def __init__(self, context: RunContext, found: Found) -> None:
        """Keep the rows of the documents."""
        self._context, self._found = context, found

    @cached_property
    def _ranked(self) -> RankedTables:
        spark, selections = self._context.spark, self._context.config.selections
        written = [name for name in selections if delta.exists(spark, self._path(name))]  # others may have no logit yet
        return RankedTables.of(self._context, dict.fromkeys(selections[name].scorer for name in written))

    def of(self, ids: Sequence[str], name: str) -> dict[str, Outcome]:
        """What a selection did with each of some documents."""
        selection = self._context.config.selections[name]
        selected = table(self._context, f"selected/{name}")
        if selected is None:
            why = f"the selection does not exist yet; create it with `betr-spark select` ({self._path(name)})"
            return dict.fromkeys(ids, Outcome(name, selection.scorer, "unknown", why))
        shown = [column for column in _SHOWN if column in selected.columns]
        keepers = [row[KEPT_DOC_ID] for row in self._found.duplicates.values()]
        rows = rows_of(selected.select(DOC_ID, *shown), [*ids, *keepers])
        outcomes = {doc_id: self._without_order(doc_id, name, selection, rows) for doc_id in ids}
        undecided = [doc_id for doc_id, outcome in outcomes.items() if outcome is None]
        try:
            decided = self._in_order(undecided, name, selection, selected) if undecided else {}
        except BetrSparkError as error:
            decided = dict.fromkeys(undecided, Outcome(name, selection.scorer, "unknown", str(error.args[0])))
        return {doc_id: outcome or decided[doc_id] for doc_id, outcome in outcomes.items()}

    def _path(self, name: str) -> str:
        return self._context.config.table(f"selected/{name}")

    def _without_order(self, doc_id: str, name: str, selection: SelectionConfig, rows: Sequence[Row]) -> Outcome | None:
        """The outcome if the tables tell it; None for a document that competes with others."""
        found, mine = self._found, [row for row in rows if row[DOC_ID] == doc_id]
        outcome = Outcome(name, selection.scorer, "selected")
        if mine:
            values = [{key: value for key, value in row.items() if key != DOC_ID} for row in mine]
            return outcome._replace(rows=sorted(values, key=lambda row: row[RANK]))
        if doc_id in found.features and doc_id in found.duplicates:
            row = found.duplicates[doc_id]
            ranks = [each[RANK] for each in rows if each[DOC_ID] == row[KEPT_DOC_ID]]
            kept = f"selected with rank {min(ranks)}" if ranks else "not selected either"
            why = f"{row[KIND]} duplicate ({row[SIMILARITY]:.2f}) of {quoted(row[KEPT_DOC_ID])}, which is {kept}"
            return outcome._replace(status="duplicate", why=why)
        if doc_id in found.features:
            if doc_id in found.contaminated:
                return outcome._replace(status="contaminated", why="it contains a test item, see contamination")
            if not found.features[doc_id][N_WORDS]:
                return outcome._replace(status="no_score", why="it has no text: not a single word")
            return None
        if doc_id in found.forgotten:
            return outcome._replace(status="forgotten", why="it was forgotten (`betr-spark forget`)")
        return outcome._replace(status="quarantined", why=found.quarantined.get(doc_id, ""))

    def _in_order(
        self, ids: Sequence[str], name: str, selection: SelectionConfig, selected: DataFrame
    ) -> dict[str, Outcome]:
        """The outcomes of documents that are not selected, by the selection's conditions and order."""
        sources = None
        if selection.stratified:
            rows = delta.read(self._context.spark, self._path(str(selection.keep.tokens_of)))
            sources = Reference.of(rows, by_source=True, where=f"selections.{name}.stratified").sources
        conditions = Conditions(name, selection, self._context)
        survivors = marked_survivors(self._ranked, conditions, sources=sources or {})
        survivors = survivors.select(DOC_ID, N_TOKENS, LOGIT, IS_ELIGIBLE, GROUP)
        values = {row[DOC_ID]: row for row in rows_of(survivors, ids)}
        eligible = {doc_id: row for doc_id, row in values.items() if row[IS_ELIGIBLE]}
        kept = selected.select(DOC_ID).distinct().withColumn(IS_KEPT, F.lit(1))
        order = survivors.where(IS_ELIGIBLE).join(kept, on=DOC_ID, how="left")
        missed = distances(order, eligible, self._found.features, selection) if eligible else {}
        outcomes = {}
        for doc_id in ids:
            outcome = Outcome(name, selection.scorer, "no_score", f"scorer {selection.scorer} gives it no score")
            if doc_id in missed:
                why = missed[doc_id].why(selection, self._context.config)
                outcome = outcome._replace(status="below_cut", why=why, missed=missed[doc_id])
            elif doc_id in values:
                outcome = outcome._replace(status="where", why=f"not eligible: where: {selection.where}")
            outcomes[doc_id] = outcome
        return outcomes
