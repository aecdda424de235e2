"""The section on rows: from the rows that were read to the documents of a selection, with every reason for a loss."""

from collections.abc import Mapping
from typing import NamedTuple

from pyspark.sql import SparkSession

from betr_spark import schemas
from betr_spark.config import Config
from betr_spark.schemas import EXACT, NEAR
from betr_spark.storage import delta, runs
from betr_spark.storage.runs import StageRun

_FORGOTTEN_SINCE = "forgotten_since"
_REASONS = {
    "null_text": "the text is null",
    "null_id": "the id is null or empty",
    "invalid_utf8": "the text, the id or the line is not UTF-8",
    "invalid_json": "the line is not one JSON object",
    "text_not_a_string": "the JSON value of the text is not a string",
    "text_too_long": "the text is longer than input.max_text_bytes",
    "invalid_tokens": "the value of input.tokens.column cannot be used",
    "copies": "further copies of a text; without input.id, equal texts are one document",
    "forgotten": "rows of documents that were forgotten",
    _FORGOTTEN_SINCE: "documents that were forgotten since",
    EXACT: "exact copies of a document that stays",
    NEAR: "near duplicates of a document that stays",
    "contaminated": "documents with a test item of a benchmark",
    "no_score": "documents without a score: no word, or no number in the column of the scorer",
    "where": "documents that the rule `where` leaves out",
    "below_cut": "documents below the cut",
}


class Step(NamedTuple):
    """A line of the funnel: a total, or a loss with its reason."""

    name: str
    text: str
    rows: int
    is_total: bool


class Funnel(NamedTuple):
    """Totals and losses in the order of the data; `gaps` says where the stages' records do not agree, else it is empty."""

    steps: list[Step]
    gaps: list[str]


class Records(NamedTuple):
    """The records of the runs that wrote the current tables; None where there is no table.

    `n_features` are the rows that `features` has now, which are fewer than its run wrote after `betr-spark forget`.
    """

    features: StageRun | None
    dedup: StageRun | None
    select: StageRun | None
    n_features: int | None = None

    @classmethod
    def of(cls, spark: SparkSession, config: Config) -> "dict[str, Records]":
        """Read the newest commits of `features`, `duplicates` and `selected/NAME`; by the names of all selections."""
        path = config.table(schemas.FEATURES_TABLE)
        n_features = delta.read(spark, path).count() if delta.exists(spark, path) else None  # Delta's log has it
        features, dedup = (
            runs.made_by(spark, config.table(name)) for name in (schemas.FEATURES_TABLE, schemas.DUPLICATES_TABLE)
        )
        of_selections = {name: runs.made_by(spark, config.table(f"selected/{name}")) for name in config.selections}
        return {name: cls(features, dedup, select, n_features) for name, select in of_selections.items()}


def funnel(records: Records, *, n_selected: int | None) -> Funnel | None:
    """Arrange the counts of the stages; None before `features`.

    Args:
        records: of the tables.
        n_selected: documents of the selection's table, each once; None if there is no table.
    """
    features, dedup, select, n_features = records
    if features is None:
        return None
    steps = [Step("read", "rows read from the input", features.rows_in, is_total=True), *_losses(features.dropped)]
    steps.append(Step("features", "documents with a text and an id", features.rows_out, is_total=True))
    gaps = _gap(
        "rows read", features.rows_in - sum(features.dropped.values()), features.rows_out, "documents in `features`"
    )
    n_left = features.rows_out if n_features is None else min(n_features, features.rows_out)
    steps += _losses({_FORGOTTEN_SINCE: features.rows_out - n_left})
    if dedup is not None:
        left = dedup.rows_in - dedup.rows_out
        gaps += _gap("documents in `features`", n_left, dedup.rows_in, "documents that `dedup` compared")
        steps += [*_losses(dedup.dropped), Step("dedup", "documents that are no duplicates", left, is_total=True)]
    if select is not None and n_selected is not None:
        others = {name: count for name, count in select.dropped.items() if name not in ("duplicate", "below_cut")}
        eligible = select.rows_in - sum(others.values()) - select.dropped.get("duplicate", 0)
        gaps += _gap("documents in `features`", n_left, select.rows_in, "documents that `select` ranked")
        if dedup is not None:
            removed = select.dropped.get("duplicate", 0)
            gaps += _gap("documents that `dedup` removed", dedup.rows_out, removed, "duplicates that `select` left out")
        below = select.dropped.get("below_cut", 0)
        gaps += _gap("eligible documents above the cut", eligible - below, n_selected, "documents of the selection")
        steps += [*_losses(others), Step("eligible", "documents that the selection may keep", eligible, is_total=True)]
        steps += [*_losses({"below_cut": below}), Step("selected", "documents selected", n_selected, is_total=True)]
    return Funnel(steps, gaps)


def _losses(dropped: Mapping[str, int]) -> list[Step]:
    return [Step(name, _REASONS.get(name, name), count, is_total=False) for name, count in dropped.items() if count]


def _gap(left: str, n_left: int, n_right: int, right: str) -> list[str]:
    if n_left == n_right:
        return []
    return [f"{left}: {n_left:,}, but {right}: {n_right:,}; the tables are of different runs, rerun `betr-spark run`"]
