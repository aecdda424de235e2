"""Figures of a selection: the share of each source before and after it, and the best documents."""

from typing import Any, NamedTuple

from pyspark.sql import DataFrame, SparkSession
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
        lines.append("  best documents:")
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
        return rows.groupBy(F.coalesce(SOURCE, F.lit("(none)")).alias(SOURCE)).agg(F.sum(N_TOKENS).alias(name))

    both = tokens(before, "before").join(tokens(after, "after"), on=SOURCE, how="left").fillna(0)
    totals = both.agg(F.sum("before"), F.sum("after"), F.count("*")).first()
    total_before, total_after, n_sources = (max(1, value or 0) for value in totals or (0, 0, 0))
    rows = both.orderBy(F.desc("before"), SOURCE).limit(n_shown).collect()  # n_shown rows
    shares = [SourceShare(row[SOURCE], row["before"] / total_before, row["after"] / total_after) for row in rows]
    return shares, n_sources


def selection_figures(
    spark: SparkSession, config: Config, name: str, *, as_of: str | None = None,
    shares: tuple[list[SourceShare], int] | None = None,
) -> SelectionFigures:  # fmt: skip
    """Read the figures of one finished selection.

    Args:
        spark: the session.
        config: for the output.
        name: of the selection.
        as_of: version or time of `selected/NAME`; `features` and `duplicates` are then those that it was made from.
        shares: as `source_shares` returns them, if they are known; else they are computed.
    """
    path, versions = config.table(f"selected/{name}"), dict[str, int]()
    if as_of is not None:
        commit = delta.commit_at(spark, path, as_of)
        inputs = delta.as_object(commit.user_metadata).get("input_versions", {})
        tables = (schemas.FEATURES_TABLE, schemas.DUPLICATES_TABLE)
        versions = {table: int(inputs[table].partition(":")[0]) for table in tables if table in inputs}
        versions["selected"] = commit.version
        for table_name, version in versions.items():
            if not delta.has_files(spark, path if table_name == "selected" else config.table(table_name), version):
                raise DataError(
                    f"--as-of: {as_of}: files of version {version} of `{table_name}` were deleted, as `betr-spark maintain` "
                    "does; choose a later version"
                )
    selected = delta.read(spark, path, version=versions.get("selected"))

    def table(name: str) -> DataFrame:
        return delta.read(spark, config.table(name), version=versions.get(name))

    features, unit = counted_if_configured(table(schemas.FEATURES_TABLE), config)
    if REPEAT_COUNT in selected.columns:
        selected = selected.withColumn(N_TOKENS, F.col(N_TOKENS).cast("bigint") * F.col(REPEAT_COUNT))
    size = selected.agg(F.count("*"), F.sum(N_TOKENS)).first()
    n_documents, n_tokens = (int(value or 0) for value in size or (0, 0))
    top = selected.where(F.col(RANK) <= _BEST).orderBy(RANK)
    best = [
        (row[RANK], row[LOGIT], row[SOURCE] or "(none)", row[DOC_ID], " ".join(row[TEXT].split())[:_TEXT_SHOWN])
        for row in top.select(RANK, LOGIT, SOURCE, DOC_ID, F.substring(TEXT, 1, 4 * _TEXT_SHOWN).alias(TEXT)).collect()
    ]
    settings, contamination = config.decontaminate, None
    if delta.exists(spark, config.table(schemas.CONTAMINATION_TABLE)):
        rows = contamination_rows(spark, config)
        benchmarks = list(settings.files(config.targets)) if settings else []
        ids = selected.select(DOC_ID).distinct() if PHASE in selected.columns else selected  # each document once
        contamination = amplification(rows, features, ids, n_selected=ids.count(), benchmarks=benchmarks)
    if shares is None:
        removed = table(schemas.DUPLICATES_TABLE).select(DOC_ID)
        survivors = features.where(F.col(N_WORDS) > 0).join(removed, on=DOC_ID, how="left_anti")
        shares = source_shares(survivors, selected)
    action = settings.action if settings else None
    return SelectionFigures(name, n_documents, n_tokens, unit, *shares, best, contamination, action)
