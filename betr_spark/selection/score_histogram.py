"""Histograms of scores: documents and tokens in narrow bins, from which the cut of a budget is read."""

import math
from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from betr_spark.schemas import LOGIT, N_TOKENS
from betr_spark.selection.budget import fraction_of

NUMBER = "number"
_COARSE, _FINE = 8, 23  # bits of the mantissa that tell bins apart; those of floats of 32 bits are 23
_MIN_EXPONENT, _MAX_DOUBLE = -1100, 1.7976931348623157e308
_BIN = "bin"
_LARGE = 700.0  # exp of more overflows


class Cut(NamedTuple):
    """A keep rate: the score at the cut, the number of documents (about), their tokens, and the tokens of each source.

    The score is what `keep.min_score` is compared with: of an expression scorer, the value of its column.

    `epochs` is how often a training run reads each token; None without a number of training tokens.
    """

    keep_rate: float
    score: float
    logit: float
    documents: int
    tokens: int
    epochs: float | None
    source_tokens: dict[str, int]


class Histogram(NamedTuple):
    """Bins of the ranking, the best first: number, documents, tokens, the lowest logit, documents that are kept; each [n].

    `kept` are the tokens of the documents that are kept; where it is not known which these are, none is.
    """

    number: NDArray[np.int64]
    documents: NDArray[np.int64]
    tokens: NDArray[np.int64]
    logit: NDArray[np.float64]
    kept_documents: NDArray[np.int64]
    kept: int

    @classmethod
    def empty(cls) -> Self:
        """Of no document."""
        counts = np.empty(0, np.int64)
        return cls(counts, counts, counts, np.empty(0, np.float64), counts, 0)

    def position(self, budget: int) -> int:
        """Position of the bin in which the tokens reach a budget."""
        return min(int(np.searchsorted(np.cumsum(self.tokens), budget)), len(self.tokens) - 1)

    def logit_of_others(self, n: int) -> float:
        """A logit that the `n` best documents that are not kept reach, and few other ones of these; -inf if there are fewer."""
        up_to = np.cumsum(self.documents - self.kept_documents)
        position = int(np.searchsorted(up_to, n))
        return float(self.logit[position]) if position < len(up_to) else -math.inf

    def is_in(self, positions: NDArray[np.int64], logit: Column) -> Column:
        """Whether a logit is in one of some bins, by comparisons with the lowest logits."""
        found = F.lit(False)
        for position in positions.tolist():
            is_in_bin = logit >= F.lit(float(self.logit[position]))
            found |= is_in_bin & (logit < F.lit(float(self.logit[position - 1]))) if position else is_in_bin
        return found

    def refined(self, numbers: NDArray[np.int64], fine: "Histogram") -> "Histogram":
        """Replace some bins by finer ones."""
        others = ~np.isin(self.number, numbers)
        first = np.concatenate([self.number[others] << (_FINE - _COARSE), fine.number])
        order = np.argsort(first)
        documents, tokens, logit, kept_documents = (
            np.concatenate([mine[others], theirs])[order] for mine, theirs in zip(self[1:5], fine[1:5], strict=True)
        )
        return Histogram(first[order], documents, tokens, logit, kept_documents, self.kept)

    def kept_tokens(self, budget: int, logit: Column) -> Column:
        """Sum of the tokens that a budget keeps; of the bin at the cut, a part of every document's.

        Args:
            budget: tokens.
            logit: that the histogram is of; documents without one are not kept.
        """
        if not len(self.number):
            return F.lit(0.0)
        last = self.position(budget)
        above = float(self.logit[last - 1]) if last else math.inf
        part = min(1.0, (budget - int(self.tokens[:last].sum())) / max(1, int(self.tokens[last])))
        is_part = (logit < F.lit(above)) & (logit >= F.lit(float(self.logit[last])))
        share = F.when(logit >= F.lit(above), F.lit(1.0)).when(is_part, F.lit(part)).otherwise(F.lit(0.0))
        return F.sum(share * F.col(N_TOKENS))

    def cut(self, rate: float, budget: int, train_tokens: float | None, *, by_value: bool) -> Cut:
        """The cut at a budget; of the bin there, whole documents of a part as large as that of the tokens."""
        if not len(self.number):
            return Cut(rate, math.nan, math.inf, 0, 0, None, {})
        last = self.position(budget)
        before = int(self.tokens[:last].sum())
        part = min(1.0, (budget - before) / max(1, int(self.tokens[last])))
        of_last = int(part * int(self.documents[last]))
        documents = int(self.documents[:last].sum()) + of_last
        logit = float(self.logit[last if of_last or not last else last - 1])  # a document that does not fit is not kept
        score = logit if by_value else 1 / (1 + math.exp(-logit)) if logit > -_LARGE else 0.0
        epochs = train_tokens / budget if train_tokens and budget else None
        return Cut(rate, score, logit, documents, budget, epochs, {})


