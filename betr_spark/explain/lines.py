"""What is known of a document, as lines for a terminal."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from betr_spark.explain.document import Explained
from betr_spark.explain.nearest import Nearest
from betr_spark.explain.outcomes import Outcome
from betr_spark.explain.scores import ScorerFacts
from betr_spark.scoring.contributions import Contribution

_WIDTH, _NGRAM_WIDTH = 100, 34


def document_lines(document: Explained, *, unit: str) -> list[str]:
    """Format everything that is known of a document.

    Args:
        document: as `explained` gives it.
        unit: what a token of budgets is.
    """
    lines = [f"document {document.doc_id}"]
    lines += [f"  {line}" for line in _about(document, unit)]
    for facts in document.scorers:
        lines += ["", *(f"  {line}" for line in _scorer(facts))]
    lines += ["", *(f"  selection {line}" for line in map(_selection, document.selections))]
    if document.nearest is not None:
        lines += ["", *(f"  {line}" for line in nearest_lines(document.nearest))]
    return lines + [f"  note: {note}" for note in document.notes]


def nearest_lines(nearest: Nearest) -> list[str]:
    """Format the nearest examples and documents."""
    lines = [f"nearest of {nearest.n_examples:,} examples:"]
    lines += [
        f"  {near.cosine:6.3f}  {near.benchmark} row {near.row}: {_start(near.text_start)}" for near in nearest.examples
    ]
    lines.append(f"nearest of {nearest.n_documents:,} kept documents that are embedded:")
    lines += [
        f"  {near.cosine:6.3f}  {near.doc_id} ({', '.join(near.selections)}): {_start(near.text_start)}"
        for near in nearest.documents
    ]
    return lines


def _about(document: Explained, unit: str) -> Iterator[str]:
    features = document.features
    if features is not None:
        yield f"file:         {features['input_file']} (batch {features['batch']}), source {features['source']}"
        tokens = features.get("n_lm_tokens")
        counted = "" if tokens is None else f", {tokens:,} {unit}"
        yield f"size:         {features['n_bytes']:,} bytes, {features['n_words']:,} words{counted}"
        yield f"content hash: {features['content_hash']}"
    if document.text_start is not None:
        yield f"text:         {_start(document.text_start)}"
    for row in document.quarantined:
        yield f"quarantined:  {row.reason}: {row.detail}; {row.input_file}"
        yield f"              {_start(row.row or '')}"
    if document.forgotten is not None:
        yield f"forgotten:    asked for at {document.forgotten['requested_at']}, why: {document.forgotten['why']}"
    if document.sample is not None:
        sample = document.sample
        label = {1: "positive", 0: "negative"}.get(-1 if sample.label is None else sample.label, "no label")
        by = f"by {sample.best_benchmark} row {sample.best_example}, cosine {sample.best_cosine:.3f}"
        yield f"sample:       best rank {sample.best_rank:,} ({by}), {label}{f', {sample.split}' if sample.split else ''}"
        if sample.example_text is not None:
            yield f"              {_start(sample.example_text)}"
    elif features is not None:
        yield "sample:       not in the ranked sample"
    yield from _copies(document)


def _copies(document: Explained) -> Iterator[str]:
    if document.duplicate_of is not None:
        row = document.duplicate_of
        component = f"component {row['component_id']} of {row['component_size']:,} documents"
        yield (
            f"duplicate:    {row['kind']}, similarity {row['similarity']:.3f} ({row['evidence']}) to {row['kept_doc_id']}; "
            f"{component}"
        )
    elif document.kept_for is not None:
        kept = document.kept_for
        component = f"component {kept.component_id} of {kept.component_size:,} documents"
        yield f"duplicates:   {kept.n_removed:,} removed because this one stays; {component}"
    for row in document.contamination:
        yield (
            f"test item:    {row['benchmark']} row {row['item']}: {row['coverage']:.0%} of its words, the longest match has "
            f"{row['longest_match']}; {row['action']}"
        )


def _scorer(facts: ScorerFacts) -> Iterator[str]:
    if facts.logit is None:
        yield f"scorer {facts.scorer} ({facts.kind}): no logit"
        return
    place = f"position {facts.position:,} of {facts.n_documents:,} with a logit, percentile {facts.percentile:.1f}"
    yield f"scorer {facts.scorer} ({facts.kind}): logit {facts.logit:.4f}, score {facts.score:.4f}, {place}"
    if facts.note is not None:
        yield f"  {facts.note}"
    if facts.raised or facts.lowered:
        yield f"  {'raised by (times in the text)':{_NGRAM_WIDTH + 18}}lowered by"
    for up, down in zip_longest(facts.raised, facts.lowered):
        yield f"  {_part(up):{_NGRAM_WIDTH + 18}}{_part(down)}".rstrip()
    if facts.n_others and facts.others is not None:
        yield f"  {facts.n_others:,} other n-grams add up to {facts.others:+.4f}"
    if facts.intercept:
        of_text = facts.logit - facts.intercept
        yield f"  all n-grams of the text add up to {of_text:+.4f}, the intercept is {facts.intercept:+.4f}"


def _part(part: Contribution | None) -> str:
    if part is None:
        return ""
    return f"{part.value:+9.4f}  {_cut(part.ngram, _NGRAM_WIDTH)}{f' ({part.times})' if part.times > 1 else ''}"


def _selection(outcome: Outcome) -> str:
    if outcome.status != "selected":
        return f"{outcome.selection}: {outcome.status}: {outcome.why}"
    rows = "; ".join(_values(row) for row in outcome.rows)
    return f"{outcome.selection}: selected, {rows}"


def _values(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in row.items() if value is not None)


def _start(text: str) -> str:
    return _cut(" ".join(text.split()), _WIDTH)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 3]}..."


def texts(lines: Sequence[Sequence[str]]) -> list[str]:
    """Join the lines of several documents, with an empty line between two."""
    return [line for part in lines for line in ("", *part)][1:]
