"""What a selection changes: bits per byte of held-out items under models trained on equal numbers of tokens; pure NumPy."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

TARGET, OFF_TARGET, GENERAL = "target", "off_target", "general"
ALL_TARGETS = "(targets)"
_DRAWS = 1_000
_INTERVAL = (2.5, 97.5)
Tokens = Sequence[NDArray[np.uint16]]


class LanguageModel(Protocol):
    """A model that assigns probabilities to the tokens of items."""

    def log2_probabilities(self, documents: Tokens, /) -> list[NDArray[np.float64]]:
        """Base-2 logarithms of the probability of each document's tokens."""


class Items(NamedTuple):
    """Held-out items of a benchmark (target), of an off-target file, or documents of ordinary text (general)."""

    name: str
    kind: str
    tokens: Tokens
    n_bytes: NDArray[np.int64]


class Change(NamedTuple):
    """The result of one selection or control on one set of items at one budget.

    `change` compares bits per byte with the mean of the random controls, as a fraction (negative is better); `low` and `high`
    are its 95 % interval over items. In 95 of 100 cases, the change of an additional random control is at most `spread`.
    The set ALL_TARGETS has the mean change.
    """

    name: str
    control: bool
    budget: float
    n_tokens: int
    items: str
    kind: str
    n_items: int
    bits_per_byte: float
    change: float
    low: float
    high: float
    spread: float

    @property
    def verdict(self) -> str:
        """`win` or `loss` where the interval lies below or above 0 and the change exceeds the spread, else `tie`."""
        if abs(self.change) <= self.spread or self.low <= 0 <= self.high:
            return "tie"
        return "win" if self.change < 0 else "loss"


def taken(order: NDArray[np.int64], tokens: Tokens, n_tokens: int) -> list[NDArray[np.uint16]]:
    """Return the first documents of an order with exactly `n_tokens` tokens; the last document is cut.

    Raises:
        ValueError: the order has fewer tokens.
    """
    documents, remaining = [], n_tokens
    for document in order.tolist():
        if remaining <= 0:
            break
        documents.append(tokens[document][:remaining])
        remaining -= len(documents[-1])
    if remaining > 0:
        raise ValueError(f"the documents have {n_tokens - remaining} tokens, {n_tokens} are required")
    return documents


def changes(
    tokens: Tokens,
    selections: Mapping[str, NDArray[np.int64]],
    controls: Mapping[str, NDArray[np.int64]],
    sets: Sequence[Items],
    *,
    budget: float,
    train: Callable[[Tokens], LanguageModel],
) -> list[Change]:
    """Train a model on each selection and control and evaluate it on every set of items.

    Args:
        tokens: token ids of each document of the pool.
        selections: by name, document numbers of the pool, the best first.
        controls: by name, document numbers in random order; at least two. The baseline is their mean.
        sets: held-out items.
        budget: fraction of the pool's tokens that each model sees.
        train: trains a model on documents.

    Raises:
        ValueError: the budget is below one token, or an order has fewer tokens than the budget.
    """
    n_tokens = round(budget * sum(len(document) for document in tokens))
    if n_tokens < 1:
        raise ValueError(
            f"budget: {budget:g} of the pool's tokens is less than one token; a larger fraction is required"
        )
    bits: dict[str, list[NDArray[np.float64]]] = {}
    for name, ranked in {**selections, **controls}.items():
        model = train(taken(ranked, tokens, n_tokens))
        bits[name] = [np.array([-p.sum() for p in model.log2_probabilities(items.tokens)]) for items in sets]
    weights = [_weights(len(items.tokens)) for items in sets]
    base = [np.mean([bits[name][at] for name in controls], axis=0) for at in range(len(sets))]
    targets = [at for at, items in enumerate(sets) if items.kind == TARGET]
    control_changes = np.array([[bits[c][at].sum() / base[at].sum() - 1 for at in range(len(sets))] for c in controls])
    spread = [_half_width(control_changes[:, at]) for at in range(len(sets))]
    results = []
    for name, item_bits in bits.items():
        identity = name, name in controls, budget, n_tokens
        ratios = [weights[at] @ item_bits[at] / (weights[at] @ base[at]) - 1 for at in range(len(sets))]
        total_changes = [float(item_bits[at].sum() / base[at].sum() - 1) for at in range(len(sets))]
        for at, items in enumerate(sets):
            low, high = np.percentile(ratios[at], _INTERVAL)
            size = float(item_bits[at].sum() / items.n_bytes.sum())
            figures = size, total_changes[at], float(low), float(high), spread[at]
            results.append(Change(*identity, items.name, items.kind, len(item_bits[at]), *figures))
        if targets:
            low, high = np.percentile(np.mean([ratios[at] for at in targets], axis=0), _INTERVAL)
            mean = (
                float(np.mean([total_changes[at] for at in targets])),
                _half_width(control_changes[:, targets].mean(axis=1)),
            )
            size = float(np.mean([item_bits[at].sum() / sets[at].n_bytes.sum() for at in targets]))
            count = sum(len(item_bits[at]) for at in targets)
            results.append(
                Change(*identity, ALL_TARGETS, TARGET, count, size, mean[0], float(low), float(high), mean[1])
            )
    return results


