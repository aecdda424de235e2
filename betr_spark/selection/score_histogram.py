"""Histograms of scores: documents and tokens in narrow bins, from which the cut of a budget is read."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import Column
from pyspark.sql import functions as F

from betr_spark.schemas import N_TOKENS
from betr_spark.selection.budget import fraction_of
from betr_spark.selection.tally import DOCUMENTS, LOWEST, TOKENS, Grouping, Groups, Populations, Scored, kept_name

_COARSE, _FINE = (
    8,
    24,
)  # bins of a power of two, as powers of two; with 24, any two floats of 32 bits are in different bins
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

    def others(self) -> NDArray[np.int64]:
        """Documents of each bin that are not kept; [n]."""
        return self.documents - self.kept_documents

    def best_others(self, n: int) -> NDArray[np.int64]:
        """Positions of the bins that have the `n` best documents that are not kept: at most n bins."""
        others = self.others()
        before = np.cumsum(others) - others
        return np.flatnonzero((others > 0) & (before < n))

    def lowest_kept(self) -> NDArray[np.int64]:
        """Position of the last bin that has a kept document; of length 0 if none has."""
        return np.flatnonzero(self.kept_documents)[-1:]

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
        """The cut at a budget; of the bin there, whole documents of a part as large as that of the tokens, and their tokens."""
        if not len(self.number):
            return Cut(rate, math.nan, math.inf, 0, 0, None, {})
        last = self.position(budget)
        before = int(self.tokens[:last].sum())
        part = min(1.0, (budget - before) / max(1, int(self.tokens[last])))
        of_last = int(part * int(self.documents[last]))
        documents, tokens = int(self.documents[:last].sum()) + of_last, before
        tokens += int(self.tokens[last]) * of_last // int(self.documents[last])
        logit = float(self.logit[last if of_last or not last else last - 1])  # a document that does not fit is not kept
        score = logit if by_value else 1 / (1 + math.exp(-logit)) if logit > -_LARGE else 0.0
        epochs = train_tokens / tokens if train_tokens and tokens else None
        return Cut(rate, score, logit, documents, tokens, epochs, {})


def score_histograms(populations: Populations, names: Sequence[str], rates: Sequence[float]) -> dict[str, Histogram]:
    """Count documents and tokens by score, in narrow bins where something is cut. Two passes over the documents.

    Narrow are the bins at the keep rates, at the tokens of the documents that are kept, of the last one of these, and of the
    best one that is not kept.

    Args:
        populations: of documents.
        names: of populations.
        rates: fractions of the tokens.

    Returns:
        By name; without the populations that have no document.
    """
    coarse = _histograms(populations, dict.fromkeys(names, _coarse_bins))
    at_cut = {}
    for name, of in coarse.items():
        budgets = [fraction_of(int(of.tokens.sum()), rate) for rate in rates] + ([of.kept] if of.kept else [])
        ends = [of.lowest_kept(), of.best_others(1)] if of.kept else []
        at_cut[name] = np.unique(np.concatenate([[of.position(budget) for budget in budgets], *ends]).astype(int))
    fine = _histograms(populations, {name: partial(_fine_bins, of.number[at_cut[name]]) for name, of in coarse.items()})
    return {name: of.refined(of.number[at_cut[name]], fine[name]) for name, of in coarse.items()}


def bin_numbers(logit: NDArray[np.float64], bits: int) -> NDArray[np.int64]:
    """Numbers of the bins of logits, lower for higher logits; bins of `bits` are parts of those of fewer bits.

    Each power of two has 2**bits bins of equal width. They are the first bits of the number, so they are the same everywhere.

    Args:
        logit: without NaN; [n].
        bits: at most 52.
    """
    number: NDArray[np.int64] = np.abs(logit).view(np.int64) >> (52 - bits)
    return np.where(logit > 0, -number, number)


def _coarse_bins(scored: Scored) -> Groups:
    return Groups({_BIN: bin_numbers(scored.logit, _COARSE)})


def _fine_bins(numbers: NDArray[np.int64], scored: Scored) -> Groups:
    """The narrow bins that are parts of coarse ones."""
    is_in = np.isin(bin_numbers(scored.logit, _COARSE), numbers)
    return Groups({_BIN: bin_numbers(scored.logit[is_in], _FINE)}, is_in)


def _histograms(populations: Populations, keys: Mapping[str, Grouping]) -> dict[str, Histogram]:
    """At most 2**20 coarse bins of each population, or 2**16 fine ones for each coarse one."""
    counted = populations.tally(keys, (DOCUMENTS, TOKENS, LOWEST))
    return {name: histogram for name, bins in counted.items() if len((histogram := _histogram(bins)).number)}


def _histogram(bins: pa.Table) -> Histogram:
    """Of the bins with a document. Where tables do not belong together, a selection has documents that are none any more."""
    bins = bins.sort_by(_BIN)
    number, documents, tokens, lowest, kept_documents, kept = (
        bins.column(name).to_numpy()
        for name in (_BIN, DOCUMENTS, TOKENS, LOWEST, kept_name(DOCUMENTS), kept_name(TOKENS))
    )
    documents = np.maximum(documents, kept_documents)
    used = documents > 0
    return Histogram(
        number[used],
        documents[used],
        np.maximum(tokens, 0)[used],
        lowest[used],
        kept_documents[used],
        int(kept.sum()),
    )
