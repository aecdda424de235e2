"""What different keep rates would keep, for each scorer in `features`; reads no text."""

from collections.abc import Collection, Sequence
from functools import reduce
from typing import NamedTuple

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from betr_spark import schemas
from betr_spark.config import TrainingConfig
from betr_spark.config.selections import Law
from betr_spark.contamination.detection import without_contaminated
from betr_spark.features.token_unit import counted_if_configured
from betr_spark.pipeline.stage import RunContext
from betr_spark.schemas import DOC_ID, LOGIT, N_TOKENS, SOURCE
from betr_spark.scoring.combination import with_combined_logits
from betr_spark.scoring.logit import logit_of
from betr_spark.selection.budget import fraction_of
from betr_spark.selection.keep_rate import KeepRate, keep_rate
from betr_spark.selection.score_histogram import Cut, Histogram, score_histograms
from betr_spark.selection.tally import ALL, N_IN_MEMORY, Part, Populations
from betr_spark.spark.small_frames import small_frame
from betr_spark.storage import delta, runs

KEEP_RATES = (0.01, 0.03, 0.10, 0.30, 0.50)
_SOURCES = 10
_NO_SOURCE = "(none)"
_NUMBER, _TOKENS, _KEPT = "number", "tokens", "kept"
OF_COMPUTE: tuple[Law, ...] = ("nemotron-cc", "dclm-refinedweb")
CAUTION = (
    "Tight filters repeat documents more often, and after about 4 epochs a repeated token is worth clearly less than a new one "
    "(arXiv 2305.16264). With much more compute than the laws were fitted to, weaker filters win (arXiv 2404.07177)."
)


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
    none = small_frame(spark, [], f"{DOC_ID} string")
    duplicates = delta.read(spark, removed) if delta.exists(spark, removed) else none
    scorers = [name for name in config.scored() if schemas.logit_column(name) in features.columns]
    scorers += [name for name, parts in config.combinations().items() if set(parts) <= set(scorers)]
    features, unit = counted_if_configured(with_combined_logits(features, config, scorers), config)
    survivors = features.join(duplicates.select(DOC_ID), on=DOC_ID, how="left_anti")
    columns = [logit_of(config, name).alias(f"{LOGIT}_{number}") for number, name in enumerate(scorers)]
    made = runs.made_by(spark, path)
    return _outlooks(
        survivors.select(SOURCE, N_TOKENS, *columns),
        scorers,
        unit=unit,
        rates=rates,
        train_tokens=train_tokens,
        by_value=set(config.expressions()),
        in_memory=made is not None and made.rows_out <= N_IN_MEMORY,
    )


def laws(flops: float | None, tokens: float | None) -> dict[str, KeepRate]:
    """The published keep rates that apply to a training run of known compute or tokens, by the law's name."""
    runs = [TrainingConfig(flops=flops, law=law) for law in OF_COMPUTE] if flops else []
    runs += [TrainingConfig(tokens=tokens, law="fixed-6.6b")] if tokens else []
    return {run.law: keep_rate(run) for run in runs}


def _outlooks(
    survivors: DataFrame, scorers: Sequence[str], *, unit: str, rates: Sequence[float], train_tokens: float | None,
    by_value: Collection[str], in_memory: bool,
) -> list[Outlook]:  # fmt: skip
    """Two histograms of the scores, the second one within the bins of the cuts, and one sum over the sources."""
    if not scorers:
        return []
    numbers, rows = range(len(scorers)), survivors.persist()
    try:
        logits = [F.col(f"{LOGIT}_{number}") for number in numbers]
        columns = {name: f"{LOGIT}_{number}" for number, name in enumerate(scorers)}
        part = Part(ALL, rows.select(N_TOKENS, *columns.values()), columns)
        with Populations([part], in_memory=in_memory) as populations:
            found = score_histograms(populations, scorers, rates)
        histograms = [found.get(name, Histogram.empty()) for name in scorers]
        cuts = [
            [
                bins.cut(rate, fraction_of(int(bins.tokens.sum()), rate), train_tokens, by_value=scorer in by_value)
                for rate in rates
            ]
            for scorer, bins in zip(scorers, histograms, strict=True)
        ]
        largest = _largest_sources(rows, logits, histograms, [[cut.tokens for cut in of_scorer] for of_scorer in cuts])
    finally:
        rows.unpersist()
    return [
        Outlook(
            scorer=scorer, unit=unit, documents=int(bins.documents.sum()), tokens=int(bins.tokens.sum()),
            source_tokens={row[SOURCE]: int(row[_TOKENS] or 0) for row in sources},
            cuts=[
                cut._replace(source_tokens={row[SOURCE]: int(row[_KEPT][position] or 0) for row in sources})
                for position, cut in enumerate(of_scorer)
            ],
        )
        for scorer, bins, of_scorer, sources in zip(scorers, histograms, cuts, largest, strict=True)
    ]  # fmt: skip


def _largest_sources(
    rows: DataFrame, logits: Sequence[Column], histograms: Sequence[Histogram], budgets: Sequence[Sequence[int]]
) -> list[list[Row]]:
    """For each logit the sources with the most tokens: source, tokens, and how many of them each budget keeps."""
    sums = []
    for number, (logit, bins, amounts) in enumerate(zip(logits, histograms, budgets, strict=True)):
        kept = F.array(*[bins.kept_tokens(budget, logit) for budget in amounts])
        tokens = F.sum(F.when(logit.isNotNull(), F.col(N_TOKENS)))
        sums.append(F.struct(tokens.alias(_TOKENS), kept.alias(_KEPT)).alias(f"of_{number}"))
    by_source = rows.groupBy(F.coalesce(SOURCE, F.lit(_NO_SOURCE)).alias(SOURCE)).agg(*sums).persist()
    try:
        largest = [
            by_source.select(F.lit(number).alias(_NUMBER), SOURCE, f"of_{number}.*")
            .where(F.col(_TOKENS).isNotNull()).orderBy(F.desc(_TOKENS), SOURCE).limit(_SOURCES)
            for number in range(len(logits))
        ]  # fmt: skip
        found: list[list[Row]] = [[] for _ in logits]
        for row in reduce(DataFrame.unionAll, largest).collect():  # at most _SOURCES for each logit
            found[row[_NUMBER]].append(row)
    finally:
        by_source.unpersist()
    return found
