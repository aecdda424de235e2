"""Everything that the tables of a finished run know about single documents."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from pyspark.sql import functions as F

from betr_spark import schemas
from betr_spark.errors import BetrSparkError, DataError
from betr_spark.explain.lookups import MAX_DOCUMENTS, Row, features_rows, first_of, rows_of, table, texts_of
from betr_spark.explain.nearest import Nearest, nearest_of
from betr_spark.explain.outcomes import Found, Outcome, Outcomes
from betr_spark.explain.scores import ScorerFacts, scores_of
from betr_spark.pipeline.stage import RunContext
from betr_spark.schemas import (
    ACTION,
    BEST_BENCHMARK,
    BEST_COSINE,
    BEST_EXAMPLE,
    BEST_RANK,
    CONTENT_HASH,
    DETAIL,
    DOC_ID,
    IGNORED,
    INPUT_FILE,
    KEPT_DOC_ID,
    LABEL,
    NGRAMS,
    REASON,
    ROW,
    SPLIT,
    TARGET_SCORE,
)
from betr_spark.targets.reading import read_targets, targets_of

_START = 200  # characters of a text that are shown


class Quarantined(NamedTuple):
    """A row of `quarantine`."""

    reason: str
    detail: str | None
    row: str | None
    input_file: str | None


class Sampled(NamedTuple):
    """The document's row in `ranked_sample`, and the text of the example with its best rank, if it is an example's."""

    best_rank: int
    best_cosine: float
    best_benchmark: str
    best_example: int
    example_text: str | None
    target_score: float
    label: int | None
    split: str | None


class Kept(NamedTuple):
    """The documents that were removed because this one stays, and their component."""

    n_removed: int
    component_id: str
    component_size: int


class Explained(NamedTuple):
    """What is known of a document; None or empty where the tables have nothing.

    Attributes:
        doc_id: its id.
        features: its row in `features`, without signature and logits; the content hash as hex.
        text_start: the first characters of the text.
        quarantined: input rows with this id that could not be used.
        forgotten: when and why it was asked to be forgotten.
        scorers: value and position by each scorer.
        sample: if it is in the ranked sample.
        duplicate_of: its row in `duplicates`.
        kept_for: if other documents were removed because it stays.
        contamination: its rows in `contamination`.
        selections: what each selection did with it.
        nearest: examples and kept documents, if they were asked for.
        notes: what could not be found out, and why.
    """

    doc_id: str
    features: Mapping[str, Any] | None
    text_start: str | None
    quarantined: Sequence[Quarantined]
    forgotten: Mapping[str, Any] | None
    scorers: Sequence[ScorerFacts]
    sample: Sampled | None
    duplicate_of: Mapping[str, Any] | None
    kept_for: Kept | None
    contamination: Sequence[Mapping[str, Any]]
    selections: Sequence[Outcome]
    nearest: Nearest | None
    notes: Sequence[str]


class Explanations(NamedTuple):
    """The documents that the output knows, in the order of the ids that were asked for, and the ids that it does not know."""

    documents: Sequence[Explained]
    unknown: Sequence[str]


def explained(context: RunContext, ids: Sequence[str], *, nearest: int = 0) -> Explanations:
    """Look documents up in all tables.

    Narrow tables are filtered by id. Text is read from the files that have the documents only. Positions cost one aggregation
    of the logits, and for each selection that leaves a document out two of its eligible documents.

    Args:
        context: of the command.
        ids: of documents, at most 50.
        nearest: number of nearest examples and of nearest kept documents; with 0 nothing is embedded.

    Raises:
        DataError: `features` has not run, or there are too many ids.
        SetupError: `nearest` needs a package or a model that is missing.
    """
    ids = list(dict.fromkeys(ids))
    if len(ids) > MAX_DOCUMENTS:
        raise DataError(f"--doc: found {len(ids)} ids, at most {MAX_DOCUMENTS} are possible; use several commands")
    features = features_rows(context, ids)
    quarantined = rows_of(table(context, schemas.QUARANTINE_TABLE), ids)
    tombstones = rows_of(table(context, schemas.TOMBSTONES_TABLE), ids)
    known = {*features, *(row[DOC_ID] for row in [*quarantined, *tombstones])}
    documents = [doc_id for doc_id in ids if doc_id in known]
    texts, notes = texts_of(context, features)
    scorers = scores_of(context, features, texts)
    sampled, sample_notes = _sampled(context, list(features))
    duplicates = {row[DOC_ID]: row for row in rows_of(table(context, schemas.DUPLICATES_TABLE), list(features))}
    kept = _kept(context, list(features))
    contamination = rows_of(table(context, schemas.CONTAMINATION_TABLE), list(features))
    found = Found(
        features, duplicates, _dropped(context, contamination),
        {row[DOC_ID]: f"{row[REASON]}: {row[DETAIL]}" for row in quarantined},
        frozenset(row[DOC_ID] for row in tombstones),
    )  # fmt: skip
    outcomes = Outcomes(context, found)
    by_selection = [outcomes.of(documents, name) for name in context.config.selections] if documents else []
    neighbours = nearest_of(context, texts, nearest) if nearest else {}
    notes = [*notes, *sample_notes]
    return Explanations(
        [
            Explained(
                doc_id=doc_id, features=_narrow(features.get(doc_id)),
                text_start=texts[doc_id][:_START] if doc_id in texts else None,
                quarantined=[
                    Quarantined(row[REASON], row[DETAIL], row[ROW], row[INPUT_FILE])
                    for row in quarantined if row[DOC_ID] == doc_id
                ],
                forgotten=_without_id(first_of(tombstones, doc_id=doc_id)), scorers=scorers.get(doc_id, []),
                sample=sampled.get(doc_id), duplicate_of=_without_id(duplicates.get(doc_id)), kept_for=kept.get(doc_id),
                contamination=[
                    {key: value for key, value in row.items() if key not in (DOC_ID, NGRAMS)}
                    for row in contamination if row[DOC_ID] == doc_id
                ],
                selections=[selection[doc_id] for selection in by_selection], nearest=neighbours.get(doc_id), notes=notes,
            )
            for doc_id in documents
        ],
        [doc_id for doc_id in ids if doc_id not in known],
    )  # fmt: skip


def _without_id(row: Row | None) -> Mapping[str, Any] | None:
    if row is None:
        return None
    plain = {key: value.isoformat() if isinstance(value, datetime) else value for key, value in row.items()}
    return {key: value for key, value in plain.items() if key != DOC_ID}


def _narrow(row: Row | None) -> Mapping[str, Any] | None:
    """The columns of `features` that are no logits; a hash as hex."""
    if row is None:
        return None
    names = ("source", INPUT_FILE, schemas.BATCH, "n_bytes", "n_words", "n_tokens", schemas.N_LM_TOKENS)
    return {name: row[name] for name in names if name in row} | {CONTENT_HASH: bytes(row[CONTENT_HASH]).hex()}


def _dropped(context: RunContext, contamination: Sequence[Row]) -> frozenset[str]:
    """The documents that are kept out of every selection for a test item."""
    rows = contamination if context.config.drops_contaminated() else []
    return frozenset(row[DOC_ID] for row in rows if row[ACTION] != IGNORED)


def _kept(context: RunContext, ids: Sequence[str]) -> dict[str, Kept]:
    duplicates = table(context, schemas.DUPLICATES_TABLE)
    if duplicates is None or not ids:
        return {}
    sizes = [F.count("*"), F.min(schemas.COMPONENT_ID), F.max(schemas.COMPONENT_SIZE)]
    rows = duplicates.where(F.col(KEPT_DOC_ID).isin(*ids)).groupBy(KEPT_DOC_ID).agg(*sizes).collect()  # one row an id
    return {row[0]: Kept(row[1], row[2], row[3]) for row in rows}


def _sampled(context: RunContext, ids: Sequence[str]) -> tuple[dict[str, Sampled], list[str]]:
    """The documents that are in the ranked sample, and why an example's text is missing."""
    config, notes, texts = context.config, list[str](), dict[tuple[str, int], str]()
    rows = rows_of(table(context, schemas.RANKED_SAMPLE_TABLE), ids) if config.needs_target_ranking() else []
    if rows and config.labels.granularity == "example":
        try:
            examples = targets_of(config.targets, read_targets(context.spark, config))
            texts = {(example.benchmark, example.row): example.text for example in examples}
        except BetrSparkError as error:
            notes = [f"the texts of the examples cannot be read: {error.args[0]}"]
    return {
        row[DOC_ID]: Sampled(
            row[BEST_RANK], row[BEST_COSINE], row[BEST_BENCHMARK], row[BEST_EXAMPLE],
            texts.get((row[BEST_BENCHMARK], row[BEST_EXAMPLE])), row[TARGET_SCORE], row[LABEL], row[SPLIT],
        )
        for row in rows
    }, notes  # fmt: skip
