"""Queries over the views; each has a bounded result.

They run in the Spark session: so they read every file system and every size of table that a run reads. Nothing takes the lease.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property, reduce
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from betr_spark import schemas
from betr_spark.config import Config
from betr_spark.look.scores import Scores
from betr_spark.look.views import LABELS, RANDOM, SAMPLE, UNMARKED, WORST, Filters, Hit, View, open_views, pinned
from betr_spark.schemas import BEST_BENCHMARK, DOC_ID, LABEL, PHASE, RANK, SOURCE, TEXT
from betr_spark.spark.jobs import describe

PAGE, MOST = 25, 1000  # documents of a page, and of all pages of a list
EXCERPT, PART = 1_500, 200_000  # characters of a text in a list, and of a part of a document
N_CHARACTERS = "n_characters"
_BEFORE_MATCH = 200
_MOST_SOURCES = 100
_SHOWN = "score_shown"


class Tables:
    """The views of an output, as they are when this is made."""

    def __init__(self, spark: SparkSession, config: Config) -> None:
        """Open the tables; raises what `open_views` raises."""
        self.config, self._spark = config, spark
        self.views = open_views(spark, config)
        self._features, self._duplicates = (
            pinned(spark, config.table(name)) for name in (schemas.FEATURES_TABLE, schemas.DUPLICATES_TABLE)
        )

    @cached_property
    def scores(self) -> Scores | None:
        """The scores of `features`, if it exists."""
        features = self._features
        return None if features is None else Scores(features, self.config)

    @property
    def selections(self) -> list[str]:
        """Names of the selections that have a view."""
        return [key.partition("/")[2] for key in self.views if key != SAMPLE]

    def has_benchmarks(self, view: View) -> bool:
        """Whether documents can be filtered by benchmark: by a column of the view, or by that of the ranked sample."""
        sample = self.views.get(SAMPLE)
        return view.benchmark is not None or (sample is not None and sample.benchmark is not None)

    def sources(self, view: View) -> list[str]:
        """The sources with the most documents, at most 100."""
        describe(self._spark, "look: sources")
        counts = view.documents.where(F.col(SOURCE).isNotNull()).groupBy(SOURCE).count()
        return [row[SOURCE] for row in counts.orderBy(F.desc("count"), SOURCE).limit(_MOST_SOURCES).collect()]

    def hits(self, filters: Filters, marks: Mapping[str, str]) -> list[Hit]:
        """The documents of a list in order, at most MOST + 1: the last one only says that there are more."""
        describe(self._spark, "look: filter")
        view = self.views[filters.view]
        rows = self._marked(self._filtered(view, filters), filters.mark, marks)
        score, order = view.score, view.worst if filters.order == WORST else view.best
        if filters.scorer and self.scores is not None:
            rows = rows.join(self.scores.of(filters.scorer, _SHOWN), on=DOC_ID, how="inner")
            score = F.col(_SHOWN)
            order = [F.asc(_SHOWN) if filters.order == WORST else F.desc(_SHOWN), F.xxhash64(DOC_ID), F.col(DOC_ID)]
        if score is not None:
            rows = rows.withColumn(_SHOWN, score.cast("double"))
            rows = rows if filters.low is None else rows.where(F.col(_SHOWN) >= filters.low)
            rows = rows if filters.high is None else rows.where(F.col(_SHOWN) <= filters.high)
        if filters.order == RANDOM:
            order = [F.xxhash64(F.lit("look"), DOC_ID), F.col(DOC_ID)]
        names = (DOC_ID, RANK, PHASE, _SHOWN)
        columns = [name for name in names if name in rows.columns]
        found = rows.orderBy(*order).limit(MOST + 1).select(*columns).collect()  # at most 1,001 short rows
        rest = [[row[name] if name in columns else None for name in names[1:]] for row in found]
        return [Hit(row[DOC_ID], *values) for row, values in zip(found, rest, strict=True)]

    def excerpts(self, view: View, hits: Sequence[Hit], search: str) -> dict[Hit, dict[str, Any]]:
        """All columns of the documents of a page, with the beginning of the text, or the text around a match of the search."""
        describe(self._spark, "look: texts of a page")
        start: Column = F.lit(1)
        if search:
            at = F.position(F.lower(F.lit(search)), F.lower(F.col(TEXT)))
            start = F.greatest(F.lit(1), at - F.lit(_BEFORE_MATCH))
        rows = {(row[DOC_ID], row.get(PHASE)): row for row in self._rows(view, hits, start, EXCERPT)}
        return {hit: rows[hit.doc_id, hit.phase] for hit in hits if (hit.doc_id, hit.phase) in rows}

    def document(self, view: View, doc_id: str, part: int) -> dict[str, Any] | None:
        """All columns of a document with one part of its text, parts are numbered from 0; None where the view has none."""
        describe(self._spark, "look: a document")
        rows = self._rows(view, [Hit(doc_id)], F.lit(1 + part * PART), PART)
        return rows[0] if rows else None

    def places(self, doc_id: str) -> dict[str, str]:
        """What became of a document: its rank in each selection, and the document that deduplication kept for it."""
        describe(self._spark, "look: selections of a document")
        places = {}
        for name in self.selections:
            rows = self.views[f"selected/{name}"].documents.where(F.col(DOC_ID) == doc_id)
            ranks = [str(row[RANK]) for row in rows.select(RANK).limit(PAGE).collect()]  # one for each phase
            places[name] = f"rank {', '.join(ranks)}" if ranks else "not selected"
        removed = None if self._duplicates is None else self._duplicates.where(F.col(DOC_ID) == doc_id).first()
        if removed is not None:
            kind, kept, similarity = (removed[c] for c in (schemas.KIND, schemas.KEPT_DOC_ID, schemas.SIMILARITY))
            places["deduplication"] = f"removed: {kind} duplicate of {kept} (similarity {similarity:.2f})"
        return places

    def texts(self, doc_ids: Collection[str]) -> DataFrame:
        """doc_id, text of those of the documents that a view has; one row each, in the order of the ids."""
        ids = self._ids(doc_ids)
        parts = [
            view.documents.select(DOC_ID, TEXT).join(ids, on=DOC_ID, how="left_semi") for view in self.views.values()
        ]
        return reduce(DataFrame.unionByName, parts).groupBy(DOC_ID).agg(F.first(TEXT).alias(TEXT)).orderBy(DOC_ID)

    def sampled(self, doc_ids: Collection[str]) -> set[str]:
        """Which of the documents are in the sample."""
        if SAMPLE not in self.views:
            return set()
        rows = self.views[SAMPLE].documents.select(DOC_ID).join(self._ids(doc_ids), on=DOC_ID, how="left_semi")
        return {row[DOC_ID] for row in rows.collect()}  # as many as are marked

    def _rows(self, view: View, hits: Sequence[Hit], start: Column, length: int) -> list[dict[str, Any]]:
        rows = view.documents.where(F.col(DOC_ID).isin([hit.doc_id for hit in hits]))
        ranks = [hit.rank for hit in hits if hit.rank is not None]
        if len(ranks) == len(hits):  # the files are in order of rank, so most are skipped
            rows = rows.where(F.col(RANK).isin(ranks))
        text = F.substr(F.col(TEXT), start, F.lit(length)).alias(TEXT)
        columns = [name for name in rows.columns if name not in (TEXT, N_CHARACTERS)]
        chosen = rows.select(*columns, F.length(TEXT).alias(N_CHARACTERS), text)
        limit = len(hits) * PAGE  # ids are unique, but for one row for each phase
        return [row.asDict(recursive=True) for row in chosen.limit(limit).collect()]

    def _filtered(self, view: View, filters: Filters) -> DataFrame:
        rows = view.documents
        if filters.source:
            rows = rows.where(F.col(SOURCE) == filters.source)
        if filters.text:
            rows = rows.where(F.contains(F.lower(TEXT), F.lower(F.lit(filters.text))))
        if filters.label and LABEL in rows.columns:
            rows = rows.where(F.col(LABEL).eqNullSafe(F.lit(LABELS[filters.label])))
        if filters.benchmark and view.benchmark is not None:
            rows = rows.where(F.col(view.benchmark) == filters.benchmark)
        elif filters.benchmark and self.has_benchmarks(view):
            ranked = self.views[SAMPLE].documents.where(F.col(BEST_BENCHMARK) == filters.benchmark)
            rows = rows.join(ranked.select(DOC_ID), on=DOC_ID, how="left_semi")
        if filters.kept:
            ids = self.views[f"selected/{filters.kept[1:]}"].documents.select(DOC_ID)
            rows = rows.join(ids, on=DOC_ID, how="left_semi" if filters.kept[0] == "+" else "left_anti")
        return rows

    def _marked(self, rows: DataFrame, mark: str, marks: Mapping[str, str]) -> DataFrame:
        if not mark:
            return rows
        ids = [doc_id for doc_id, given in marks.items() if mark in (given, UNMARKED)]
        return rows.join(self._ids(ids), on=DOC_ID, how="left_anti" if mark == UNMARKED else "left_semi")

    def _ids(self, doc_ids: Collection[str]) -> DataFrame:
        """Marked documents; they are as many as a person has read."""
        return F.broadcast(self._spark.createDataFrame([(doc_id,) for doc_id in doc_ids], f"{DOC_ID} string"))
