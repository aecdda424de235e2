"""The configuration's text: YAML with a comment for each guess."""

from collections.abc import Sequence
from typing import Any

import yaml

from betr_spark.draft.benchmarks import GuessedTarget
from betr_spark.draft.columns import Columns, Guess
from betr_spark.draft.documents import Documents
from betr_spark.errors import one_line

_LINE = 118
_UNEQUAL = 3
SMALL_CORPUS, FEW = 500, 1_500


def sample_size(n_documents: int) -> tuple[int, str]:
    """How many documents to rank, and why."""
    if n_documents <= FEW:
        return max(1, n_documents), f"{n_documents:,} documents: all of them"
    if n_documents >= 10**6:
        return (
            20_000,
            f"about {n_documents:,} documents; a larger sample makes the ranking finer and takes longer to embed",
        )
    size = min(10_000, max(FEW, n_documents // 5))
    return size, f"about {n_documents:,} documents; a larger sample makes the ranking finer and takes longer to embed"


def unequal(targets: Sequence[GuessedTarget]) -> str:
    """What a benchmark with few examples means for the others; empty where the numbers are of one size."""
    smallest = min(targets, key=lambda target: target.n_examples)
    if _UNEQUAL * smallest.n_examples > max(target.n_examples for target in targets):
        return ""
    return (
        f"each target contributes as many examples as {smallest.name} has ({smallest.n_examples:,}); with `balance: none`, a "
        "target contributes all that it has"
    )


def text_of(documents: Documents, columns: Columns, targets: Sequence[GuessedTarget], *, output: str, file: str) -> str:
    """Write the configuration.

    Args:
        documents: what was found.
        columns: the guesses for its columns.
        targets: the benchmarks.
        output: folder of the tables.
        file: name of the configuration's file, for the commands in its head.
    """
    size, why = sample_size(documents.n_documents)
    lines = [
        "# Written by `betr-spark init`. Lines above a key say why it was chosen. docs/configuration.md explains every key.",
        f"# Next: betr-spark check --config {one_line(file)}   then: betr-spark run --config {one_line(file)}",
        "",
        "input:",
        f"  path: {_scalar(documents.path)}",
        f"  format: {documents.format}",
        *_guess("id", columns.id),
        *_guess("text", columns.text),
        *_guess("source", columns.source),
        *(["  # copied to the selections", f"  columns: [{_scalar(columns.carried[0])}]"] if columns.carried else []),
        "",
        f"output: {_scalar(output)}",
        "",
        "targets:",
    ]
    for name, target, reasons, _, n_examples in targets:
        lines.append(f"  {_scalar(name)}:")
        lines += [line for reason in (f"{n_examples:,} examples", *reasons) for line in _comment(reason, 4)]
        values = target.model_dump(exclude_none=True, exclude={"examples", "balance"})
        lines += [f"    {key}: {_scalar(value)}" for key, value in values.items()]
    lines += _comment(unequal(targets), 2) if unequal(targets) else []
    if not any(target.target.test for target in targets):
        lines.append(
            "# For `betr-spark evaluate`, add to a target: test: FILE, or for a benchmark of one file: split: {test: 0.5}"
        )
    lines += [
        "",
        *_comment(f"{why}; `betr-spark run --dry-run` prints the time to embed", 0),
        f"sample: {{documents: {size}}}",
        "",
        "selections:",
        "  # the best tenth of the tokens, and as many of random documents to compare with",
        "  betr-10: {scorer: betr, keep: {token_fraction: 0.1}}",
        "  random-10: {scorer: random, keep: {tokens_of: betr-10}}",
    ]
    return "\n".join(lines) + "\n"


def _guess(key: str, guess: Guess) -> list[str]:
    value = f"  {key}: {_scalar(guess.value)}" if guess.value is not None else f"  # {key}: COLUMN"
    return [*_comment(guess.why, 2), value]


def _comment(text: str, indent: int) -> list[str]:
    """A comment of lines that are not too long; what a terminal would act on is escaped."""
    margin = f"{' ' * indent}# "
    lines, line = [], margin
    for word in one_line(text).split(" "):
        if len(line) > len(margin) and len(line) + 1 + len(word) > _LINE:
            lines.append(line)
            line = margin
        line += word if line == margin else f" {word}"
    return [*lines, line]


def _scalar(value: Any) -> str:
    """A value in YAML, in one line."""
    style = '"' if isinstance(value, str) and ("\n" in value or "{" in value) else None
    return (
        yaml.safe_dump(value, default_style=style, width=float("inf"), allow_unicode=True).removesuffix("...\n").strip()
    )
