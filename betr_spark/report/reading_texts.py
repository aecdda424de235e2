"""Texts of the documents to read, with the n-grams that raise and lower their logits."""

from collections.abc import Callable, Mapping, Sequence

from betr_spark.pipeline.stage import RunContext
from betr_spark.report.readings import Reading, Readings
from betr_spark.scoring import artifact
from betr_spark.scoring.contributions import Contribution, LogitExplainer
from betr_spark.targets.reading import read_targets, targets_of

_NGRAMS = 10  # that raise or lower a logit
_SHOWN = 2_000  # characters of a text
_Explain = Callable[[str], tuple[list[Contribution], list[Contribution]]]


def with_texts(context: RunContext, chosen: Readings, texts: Mapping[str, str], *, shown: int = _SHOWN) -> Readings:
    """As `all_with_texts`, for one selection."""
    return all_with_texts(context, [chosen], texts, shown=shown)[0]


def all_with_texts(
    context: RunContext, chosen: Sequence[Readings], texts: Mapping[str, str], *, shown: int = _SHOWN
) -> list[Readings]:
    """Add texts, the texts of the nearest examples, and the n-grams that raise and lower the scorer's logit.

    The targets are read once, and the artifact of each scorer once.

    Args:
        context: for the scorers' artifacts and the targets.
        chosen: the documents of selections.
        texts: by id, as `report.texts.texts_of` reads them; a document without a text keeps None.
        shown: characters of a text that are returned; n-grams are those of the whole text.

    Raises:
        ConfigError, DataError: a target's file cannot be read.
        ArtifactError: a scorer's artifact is damaged.
    """
    explainers = {scorer: _explainer(context, scorer) for scorer in {each.scorer for each in chosen}}
    sampled = any(reading.nearest for each in chosen for reading in each.all())
    examples = _examples(context) if sampled else {}

    def filled(reading: Reading, explain: _Explain | None) -> Reading:
        nearest = reading.nearest
        if nearest is not None:
            example = examples.get((nearest.benchmark, nearest.row))
            nearest = nearest._replace(text=None if example is None else example[:shown])
        text = texts.get(reading.doc_id)
        if text is None:
            return reading._replace(nearest=nearest)
        raised, lowered = explain(text) if explain else (None, None)
        return reading._replace(
            nearest=nearest, text=text[:shown], is_whole=len(text) <= shown, raised=raised, lowered=lowered
        )

    def all_filled(each: Readings) -> Readings:
        groups = [
            [filled(reading, explainers[each.scorer]) for reading in group]
            for group in (each.best, each.at_cut, each.rejected, each.random)
        ]
        return each._replace(best=groups[0], at_cut=groups[1], rejected=groups[2], random=groups[3])

    return [all_filled(each) for each in chosen]


def _explainer(context: RunContext, scorer: str) -> _Explain | None:
    """Gives the n-grams that raise and lower a logit; None for a scorer without weights of n-grams."""
    config = context.config
    if scorer not in config.trained_scorers():
        return None
    fitted = artifact.load(context.spark, config.table(f"scorers/{scorer}"), scorer)
    explainer = LogitExplainer(fitted.table, fitted.about)

    def explain(text: str) -> tuple[list[Contribution], list[Contribution]]:
        explanation = explainer.explain(text)
        return explanation.raised(_NGRAMS), explanation.lowered(_NGRAMS)

    return explain


def _examples(context: RunContext) -> dict[tuple[str, int], str]:
    """Texts of the examples by benchmark and row; none if centroids rank the documents."""
    config = context.config
    if config.labels.granularity != "example":
        return {}
    examples = targets_of(config.targets, read_targets(context.spark, config))
    return {(example.benchmark, example.row): example.text for example in examples}
