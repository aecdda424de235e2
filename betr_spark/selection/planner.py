"""What different keep rates would keep, for each scorer in `features`; reads no text."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from betr_spark import schemas
from betr_spark.config import TrainingConfig
from betr_spark.config.selections import Law
from betr_spark.contamination.detection import without_contaminated
from betr_spark.features.token_unit import counted_if_configured
from betr_spark.pipeline.stage import RunContext
from betr_spark.schemas import DOC_ID, LOGIT, N_TOKENS, SOURCE
from betr_spark.scoring.combination import with_combined_logits
from betr_spark.selection.budget import fraction_of
from betr_spark.selection.keep_rate import KeepRate, keep_rate
from betr_spark.selection.ranking import scored_survivors
from betr_spark.storage import delta

KEEP_RATES = (0.01, 0.03, 0.10, 0.30, 0.50)
_SOURCES = 10
_COARSE, _FINE = 8, 23  # bits of the mantissa that tell bins apart; those of floats of 32 bits are 23
_MIN_EXPONENT, _MAX_DOUBLE = -1100, 1.7976931348623157e308
_BIN, _TOKENS = "bin", "tokens"
_LARGE = 700.0  # exp of more overflows
OF_COMPUTE: tuple[Law, ...] = ("nemotron-cc", "dclm-refinedweb")
CAUTION = (
    "Tight filters repeat documents more often, and after about 4 epochs a repeated token is worth clearly less than a new one "
    "(arXiv 2305.16264). With much more compute than the laws were fitted to, weaker filters win (arXiv 2404.07177)."
)


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


class Outlook(NamedTuple):
    """A scorer: its documents with a score, their tokens, those of the largest sources, and what keep rates would keep.

    `unit` is what the tokens are; words if `features` does not have the counts that the configuration names.
    """

    scorer: str
    unit: str
    documents: int
    tokens: int
    source_tokens: dict[str, int]
    cuts: list[Cut]


def outlooks(
    context: RunContext, *, rates: Sequence[float] = KEEP_RATES, train_tokens: float | None = None
) -> list[Outlook]:
    """Look at each scorer that has a logit in `features`; empty before `features` has run.

    Documents that `duplicates` removes do not count; before `dedup` has run, all documents do.

    Args:
        context: of the command.
        rates: fractions of the tokens.
        train_tokens: tokens that the training run reads, for epochs.
    """
    spark, config = context.spark, context.config
    path = config.table(schemas.FEATURES_TABLE)
    if not delta.exists(spark, path):
        return []
    features, removed = delta.read(spark, path), config.table(schemas.DUPLICATES_TABLE)
    if delta.exists(spark, config.table(schemas.CONTAMINATION_TABLE)):
        features = without_contaminated(features, config)
    none = spark.createDataFrame([], f"{DOC_ID} string")
    duplicates = delta.read(spark, removed) if delta.exists(spark, removed) else none
    scorers = [name for name in config.scored() if schemas.logit_column(name) in features.columns]
    scorers += [name for name, parts in config.combinations().items() if set(parts) <= set(scorers)]
    features, unit = counted_if_configured(with_combined_logits(features, config, scorers), config)
    return [
        _outlook(
            name,
            scored_survivors(features, duplicates, config, name),
            unit=unit,
            rates=rates,
            train_tokens=train_tokens,
            by_value=name in config.expressions(),
        )
        for name in scorers
    ]


def laws(flops: float | None, tokens: float | None) -> dict[str, KeepRate]:
    """The published keep rates that apply to a training run of known compute or tokens, by the law's name."""
    runs = [TrainingConfig(flops=flops, law=law) for law in OF_COMPUTE] if flops else []
    runs += [TrainingConfig(tokens=tokens, law="fixed-6.6b")] if tokens else []
    return {run.law: keep_rate(run) for run in runs}


def _outlook(
    scorer: str, survivors: DataFrame, *, unit: str, rates: Sequence[float], train_tokens: float | None, by_value: bool
) -> Outlook:
    """Two histograms of the scores, the second one within the bins of the cuts, and one sum over the sources."""
    rows = survivors.select(SOURCE, N_TOKENS, LOGIT).persist()
    try:
        bins = score_histogram(rows, rates=rates)
        n_tokens = int(bins.tokens.sum())
        budgets = [fraction_of(n_tokens, rate) for rate in rates]
        cuts = [
            bins.cut(rate, budget, train_tokens, by_value=by_value) for rate, budget in zip(rates, budgets, strict=True)
        ]
        kept = [bins.kept_tokens(budget) for budget in budgets]
        named = [tokens.alias(str(number)) for number, tokens in enumerate(kept)]
        sources = rows.groupBy(F.coalesce(SOURCE, F.lit("(none)")).alias(SOURCE)).agg(
            F.sum(N_TOKENS).alias(_TOKENS), *named
        )
        largest = sources.orderBy(F.desc(_TOKENS), SOURCE).limit(_SOURCES).collect()
    finally:
        rows.unpersist()
    return Outlook(
        scorer=scorer, unit=unit, documents=int(bins.documents.sum()), tokens=n_tokens,
        source_tokens={row[SOURCE]: int(row[_TOKENS] or 0) for row in largest},
        cuts=[
            cut._replace(source_tokens={row[SOURCE]: int(row[str(number)] or 0) for row in largest})
            for number, cut in enumerate(cuts)
        ],
    )  # fmt: skip


