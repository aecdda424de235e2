"""A document's value by each scorer: logit, position in the corpus, and the n-grams that raise and lower it."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pyspark.sql import functions as F

from betr_spark.explain.lookups import Row, ranks_before
from betr_spark.pipeline.stage import RunContext
from betr_spark.schemas import DOC_ID, FEATURES_TABLE, logit_column
from betr_spark.scoring import artifact
from betr_spark.scoring.combination import with_combined_logits
from betr_spark.scoring.contributions import Contribution, LogitExplainer, tolerance
from betr_spark.storage import delta

_LARGE = 700.0  # exp of more overflows
N_NGRAMS = 10


class ScorerFacts(NamedTuple):
    """A scorer's value for a document.

    Attributes:
        scorer: its name.
        kind: its kind, or `benchmark`.
        logit, score: None if the document has none.
        position: in the order of all documents of `features`, 1 is the best.
        n_documents: documents with a logit.
        percentile: percent of them that rank lower or are this one.
        intercept, raised, lowered: the parts of a trained scorer's logit that are the largest, see `scoring.contributions`.
        n_others: n-grams of the text that are in neither of the two.
        others: what these add; `intercept`, `raised`, `lowered` and `others` add up to `logit`.
        note: why there are no parts.
    """

    scorer: str
    kind: str
    logit: float | None
    score: float | None
    position: int | None = None
    n_documents: int | None = None
    percentile: float | None = None
    intercept: float | None = None
    raised: Sequence[Contribution] = ()
    lowered: Sequence[Contribution] = ()
    n_others: int = 0
    others: float | None = None
    note: str | None = None


def score_of_logit(logit: float) -> float:
    """Score = sigmoid(logit)."""
    return 1 / (1 + math.exp(-logit)) if logit > -_LARGE else 0.0


def scores_of(
    context: RunContext, documents: Mapping[str, Row], texts: Mapping[str, str]
) -> dict[str, list[ScorerFacts]]:
    """Look at each scorer that has a column in `features`, and at combinations.

    One aggregation over the logits for all documents and scorers; each combination costs one more.

    Args:
        context: of the command.
        documents: rows of `features` by id.
        texts: by id, as far as they are known.
    """
    if not documents:
        return {}
    config = context.config
    features = delta.read(context.spark, config.table(FEATURES_TABLE))
    scorers = [name for name in config.scored() if logit_column(name) in features.columns]
    combinations = [name for name, parts in config.combinations().items() if set(parts) <= set(scorers)]
    if combinations:
        features = with_combined_logits(features, config, combinations)
        scorers += combinations
        columns = [logit_column(name) for name in combinations]
        combined = features.where(F.col(DOC_ID).isin(*documents)).select(DOC_ID, *columns).collect()  # the documents
        documents = {row[DOC_ID]: {**documents[row[DOC_ID]], **row.asDict()} for row in combined}
    known = [
        (doc_id, name) for doc_id, row in documents.items() for name in scorers if row[logit_column(name)] is not None
    ]
    counts = [F.count(F.col(logit_column(name))) for name in scorers]
    for doc_id, name in known:
        column, row = logit_column(name), documents[doc_id]
        counts.append(F.count_if(ranks_before(F.col(column), row, row[column])))
    values = list(features.agg(*counts).head() or ()) if scorers else []
    totals = dict(zip(scorers, values, strict=False))
    before = dict(zip(known, values[len(scorers) :], strict=True))
    facts = {
        (doc_id, name): _facts(context, name, row[logit_column(name)], before.get((doc_id, name)), totals[name])
        for doc_id, row in documents.items()
        for name in scorers
    }
    for name in (name for name in config.folded() if name in scorers):
        scorer = artifact.load(context.spark, config.table(f"scorers/{name}"), name)
        explainer = LogitExplainer(scorer.table, scorer.about)
        for doc_id in documents:
            facts[doc_id, name] = _with_parts(facts[doc_id, name], explainer, texts.get(doc_id))
    return {doc_id: [facts[doc_id, name] for name in scorers] for doc_id in documents}


def _facts(context: RunContext, name: str, logit: float | None, before: int | None, n_documents: int) -> ScorerFacts:
    settings = context.config.scorers.get(name)
    kind = settings.kind if settings is not None else "benchmark"
    if logit is None or before is None:
        return ScorerFacts(name, kind, None, None)
    percentile = 100 * (1 - before / n_documents)
    return ScorerFacts(name, kind, logit, score_of_logit(logit), before + 1, n_documents, percentile)


def _with_parts(facts: ScorerFacts, explainer: LogitExplainer, text: str | None) -> ScorerFacts:
    """Add the parts of the logit, if the text is known and they add up to it."""
    if facts.logit is None or text is None:
        return facts
    explanation = explainer.explain(text)
    if explanation.logit is None or abs(explanation.logit - facts.logit) > tolerance(facts.logit):
        return facts._replace(note="the scorer was trained again after `features` ran; run `betr-spark features`")
    raised, lowered = explanation.raised(N_NGRAMS), explanation.lowered(N_NGRAMS)
    return facts._replace(
        intercept=explanation.intercept,
        raised=raised,
        lowered=lowered,
        n_others=len(explanation.contributions) - len(raised) - len(lowered),
        others=math.fsum([explanation.logit, -explanation.intercept, *(-part.value for part in (*raised, *lowered))]),
    )
