"""Figures of a selection: the share of each source before and after it, and its first documents."""

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any, NamedTuple

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from betr_spark import schemas
from betr_spark.config import Config
from betr_spark.contamination.detection import contamination_rows
from betr_spark.errors import DataError
from betr_spark.features.token_unit import counted_if_configured
from betr_spark.report.amplification import Amplification, amplification
from betr_spark.schemas import DOC_ID, LOGIT, N_TOKENS, N_WORDS, PHASE, RANK, REPEAT_COUNT, SOURCE, TEXT
from betr_spark.storage import delta

_BEST = 10
_TEXT_SHOWN = 100
_SOURCES_SHOWN = 20
_INPUTS = (schemas.FEATURES_TABLE, schemas.DUPLICATES_TABLE)
_NAME = "name"
NO_SOURCE = "(none)"


class SourceShare(NamedTuple):
    """Tokens of one source as a fraction of the survivors' tokens and of the kept tokens, in [0, 1]."""

    source: str
    before: float
    after: float


class SelectionFigures(NamedTuple):
    """Figures of one selection.

    `unit` is what tokens are; `shares` has the largest of `n_sources` sources; `best` has (rank, logit, source, doc_id,
    start of the text). Tokens of the selection count as often as their document is repeated. `contamination` is None where the
    table `contamination` does not exist; `contamination_action` is the configuration's `decontaminate.action`, if there is one.
    """

    name: str
    n_documents: int
    n_tokens: int
    unit: str
    shares: list[SourceShare]
    n_sources: int
    best: list[tuple[int, float, str, str, str]]
    contamination: list[Amplification] | None
    contamination_action: str | None

    def to_mapping(self) -> dict[str, Any]:
        """The figures with names, for JSON."""
        best = [dict(zip(("rank", "logit", "source", "doc_id", "text"), row, strict=True)) for row in self.best]
        return {**self._asdict(), "shares": [share._asdict() for share in self.shares], "best": best}

    def lines(self) -> list[str]:
        """Format the figures as lines of text."""
        lines = [f"  {'share of tokens, by source':32} {'corpus':>7} -> selected"]
        for share in self.shares:
            change = f"{share.after / share.before:6.2f} x" if share.before else ""
            lines.append(f"  {share.source[:32]:32} {share.before:7.2%} -> {share.after:7.2%} {change}")
        if self.n_sources > len(self.shares):
            lines.append(f"  ... and {self.n_sources - len(self.shares)} more sources")
        lines.append("  first documents of the selection:")
        for rank, logit, source, doc_id, text in self.best:
            lines.append(f"  {rank:3}. logit {logit:.2f} {source} {doc_id}: {text}")
        if self.contamination is not None:
            lines.append("  documents with test items, corpus -> selected, and the ratio; in brackets 95 % intervals:")
            lines += [f"  {figures}" for figures in self.contamination]
            lines += (
                ["  `action: drop` leaves them out of the selection"] if self.contamination_action == "drop" else []
            )
        return lines


def source_shares(
    before: DataFrame, after: DataFrame, *, n_shown: int = _SOURCES_SHOWN
) -> tuple[list[SourceShare], int]:
    """Return the shares of the largest sources, by tokens before, and the number of all sources.

    Args:
        before: source, n_tokens; one row a document.
        after: source, n_tokens; one row a document.
        n_shown: maximum number of sources returned.
    """

    def tokens(rows: DataFrame, name: str) -> DataFrame:
        return rows.groupBy(F.coalesce(SOURCE, F.lit(NO_SOURCE)).alias(SOURCE)).agg(F.sum(N_TOKENS).alias(name))

    both = tokens(before, "before").join(tokens(after, "after"), on=SOURCE, how="left").fillna(0)
    totals = both.agg(F.sum("before"), F.sum("after"), F.count("*")).first()
    total_before, total_after, n_sources = (max(1, value or 0) for value in totals or (0, 0, 0))
    rows = both.orderBy(F.desc("before"), SOURCE).limit(n_shown).collect()  # n_shown rows
    shares = [SourceShare(row[SOURCE], row["before"] / total_before, row["after"] / total_after) for row in rows]
    return shares, n_sources


Shares = tuple[list[SourceShare], int]


