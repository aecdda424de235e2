"""The scores of `features` by every scorer of the configuration that it has."""

import math
from typing import NamedTuple

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from betr_spark.config import RANDOM_SCORER, Config
from betr_spark.config.scorers import RandomScorer
from betr_spark.schemas import DOC_ID, logit_column
from betr_spark.scoring.combination import with_combined_logits
from betr_spark.scoring.logit import logit_of, score_of


class DocumentScore(NamedTuple):
    """What a scorer gives a document; both are None without text, and `logit` also where the score is a column of the input."""

    scorer: str
    score: float | None
    logit: float | None


class Scores:
    """The rows of `features`, with the logits of combinations, whose percentiles are computed once, here."""

    def __init__(self, features: DataFrame, config: Config) -> None:
        """Find the scorers that `features` has.

        Args:
            features: the table.
            config: names the scorers.
        """
        self._config = config
        stored = [name for name in config.scored() if logit_column(name) in features.columns]
        combined = [name for name, parts in config.combinations().items() if set(parts) <= set(stored)]
        drawn = [name for name, scorer in config.scorers.items() if isinstance(scorer, RandomScorer)]
        if any(selection.scorer == RANDOM_SCORER for selection in config.selections.values()):
            drawn.append(RANDOM_SCORER)  # it needs no key of its own
        self.names = list(dict.fromkeys([*stored, *combined, *drawn]))
        self._features = with_combined_logits(features, config, combined)

    def of(self, scorer: str, column: str) -> DataFrame:
        """doc_id and the score of a scorer, double, under a name; only documents that have one."""
        rows = self._features.select(DOC_ID, self._score(scorer).alias(column))
        return rows.where(F.col(column).isNotNull())

    def document(self, doc_id: str) -> list[DocumentScore]:
        """The scores of one document; empty where `features` does not have it."""
        columns = [
            column
            for name in self.names
            for column in (
                self._score(name).alias(f"score_{name}"),
                logit_of(self._config, name).alias(f"logit_{name}"),
            )
        ]
        row = self._features.where(F.col(DOC_ID) == doc_id).select(DOC_ID, *columns).first()
        if row is None:
            return []
        values = [row[1 + 2 * index : 3 + 2 * index] for index in range(len(self.names))]
        is_value = self._config.expressions()
        return [
            DocumentScore(name, _number(score), None if name in is_value else _number(logit))
            for name, (score, logit) in zip(self.names, values, strict=True)
        ]

    def _score(self, scorer: str) -> Column:
        """The column of the input for an `expression` scorer, else a number in [0, 1]."""
        logit = logit_of(self._config, scorer)
        return logit.cast("double") if scorer in self._config.expressions() else score_of(logit)


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)
