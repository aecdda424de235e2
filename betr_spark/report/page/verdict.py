"""The section with the verdict: what was asked for, what came out, the guards, and warnings."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from betr_spark.config import Config, KeepConfig
from betr_spark.config.selections import SelectionConfig
from betr_spark.report.page.funnel import Funnel, Records
from betr_spark.report.page.scores import Scores
from betr_spark.report.page.sources import Sources
from betr_spark.selection.budget import short_of_budget
from betr_spark.selection.keep_rate import VALID_FLOPS, keep_rate
from betr_spark.storage.delta import as_object

_MUCH_QUARANTINE, _MUCH_OF_A_SOURCE, _MUCH_LOSS = 0.01, 0.5, 0.5
_LONG_CORRELATION = 0.5
_MANY_EPOCHS = 4


class Guard(NamedTuple):
    """A limit of the configuration and what was measured; `limit` is empty if none is set."""

    name: str
    limit: str
    measured: str


class Verdict(NamedTuple):
    """The outcome of a selection.

    Attributes:
        scorer: that ranks it.
        asked: the budget, in words.
        rules: other settings of the selection, in words.
        documents: selected, each once.
        tokens: theirs, each document once.
        repeated_tokens: after repetition; None without.
        unit: of tokens.
        fraction: of the eligible tokens; None if it is not recorded.
        guards: of deduplication.
        warnings: what to look at.
    """

    scorer: str
    asked: str
    rules: list[str]
    documents: int
    tokens: int
    repeated_tokens: int | None
    unit: str
    fraction: float | None
    guards: list[Guard]
    warnings: list[str]


def asked(keep: KeepConfig, *, unit: str) -> str:
    """The budget in words."""
    if keep.tokens_of is not None:
        return f"as many tokens as {keep.tokens_of}"
    if keep.documents is not None:
        return f"{keep.documents:,} documents"
    if keep.tokens is not None:
        return f"{keep.tokens:,} tokens ({unit})"
    if keep.min_score is not None:
        return f"every document with a score of at least {keep.min_score:g}"
    if keep.training is not None:
        rate = keep_rate(keep.training).fraction
        return f"{100 * rate:.3g} % of the tokens: {keep.training.law} for a run of {keep.training.compute():.3g} FLOPs"
    return f"{100 * (keep.token_fraction or 0):g} % of the tokens of the eligible documents"


def asked_of(selection: SelectionConfig, *, unit: str) -> str:
    """What a selection was asked for, in words; with phases that all have a budget of their own, those of the phases."""
    phases = selection.phases
    if not phases or any(phase.keep is None for phase in phases):
        return asked(selection.keep, unit=unit)
    return "; ".join(f"{phase.name}: {phase.tokens:,} tokens ({unit})" for phase in phases)


def rules(selection: SelectionConfig) -> list[str]:
    """Settings beside the budget, in words."""
    lines = [f"only documents for which {selection.where}"] if selection.where else []
    for column, shares in selection.quota.items():
        lines.append(f"quota by {column}: {', '.join(f'{value} {share:g}' for value, share in shares.items())}")
    lines += [f"no value of {column} has more than {maximum:.0%}" for column, maximum in selection.max_fraction.items()]
    lines += ["equally many of the best documents by each benchmark"] if selection.balance else []
    lines += ["every source has as many tokens as in the other selection"] if selection.stratified else []
    lines += ["documents are repeated by their rank"] if selection.sample else []
    lines += [f"phases: {', '.join(phase.name for phase in selection.phases)}"] if selection.phases else []
    return lines


def verdict(
    config: Config, name: str, records: Records, *, documents: int, unit: str, rows: Funnel | None, scores: Scores | None,
    sources: Sources | None, warnings: Sequence[str] = (),
) -> Verdict | None:  # fmt: skip
    """Put the verdict on a selection together; None if it does not exist.

    Args:
        config: of the output.
        name: of the selection.
        records: of its tables.
        documents: of the selection, each once.
        unit: of tokens.
        rows: its funnel.
        scores: its scores.
        sources: its shares of sources.
        warnings: others, which come first.
    """
    if records.select is None:
        return None
    selection, metrics = config.selections[name], records.select.metrics
    tokens, repeated = metrics.get("kept_tokens", 0), metrics.get("repeated_tokens")
    lines = [*warnings, *(rows.gaps if rows else [])]
    left = records.select.dropped.get("below_cut", 0)
    lines += _short(selection, documents, metrics, left=left)
    lines += _of_the_input(records)
    if sources:
        lines += [
            f"{source.source} has {source.after:.0%} of the selected tokens"
            for source in sources.rows if source.after > _MUCH_OF_A_SOURCE and sources.n_sources > 1
        ]  # fmt: skip
    if scores and abs(scores.lengths.correlation or 0) > _LONG_CORRELATION:
        lines.append(f"the score follows the length: their correlation is {scores.lengths.correlation:.2f}")
    current = scores.what_if.current if scores else None
    if scores and scores.what_if.is_configured and current and (current.epochs or 0) > _MANY_EPOCHS:
        lines.append(f"the training run reads each token {current.epochs:.1f} times, more than about {_MANY_EPOCHS}")
    guards = _guards(records)
    return Verdict(
        selection.scorer, asked_of(selection, unit=unit), rules(selection), documents, int(tokens),
        None if repeated is None else int(repeated), unit, metrics.get("kept_fraction"), guards, lines,
    )  # fmt: skip


def _short(selection: SelectionConfig, documents: int, metrics: Any, *, left: int) -> list[str]:
    """Whether the selection is smaller than its budget, or has none; `left` documents are below the cut."""
    if not documents:
        return ["no document is selected"]
    tokens, keep = metrics.get("repeated_tokens") or metrics.get("kept_tokens", 0), selection.keep
    short = short_of_budget(
        selection, documents=documents, tokens=int(tokens), eligible=int(metrics.get("survivor_tokens", 0)), left=left
    )
    lines = [short] if short else []
    if keep.training is not None and not keep_rate(keep.training).in_range:
        lines.append(f"the law {keep.training.law} was fitted to {VALID_FLOPS[0]:g} to {VALID_FLOPS[1]:g} FLOPs")
    return lines


def _of_the_input(records: Records) -> list[str]:
    features, dedup, lines = records.features, records.dedup, []
    if features is not None and features.rows_in:
        lost = sum(count for reason, count in features.dropped.items() if reason not in ("copies", "forgotten"))
        if lost / features.rows_in > _MUCH_QUARANTINE:
            lines.append(f"{lost / features.rows_in:.1%} of the rows could not be used; see the table `quarantine`")
    if dedup is not None and dedup.metrics.get("largest_source_loss", 0) > _MUCH_LOSS:
        lines.append(f"deduplication removed {dedup.metrics['largest_source_loss']:.0%} of a source")
    return lines


def _guards(records: Records) -> list[Guard]:
    """The guards of the run that wrote `duplicates`; it stops if one of them is exceeded, so those that are set have passed."""
    if records.dedup is None:
        return []
    settings, metrics = as_object(records.dedup.config).get("dedup", {}), records.dedup.metrics
    loss, component = settings.get("max_source_loss"), settings.get("max_component")
    return [
        Guard(
            "largest loss of a source", "" if loss is None else f"at most {loss:.0%}",
            f"{metrics.get('largest_source_loss', 0):.1%} of its documents",
        ),
        Guard(
            "largest component", "" if component is None else f"at most {component:,} documents",
            f"{metrics.get('largest_component', 0):,.0f} documents",
        ),
    ]  # fmt: skip
