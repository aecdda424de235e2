"""Whether the scorer of a selection can be trusted: its agreement with the target ranking on documents that were held out."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import SparkSession
from scipy.special import expit

from betr_spark import schemas
from betr_spark.config import Config
from betr_spark.config.root import RANDOM_SCORER
from betr_spark.intervals import Rate
from betr_spark.report.held_out import HeldOut, held_out_rows
from betr_spark.scoring.combination import with_combined_logits
from betr_spark.scoring.logit import check_logits, logit_of
from betr_spark.storage import delta
from betr_spark.training.agreement import positions, recall_counts, spearman

PERCENTS = (1, 3, 10, 30)
TOP_PERCENT = 10  # of the figures of each benchmark
_DECILES = 10
_WITHOUT_PROBABILITY = ("random", "expression")  # kinds whose values are no logits of a label


class RecallAt(NamedTuple):
    """Documents of the target ranking's top that are in the scorer's top of the same size.

    Attributes:
        percent: size of both tops, of the documents that are held out.
        recall: share of the target ranking's top that the scorer finds; of an order by chance it is about `percent`.
    """

    percent: int
    recall: Rate


class Decile(NamedTuple):
    """A tenth of the labelled validation documents, by score.

    Attributes:
        low: lowest logit.
        high: highest logit.
        score: mean of `sigmoid(logit)`; of a calibrated scorer it is near the share of positives.
        positive: share of documents whose label is positive.
    """

    low: float
    high: float
    score: float
    positive: Rate


class BenchmarkTrust(NamedTuple):
    """Agreement with the target ranking for one benchmark, at the top 10 % of the documents that are held out.

    Attributes:
        benchmark: its name.
        recall: of the top by this benchmark's examples alone, the share in the scorer's top.
        recall_of_best: of the target ranking's top, those whose best example is of this benchmark: share in the scorer's top.
        spearman: rank correlation of the scorer with the order by this benchmark's examples alone.
        recall_by_benchmark_scorer: as `recall`, in the top by the benchmark scorer; None without `per_benchmark`.
    """

    benchmark: str
    recall: Rate
    recall_of_best: Rate
    spearman: float
    recall_by_benchmark_scorer: Rate | None


class Trust(NamedTuple):
    """Figures of a scorer on documents of `ranked_sample` that no model is fitted to: a fifth of them, chosen by a hash.

    The line that turns the values of a linear model into logits is fitted to the validation documents, so the deciles of
    such a scorer are slightly too good. In direct mode the score is the target ranking itself.

    Attributes:
        scorer: its name.
        kind: of the scorer, as in the configuration, or `benchmark`.
        is_target_ranking: whether the score is the target ranking itself, so that agreement says nothing.
        n_held_out: documents, at most 200,000.
        n_without_score: those of them that have no logit; they rank last.
        spearman: rank correlation with the target ranking.
        recalls: at 1, 3, 10 and 30 %.
        deciles: of the labelled documents, the best first; fewer than ten if there are fewer than ten documents, none if the
            values of the kind are no logits of a label.
        benchmarks: in the order of the configuration.
    """

    scorer: str
    kind: str
    is_target_ranking: bool
    n_held_out: int
    n_without_score: int
    spearman: float
    recalls: list[RecallAt]
    deciles: list[Decile]
    benchmarks: list[BenchmarkTrust]


def trust(spark: SparkSession, config: Config, scorers: Sequence[str]) -> dict[str, Trust | None]:
    """Measure scorers of any kind, in one query; reads no text.

    Args:
        spark: the session.
        config: for the output.
        scorers: of selections.

    Returns:
        The figures by scorer; None if there is no target ranking, or fewer than two of its documents are held out.

    Raises:
        DataError: `features` has no logit of a scorer.
    """
    path = config.table(schemas.RANKED_SAMPLE_TABLE)
    if not scorers or not config.needs_target_ranking() or not delta.exists(spark, path):
        return dict.fromkeys(scorers)
    features = delta.read(spark, config.table(schemas.FEATURES_TABLE))
    check_logits(features, config, scorers)
    features = with_combined_logits(features, config, scorers)
    logits = [logit_of(config, scorer) for scorer in scorers]
    of_benchmarks = [
        {name: config.benchmark_scorers(scorer).get(name) for name in config.targets} for scorer in scorers
    ]
    found = held_out_rows(delta.read(spark, path), features, logits, of_benchmarks)
    return {scorer: _trust(config, scorer, rows) for scorer, rows in zip(scorers, found, strict=True)}


def _trust(config: Config, scorer: str, rows: HeldOut) -> Trust | None:
    if len(rows.logit) < 2:
        return None
    settings = config.scorers.get(scorer)
    kind = settings.kind if settings is not None else "benchmark" if scorer in config.scored() else RANDOM_SCORER
    return trust_of(rows, scorer=scorer, kind=kind, is_target_ranking=scorer in config.direct())


def trust_of(rows: HeldOut, *, scorer: str, kind: str, is_target_ranking: bool) -> Trust:
    """Compute the figures; pure NumPy. A benchmark that ranks no document is left out."""
    target, scored, best = positions(rows.score, rows.cosine), positions(rows.logit), np.array(rows.best, object)
    in_target = target < max(1, round(len(target) * TOP_PERCENT / 100))
    in_scored = scored < np.count_nonzero(in_target)
    benchmarks = []
    for name, of in rows.benchmarks.items():
        if np.isnan(of.score).all():
            continue
        by_examples, of_best = positions(of.score, of.cosine), in_target & (best == name)
        by_scorer = None if of.logit is None else recall_counts(by_examples, positions(of.logit), TOP_PERCENT)
        benchmarks.append(
            BenchmarkTrust(
                benchmark=name,
                recall=Rate.of_counts(*recall_counts(by_examples, scored, TOP_PERCENT)),
                recall_of_best=Rate.of_counts(
                    int(np.count_nonzero(of_best & in_scored)), int(np.count_nonzero(of_best))
                ),
                spearman=spearman(-by_examples, rows.logit),
                recall_by_benchmark_scorer=None if by_scorer is None else Rate.of_counts(*by_scorer),
            )
        )
    return Trust(
        scorer=scorer, kind=kind, is_target_ranking=is_target_ranking, n_held_out=len(rows.logit),
        n_without_score=int(np.isnan(rows.logit).sum()), spearman=spearman(-target, rows.logit),
        recalls=[RecallAt(percent, Rate.of_counts(*recall_counts(target, scored, percent))) for percent in PERCENTS],
        deciles=[] if kind in _WITHOUT_PROBABILITY else deciles(rows.logit, rows.label),
        benchmarks=benchmarks,
    )  # fmt: skip


def deciles(logit: NDArray[np.float64], label: NDArray[np.int8]) -> list[Decile]:
    """Split the documents that have a label and a logit into tenths by logit, the best first; equal logits keep their order."""
    labelled = (label >= 0) & ~np.isnan(logit)
    logit, label = logit[labelled], label[labelled]
    parts = np.array_split(np.argsort(positions(logit)), _DECILES)
    return [
        Decile(
            low=float(logit[part].min()),
            high=float(logit[part].max()),
            score=float(expit(logit[part]).mean()),
            positive=Rate.of_counts(int(np.count_nonzero(label[part] == 1)), len(part)),
        )
        for part in parts
        if len(part)
    ]