def score_histogram(rows: DataFrame, *, rates: Sequence[float]) -> "Histogram":
    """Count documents and tokens by score, in narrow bins at the cuts of the keep rates. `rows` are read twice.

    Args:
        rows: logit and n_tokens.
        rates: fractions of the tokens.
    """
    coarse = _bin(F.col(LOGIT), _COARSE)
    bins = _histogram(rows, coarse)
    if not len(bins.number):
        return bins
    budgets = [fraction_of(int(bins.tokens.sum()), rate) for rate in rates]
    at_cut = np.unique(bins.number[[bins.position(budget) for budget in budgets]])
    fine = _histogram(rows.where(coarse.isin(*at_cut.tolist())), _bin(F.col(LOGIT), _FINE))
    return bins.refined(at_cut, fine)


class Histogram(NamedTuple):
    """Bins of the ranking, the best first: number, documents, tokens, the lowest logit; each [n]."""

    number: NDArray[np.int64]
    documents: NDArray[np.int64]
    tokens: NDArray[np.int64]
    logit: NDArray[np.float64]

    def position(self, budget: int) -> int:
        """Position of the bin in which the tokens reach a budget."""
        return min(int(np.searchsorted(np.cumsum(self.tokens), budget)), len(self.tokens) - 1)

    def refined(self, numbers: NDArray[np.int64], fine: "Histogram") -> "Histogram":
        """Replace some bins by finer ones."""
        others = ~np.isin(self.number, numbers)
        first = np.concatenate([self.number[others] << (_FINE - _COARSE), fine.number])
        order = np.argsort(first)
        joined = [
            np.concatenate([mine[others], theirs])[order] for mine, theirs in zip(self[1:], fine[1:], strict=True)
        ]
        return Histogram(first[order], *joined)

    def kept_tokens(self, budget: int) -> Column:
        """Sum of the tokens that a budget keeps; of the bin at the cut, a part of every document's."""
        if not len(self.number):
            return F.lit(0.0)
        last = self.position(budget)
        above = float(self.logit[last - 1]) if last else math.inf
        part = min(1.0, (budget - int(self.tokens[:last].sum())) / max(1, int(self.tokens[last])))
        is_part = (F.col(LOGIT) < F.lit(above)) & (F.col(LOGIT) >= F.lit(float(self.logit[last])))
        share = F.when(F.col(LOGIT) >= F.lit(above), F.lit(1.0)).when(is_part, F.lit(part)).otherwise(F.lit(0.0))
        return F.sum(share * F.col(N_TOKENS))

    def cut(self, rate: float, budget: int, train_tokens: float | None, *, by_value: bool) -> Cut:
        """The cut at a budget; of the bin there, a part of the documents as large as that of the tokens."""
        if not len(self.number):
            return Cut(rate, math.nan, math.inf, 0, 0, None, {})
        last = self.position(budget)
        before = int(self.tokens[:last].sum())
        part = min(1.0, (budget - before) / max(1, int(self.tokens[last])))
        documents = int(self.documents[:last].sum()) + round(part * int(self.documents[last]))
        logit = float(self.logit[last])
        score = logit if by_value else 1 / (1 + math.exp(-logit)) if logit > -_LARGE else 0.0
        epochs = train_tokens / budget if train_tokens and budget else None
        return Cut(rate, score, logit, documents, budget, epochs, {})


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


def _histogram(rows: DataFrame, number: Column) -> Histogram:
    """At most 2**20 coarse bins, or 2**15 fine ones for each coarse one."""
    columns = [F.count("*"), F.coalesce(F.sum(N_TOKENS), F.lit(0)), F.min(LOGIT).cast("double")]
    table = rows.groupBy(number.alias(_BIN)).agg(*columns).toArrow().sort_by(_BIN)
    number_of, documents, tokens, logit = (column.to_numpy() for column in table.columns)
    return Histogram(number_of, documents, tokens, logit)