def by_number(rows: DataFrame, logits: Sequence[Column], *others: Sequence[Column]) -> DataFrame:
    """One row for each document and each of the logits that is not null: n_tokens, `number` of the logit, logit, and others.

    Args:
        rows: n_tokens, and what the columns name.
        logits: any number of them.
        others: further columns, one for each logit; all of a sequence have the same name.
    """
    numbered = [
        F.struct(F.lit(number).alias(NUMBER), logit.cast("double").alias(LOGIT), *more)
        for number, (logit, *more) in enumerate(zip(logits, *others, strict=True))
    ]
    return rows.select(N_TOKENS, F.inline(F.array(*numbered))).where(F.col(LOGIT).isNotNull())


def score_histograms(rows: DataFrame, rates: Sequence[float], *, is_kept: Column | None = None) -> dict[int, Histogram]:
    """Count documents and tokens by score, in narrow bins at the cuts of the keep rates. `rows` are read twice.

    Args:
        rows: as `by_number` gives them.
        rates: fractions of the tokens.
        is_kept: whether a document is kept; then the tokens of these are one more budget.

    Returns:
        By number; without the numbers that no row has.
    """
    coarse = _bin(F.col(LOGIT), _COARSE)
    is_kept = F.lit(False) if is_kept is None else is_kept
    bins = _histograms(rows, coarse, is_kept)
    if not bins:
        return {}
    at_cut, is_there = {}, F.lit(False)
    for number, of in bins.items():
        budgets = [fraction_of(int(of.tokens.sum()), rate) for rate in rates] + ([of.kept] if of.kept else [])
        cuts = np.unique([of.position(budget) for budget in budgets])
        at_cut[number] = of.number[cuts]
        is_there |= (F.col(NUMBER) == number) & of.is_in(cuts, F.col(LOGIT))
    fine = _histograms(rows.where(is_there), _bin(F.col(LOGIT), _FINE), is_kept)
    return {number: of.refined(at_cut[number], fine[number]) for number, of in bins.items()}


def _bin(logit: Column, bits: int) -> Column:
    """Number of a logit's bin, lower for higher logits; bins of `bits` are parts of those of fewer bits.

    Within a power of two bins have the same width. In SQL, because starting Python workers takes longer than `plan` needs.
    """
    value = F.greatest(F.least(logit.cast("double"), F.lit(_MAX_DOUBLE)), F.lit(-_MAX_DOUBLE))
    size = F.abs(value)
    exponent = F.floor(F.log2(size))  # null for 0
    fraction = F.floor(size / F.pow(F.lit(2.0), exponent) * F.lit(2.0**bits))  # 2**bits or more
    number = (exponent - _MIN_EXPONENT - 1) * F.lit(2**bits) + fraction
    return F.coalesce(F.when(value > 0, -number).otherwise(number), F.lit(0)).cast("bigint")


def _histograms(rows: DataFrame, number: Column, is_kept: Column) -> dict[int, Histogram]:
    """At most 2**20 coarse bins of each number, or 2**15 fine ones for each coarse one."""
    tokens = [F.coalesce(F.sum(values), F.lit(0)) for values in (F.col(N_TOKENS), F.when(is_kept, F.col(N_TOKENS)))]
    columns = [F.count("*"), tokens[0], F.min(LOGIT), F.count_if(is_kept), tokens[1]]
    bins = rows.groupBy(NUMBER, number.alias(_BIN)).agg(*columns).toArrow()
    table = bins.sort_by([(NUMBER, "ascending"), (_BIN, "ascending")])
    numbers, bins_of, documents, tokens, logit, kept_documents, kept = (column.to_numpy() for column in table.columns)
    found = np.unique(numbers)
    starts, ends = np.searchsorted(numbers, found), np.searchsorted(numbers, found, side="right")
    return {
        int(number): Histogram(
            bins_of[start:end],
            documents[start:end],
            tokens[start:end],
            logit[start:end],
            kept_documents[start:end],
            int(kept[start:end].sum()),
        )
        for number, start, end in zip(found, starts, ends, strict=True)
    }
