"""Texts of the documents to read, with the n-grams that raise and lower their logits."""

import logging
from collections.abc import Iterable, Mapping, Sequence

from betr_spark.config import Config
from betr_spark.config.scorers import DsirScorer
from betr_spark.errors import BetrSparkError
from betr_spark.pipeline.stage import RunContext
from betr_spark.report.readings import Reading, Readings
from betr_spark.scoring import artifact
from betr_spark.scoring.contributions import Contribution, LogitExplainer, tolerance
from betr_spark.targets.reading import read_targets, targets_of

_logger = logging.getLogger(__name__)
_NGRAMS = 10  # that raise or lower a logit
_SHOWN = 2_000  # characters of a text
_Ngrams = tuple[Sequence[Contribution] | None, Sequence[Contribution] | None]  # that raise and lower a logit


def with_texts(context: RunContext, chosen: Readings, texts: Mapping[str, str], *, shown: int = _SHOWN) -> Readings:
    """As `all_with_texts`, for one selection."""
    return all_with_texts(context, [chosen], texts, shown=shown)[0]


def explainers_of(context: RunContext, scorers: Iterable[str]) -> dict[str, LogitExplainer | None]:
    """Read the artifacts of scorers; None for a scorer without weights of n-grams.

    Raises:
        ArtifactError: an artifact is damaged.
    """
    return {scorer: _explainer(context, scorer) for scorer in scorers}


def all_with_texts(
    context: RunContext, chosen: Sequence[Readings], texts: Mapping[str, str], *, shown: int = _SHOWN,
    explainers: Mapping[str, LogitExplainer | None] | None = None,
) -> list[Readings]:  # fmt: skip
    """Add texts, the texts of the nearest examples, and the n-grams that raise and lower the scorer's logit.

    Texts of examples are left out if the targets cannot be read, and n-grams if their sum is not the logit any more, because
    the scorer was trained again. The targets are read once, and the artifact of each scorer once.

    Args:
        context: for the scorers' artifacts and the targets.
        chosen: the documents of selections.
        texts: by id, as `report.texts.texts_of` reads them; a document without a text keeps None.
        shown: characters of a text that are returned; n-grams are those of the whole text.
        explainers: of the selections' scorers, if they are read already.

    Raises:
        ArtifactError: a scorer's artifact is damaged.
    """
    if explainers is None:
        explainers = explainers_of(context, {each.scorer for each in chosen})
    sampled = any(reading.nearest for each in chosen for reading in each.all())
    examples = _examples(context) if sampled else {}

    def filled(reading: Reading, explainer: LogitExplainer | None, *, is_sum: bool) -> Reading:
        nearest = reading.nearest
        if nearest is not None:
            example = examples.get((nearest.benchmark, nearest.row))
            nearest = nearest._replace(text=None if example is None else example[:shown])
        text = texts.get(reading.doc_id)
        if text is None:
            return reading._replace(nearest=nearest)
        raised, lowered = _ngrams(explainer, text, reading.logit if is_sum else None)
        return reading._replace(
            nearest=nearest, text=text[:shown], is_whole=len(text) <= shown, raised=raised, lowered=lowered
        )

    def all_filled(each: Readings) -> Readings:
        explainer, is_sum = explainers[each.scorer], _ranks_by_the_sum(context.config, each)
        groups = [
            [filled(reading, explainer, is_sum=is_sum) for reading in group]
            for group in (each.best, each.at_cut, each.rejected, each.random)
        ]
        return each._replace(best=groups[0], at_cut=groups[1], rejected=groups[2], random=groups[3])

    return [all_filled(each) for each in chosen]


def _explainer(context: RunContext, scorer: str) -> LogitExplainer | None:
    """None for a scorer without weights of n-grams."""
    config = context.config
    if scorer not in config.folded():
        return None
    fitted = artifact.load(context.spark, config.table(f"scorers/{scorer}"), scorer)
    return LogitExplainer(fitted.table, fitted.about)


def _ranks_by_the_sum(config: Config, each: Readings) -> bool:
    """Whether the logit that the selection ranks by is that of the scorer, without noise and balance."""
    settings = config.scorers.get(each.scorer)
    has_noise = isinstance(settings, DsirScorer) and settings.noise
    return not (has_noise or config.selections[each.name].balance)


def _ngrams(explainer: LogitExplainer | None, text: str, logit: float | None) -> _Ngrams:
    """Those of a text; none if their sum is not the logit, where one is given."""
    if explainer is None:
        return None, None
    explanation = explainer.explain(text)
    if logit is not None and (explanation.logit is None or abs(explanation.logit - logit) > tolerance(logit)):
        return None, None
    return explanation.raised(_NGRAMS), explanation.lowered(_NGRAMS)


def _examples(context: RunContext) -> dict[tuple[str, int], str]:
    """Texts of the examples by benchmark and row; none if centroids rank the documents, or the targets cannot be read."""
    config = context.config
    if config.labels.granularity != "example":
        return {}
    try:
        examples = targets_of(config.targets, read_targets(context.spark, config))
    except BetrSparkError as error:
        _logger.warning("report: texts of examples are left out: %s", error)
        return {}
    return {(example.benchmark, example.row): example.text for example in examples}