def selection_figures(
    spark: SparkSession, config: Config, names: Sequence[str], *, as_of: str | None = None,
    shares: Mapping[str, Shares] | None = None,
) -> dict[str, SelectionFigures]:  # fmt: skip
    """Read the figures of finished selections.

    Args:
        spark: the session.
        config: for the output.
        names: of the selections.
        as_of: version or time of `selected/NAME`; `features` and `duplicates` are then those that it was made from.
        shares: as `source_shares` returns them, by name, where they are known; else they are computed.

    Returns:
        By name.
    """
    versions = {name: dict[str, int]() if as_of is None else _versions(spark, config, name, as_of) for name in names}
    selected = {name: _selected(spark, config, name, versions[name].get("selected")) for name in names}
    sizes, best, settings = _sizes(selected), _best(selected), config.decontaminate
    action = settings.action if settings else None
    found = {}
    for name, rows in selected.items():
        features, unit = counted_if_configured(_at(spark, config, schemas.FEATURES_TABLE, versions[name]), config)
        contamination = _contamination(spark, config, features, rows)
        of_sources = (shares or {}).get(name)
        if of_sources is None:
            duplicates = _at(spark, config, schemas.DUPLICATES_TABLE, versions[name]).select(DOC_ID)
            survivors = features.where(F.col(N_WORDS) > 0).join(duplicates, on=DOC_ID, how="left_anti")
            of_sources = source_shares(survivors, rows)
        found[name] = SelectionFigures(name, *sizes[name], unit, *of_sources, best[name], contamination, action)
    return found


def _versions(spark: SparkSession, config: Config, name: str, as_of: str) -> dict[str, int]:
    """Versions of the selection, as `selected`, and of the tables that it was made from."""
    path = config.table(f"selected/{name}")
    commit = delta.commit_at(spark, path, as_of)
    inputs = delta.as_object(commit.user_metadata).get("input_versions", {})
    versions = {table: int(inputs[table].partition(":")[0]) for table in _INPUTS if table in inputs}
    versions["selected"] = commit.version
    for table_name, version in versions.items():
        if not delta.has_files(spark, path if table_name == "selected" else config.table(table_name), version):
            raise DataError(
                f"--as-of: {as_of}: files of version {version} of `{table_name}` were deleted, as `betr-spark maintain` "
                "does; choose a later version"
            )
    return versions


def _at(spark: SparkSession, config: Config, table: str, versions: Mapping[str, int]) -> DataFrame:
    return delta.read(spark, config.table(table), version=versions.get(table))


def _selected(spark: SparkSession, config: Config, name: str, version: int | None) -> DataFrame:
    """Rows of a selection; tokens as often as they are repeated."""
    rows = delta.read(spark, config.table(f"selected/{name}"), version=version)
    if REPEAT_COUNT not in rows.columns:
        return rows
    return rows.withColumn(N_TOKENS, F.col(N_TOKENS).cast("bigint") * F.col(REPEAT_COUNT))


def _sizes(selected: Mapping[str, DataFrame]) -> dict[str, tuple[int, int]]:
    """Rows and tokens of selections, by name; one aggregation."""
    rows = [table.select(F.lit(name).alias(_NAME), F.col(N_TOKENS).cast("bigint")) for name, table in selected.items()]
    sizes = dict.fromkeys(selected, (0, 0))
    if rows:
        counted = reduce(DataFrame.unionAll, rows).groupBy(_NAME).agg(F.count("*"), F.sum(N_TOKENS))
        sizes |= {row[0]: (int(row[1]), int(row[2] or 0)) for row in counted.collect()}  # one row a selection
    return sizes


def _best(selected: Mapping[str, DataFrame]) -> dict[str, list[tuple[int, float, str, str, str]]]:
    """(rank, logit, source, doc_id, start of the text) of the first ranks of selections, by name; one query."""
    columns: list[Column | str] = [
        RANK, F.col(LOGIT).cast("double").alias(LOGIT), F.coalesce(SOURCE, F.lit(NO_SOURCE)).alias(SOURCE), DOC_ID,
        F.substring(TEXT, 1, 4 * _TEXT_SHOWN).alias(TEXT),
    ]  # fmt: skip
    tops = [
        table.where(F.col(RANK) <= _BEST).select(F.lit(name).alias(_NAME), *columns) for name, table in selected.items()
    ]
    best: dict[str, list[tuple[int, float, str, str, str]]] = {name: [] for name in selected}
    for name, *values, start in reduce(DataFrame.unionAll, tops).collect() if tops else []:  # _BEST of each selection
        best[name].append((*values, " ".join(start.split())[:_TEXT_SHOWN]))
    return {name: sorted(rows) for name, rows in best.items()}


def _contamination(
    spark: SparkSession, config: Config, features: DataFrame, selected: DataFrame
) -> list[Amplification] | None:
    """Documents with test items; None where the table does not exist."""
    if not delta.exists(spark, config.table(schemas.CONTAMINATION_TABLE)):
        return None
    settings = config.decontaminate
    benchmarks = list(settings.files(config.targets)) if settings else []
    ids = selected.select(DOC_ID).distinct() if PHASE in selected.columns else selected  # each document once
    return amplification(
        contamination_rows(spark, config), features, ids, n_selected=ids.count(), benchmarks=benchmarks
    )