def _half_width(changes: NDArray[np.float64]) -> float:
    """Half the width of the 95 % prediction interval of an additional draw, by Student's t; the draws' mean is 0."""
    n = len(changes)
    from scipy.stats import t as student  # noqa: PLC0415 - takes a second, and every command imports this module

    return float(student.ppf(0.975, n - 1) * np.std(changes, ddof=1) * np.sqrt(1 + 1 / n))


def _weights(n: int) -> NDArray[np.float64]:
    """Bootstrap counts of n items, [draws, n]; the same for all selections, so that their items are paired."""
    return np.random.default_rng(n).multinomial(n, np.full(n, 1 / n), size=_DRAWS).astype(np.float64)


def table(results: Sequence[Change]) -> list[str]:
    """Format the changes as lines of a table."""
    lines = [f"{'':20} {'budget':>6} {'items':20} {'bits/byte':>9} {'change':>8}  {'95 % interval':18} {'random':>7}"]
    for row in results:
        if not row.control:
            interval = f"[{row.low:+.2%}, {row.high:+.2%}]"
            lines.append(
                f"{row.name[:20]:20} {100 * row.budget:5.4g}% {row.items[:20]:20} {row.bits_per_byte:9.4f} {row.change:+8.2%}  "
                f"{interval:18} {row.spread:7.2%}  {row.verdict}"
            )
    return lines


def conclusions(results: Sequence[Change]) -> list[str]:
    """Summarise each selection and budget in one sentence."""
    sentences = []
    for whole in results:
        if whole.control or whole.items != ALL_TARGETS:
            continue
        set_rows = [
            row for row in results if (row.name, row.budget) == (whole.name, whole.budget) and row.items != ALL_TARGETS
        ]
        counts = {v: sum(row.verdict == v for row in set_rows if row.kind == TARGET) for v in ("win", "loss", "tie")}
        words = {"win": "better", "loss": "worse", "tie": "undecided"}
        elsewhere = ", ".join(
            f"{row.items} {row.change:+.1%} ({words[row.verdict]})" for row in set_rows if row.kind != TARGET
        )
        verdict = {"win": "helps", "loss": "harms", "tie": "cannot be distinguished from random"}[whole.verdict]
        sentences.append(
            f"{whole.name} at {100 * whole.budget:.4g}% of the tokens {verdict}: {whole.change:+.2%} bits per byte against "
            f"random (95 % in [{whole.low:+.2%}, {whole.high:+.2%}], another random draw within {whole.spread:.2%}); better on "
            f"{counts['win']} of {sum(counts.values())} benchmarks, worse on {counts['loss']}, undecided on {counts['tie']}"
            + (f"; outside the targets: {elsewhere}" if elsewhere else "")
        )
    return sentences
