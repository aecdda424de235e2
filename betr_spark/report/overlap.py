"""How selections and scorers overlap."""

import itertools
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import NamedTuple

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from betr_spark import schemas
from betr_spark.config import Config
from betr_spark.config.root import RANDOM_SCORER
from betr_spark.report.compare import Agreement, agreements, compare
from betr_spark.report.divergence import TextDivergence, divergences
from betr_spark.report.outcomes import Outcomes
from betr_spark.report.source_sums import DOCUMENTS, SourceSums, own_documents, own_tokens
from betr_spark.schemas import DOC_ID, N_TOKENS
from betr_spark.storage import delta

TOP_PERCENT = 10.0
_NUMBER = "number"


class SelectionOverlap(NamedTuple):
    """Documents that a selection shares with another one.

    A document counts once, whatever its repeats and phases.

    Attributes:
        selection: name of the other one.
        shared: documents that are in both.
        jaccard: `shared` over the documents that are in at least one; 0 if both are empty.
        tokens_fraction: of this selection's tokens, those of shared documents.
        other_tokens_fraction: of the other selection's tokens, those of shared documents.
    """

    selection: str
    shared: int
    jaccard: float
    tokens_fraction: float
    other_tokens_fraction: float


class ScorerCorrelation(NamedTuple):
    """Agreement of the selection's scorer with another one; `overlap` is the share of the top 10 % that is in both."""

    scorer: str
    spearman: float
    overlap: float


class Overlap(NamedTuple):
    """Figures of one selection beside the others.

    Attributes:
        name: of the selection.
        scorer: of the selection.
        n_documents: distinct documents of the selection.
        selections: overlap with each other selection that is written, in the order of the configuration.
        n_compared: documents that scorers were compared on, at most 200,000, chosen by a hash.
        scorers: correlation with each other scorer, and with random scores.
        text: None without targets, or without a sample (`_sample`).
    """

    name: str
    scorer: str
    n_documents: int
    selections: list[SelectionOverlap]
    n_compared: int
    scorers: list[ScorerCorrelation]
    text: TextDivergence | None


def overlaps(spark: SparkSession, config: Config, documents: Outcomes, sums: SourceSums) -> list[Overlap]:
    """Compute the figures of selections; what they share is computed once for all of them.

    One sample of the logits, one read of the texts of `_sample` and about 20 row groups of the texts of each selection.

    Args:
        spark: the session.
        config: for the output.
        documents: what became of each, with the selections that are written; without any there are no figures.
        sums: of `documents`.

    Raises:
        DataError: a table does not exist, or a target's file cannot be read.
    """
    names = documents.selections
    if not names:
        return []
    scorers = _scorers(spark, config)
    pairs, n_compared = list[Agreement](), 0
    if len(scorers) > 1 and set(scorers) <= documents.logits.keys():
        logits = {scorer: F.col(documents.logits[scorer]) for scorer in scorers}
        pairs, n_compared = agreements(documents.documents, logits, percent=TOP_PERCENT, n_rows=sums.total[DOCUMENTS])
    elif len(scorers) > 1:
        pairs, n_compared = compare(spark, config, percent=TOP_PERCENT, scorers=scorers)
    texts = divergences(spark, config, {name: delta.read(spark, config.table(f"selected/{name}")) for name in names})
    of_pairs = shared(documents, sums)
    return [
        Overlap(
            name=name,
            scorer=config.selections[name].scorer,
            n_documents=of_pairs[name, name][0],
            selections=[_selection_overlap(of_pairs, name, other) for other in names if other != name],
            n_compared=n_compared,
            scorers=_correlations(pairs, config.selections[name].scorer),
            text=texts.get(name),
        )
        for name in names
    ]


def _scorers(spark: SparkSession, config: Config) -> list[str]:
    """Scorers whose logits `features` has, and the control; a configuration may have newer ones."""
    columns = delta.read(spark, config.table(schemas.FEATURES_TABLE)).columns
    parts = {name: config.combinations().get(name, (name,)) for name in config.scorers}
    lacks = [name for name in config.scored() if schemas.logit_column(name) not in columns]
    names = [name for name in config.scorers if not set(parts[name]) & set(lacks)]
    return names if RANDOM_SCORER in names else [*names, RANDOM_SCORER]


def shared(documents: Outcomes, sums: SourceSums) -> dict[tuple[str, str], tuple[int, int]]:
    """Count the documents that every two selections share; one aggregation if there are two or more.

    Args:
        documents: with the selections.
        sums: of `documents`.

    Returns:
        Documents and tokens by pair of names, in both directions; of a name with itself, those of the selection.
    """
    numbers = {name: number for number, name in enumerate(documents.selections)}
    found = {(name, name): (sums.total[own_documents(n)], sums.total[own_tokens(n)]) for name, n in numbers.items()}
    pairs = list(itertools.combinations(numbers, 2))
    if not pairs:
        return found
    parts = [
        rows.select(DOC_ID, N_TOKENS, F.lit(numbers[name]).alias(_NUMBER)) for name, rows in documents.kept.items()
    ]
    is_in = [F.max(F.col(_NUMBER) == number).alias(f"{_NUMBER}_{number}") for number in numbers.values()]
    by_document = reduce(DataFrame.unionAll, parts).groupBy(DOC_ID).agg(F.max(N_TOKENS).alias(N_TOKENS), *is_in)
    counts: list[Column] = []
    for left, right in pairs:
        in_both = F.col(f"{_NUMBER}_{numbers[left]}") & F.col(f"{_NUMBER}_{numbers[right]}")
        counts += [F.count_if(in_both), F.coalesce(F.sum(F.when(in_both, F.col(N_TOKENS))), F.lit(0))]
    row = [int(count) for count in by_document.agg(*counts).collect()[0]]
    for (left, right), n, n_tokens in zip(pairs, row[::2], row[1::2], strict=True):
        found[left, right] = found[right, left] = (n, n_tokens)
    return found


def _selection_overlap(of_pairs: Mapping[tuple[str, str], tuple[int, int]], name: str, other: str) -> SelectionOverlap:
    (n, tokens), (n_own, own_tokens), (n_other, other_tokens) = (
        of_pairs[pair] for pair in ((name, other), (name, name), (other, other))
    )
    union = n_own + n_other - n
    return SelectionOverlap(
        other, n, n / union if union else 0.0, tokens / max(1, own_tokens), tokens / max(1, other_tokens)
    )


def _correlations(pairs: Sequence[Agreement], scorer: str) -> list[ScorerCorrelation]:
    """Those of one scorer; both tops have the same size, so their overlap has no direction."""
    return [
        ScorerCorrelation(pair.right if pair.left == scorer else pair.left, pair.spearman, pair.overlap)
        for pair in pairs
        if scorer in (pair.left, pair.right)
    ]
