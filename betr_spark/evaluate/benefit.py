"""What a selection changes: bits per byte of held-out items under models trained on equal numbers of tokens; pure NumPy."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

TARGET, OFF_TARGET, GENERAL = "target", "off_target", "general"
ALL_TARGETS = "(targets)"
_DRAWS = 1_000
_INTERVAL = (2.5, 97.5)
Tokens = Sequence[NDArray[np.uint16]]


class LanguageModel(Protocol):
    """What reads items."""

    def log2_probabilities(self, documents: Tokens, /) -> list[NDArray[np.float64]]:
        """Base-2 logarithms of the probability of each document's tokens."""


class Items(NamedTuple):
    """Held-out items: of a benchmark (target), of an off-target file, or documents of ordinary text (general)."""

    name: str
    kind: str
    tokens: Tokens
    n_bytes: NDArray[np.int64]


class Change(NamedTuple):
    """One selection or control on one set of items at one budget.

    Bits per byte, and its change against the mean of the random controls, as a fraction (negative is better), with a 95 %
    interval over items; `spread` is what one more random control would change at most, in 95 of 100 cases. The set ALL_TARGETS
    has the mean change.
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
    """Documents in an order, up to exactly a number of tokens; the last one is cut.

    Raises:
        ValueError: there are not as many.
    """
    found, left = [], n_tokens
    for document in order.tolist():
        if left <= 0:
            break
        found.append(tokens[document][:left])
        left -= len(found[-1])
    if left > 0:
        raise ValueError(f"{n_tokens - left} tokens, {n_tokens} are wanted")
    return found


def changes(
    tokens: Tokens,
    selections: Mapping[str, NDArray[np.int64]],
    controls: Mapping[str, NDArray[np.int64]],
    sets: Sequence[Items],
    *,
    budget: float,
    train: Callable[[Tokens], LanguageModel],
) -> list[Change]:
    """Train a model on each selection and control and read every set of items.

    Args:
        tokens: of the pool's documents.
        selections: documents of the pool, the best first.
        controls: the same at random, two at least; the baseline is their mean.
        sets: held-out items.
        budget: fraction of the pool's tokens that each model sees.
        train: makes a model of documents.
    """
    n_tokens = round(budget * sum(len(document) for document in tokens))
    if n_tokens < 1:
        raise ValueError("no token of the pool; a larger fraction is wanted")
    bits: dict[str, list[NDArray[np.float64]]] = {}
    for name, ranked in {**selections, **controls}.items():
        model = train(taken(ranked, tokens, n_tokens))
        bits[name] = [np.array([-p.sum() for p in model.log2_probabilities(items.tokens)]) for items in sets]
    drawn = [_weights(len(items.tokens)) for items in sets]
    base = [np.mean([bits[name][at] for name in controls], axis=0) for at in range(len(sets))]
    targets = [at for at, items in enumerate(sets) if items.kind == TARGET]
    drawn_by_chance = np.array([[bits[c][at].sum() / base[at].sum() - 1 for at in range(len(sets))] for c in controls])
    spread = [_one_more(drawn_by_chance[:, at]) for at in range(len(sets))]
    found = []
    for name, own in bits.items():
        about = name, name in controls, budget, n_tokens
        ratios = [drawn[at] @ own[at] / (drawn[at] @ base[at]) - 1 for at in range(len(sets))]
        whole = [float(own[at].sum() / base[at].sum() - 1) for at in range(len(sets))]
        for at, items in enumerate(sets):
            low, high = np.percentile(ratios[at], _INTERVAL)
            size = float(own[at].sum() / items.n_bytes.sum())
            figures = size, whole[at], float(low), float(high), spread[at]
            found.append(Change(*about, items.name, items.kind, len(own[at]), *figures))
        if targets:
            low, high = np.percentile(np.mean([ratios[at] for at in targets], axis=0), _INTERVAL)
            mean = float(np.mean([whole[at] for at in targets])), _one_more(drawn_by_chance[:, targets].mean(axis=1))
            size = float(np.mean([own[at].sum() / sets[at].n_bytes.sum() for at in targets]))
            count = sum(len(own[at]) for at in targets)
            found.append(Change(*about, ALL_TARGETS, TARGET, count, size, mean[0], float(low), float(high), mean[1]))
    return found


def _one_more(changes: NDArray[np.float64]) -> float:
    """Half the 95 % prediction interval of one more draw, by Student's t; the draws' mean is 0."""
    n = len(changes)
    return float(student.ppf(0.975, n - 1) * np.std(changes, ddof=1) * np.sqrt(1 + 1 / n))


def _weights(n: int) -> NDArray[np.float64]:
    """How often each of n items is drawn, [draws, n]; the same for all selections, so that their items are paired."""
    return np.random.default_rng(n).multinomial(n, np.full(n, 1 / n), size=_DRAWS).astype(np.float64)


def table(found: Sequence[Change]) -> list[str]:
    """The changes as text."""
    shown = [f"{'':20} {'budget':>6} {'items':20} {'bits/byte':>9} {'change':>8}  {'95 % interval':18} {'random':>7}"]
    for row in found:
        if not row.control:
            interval = f"[{row.low:+.2%}, {row.high:+.2%}]"
            shown.append(
                f"{row.name[:20]:20} {100 * row.budget:5.4g}% {row.items[:20]:20} {row.bits_per_byte:9.4f} {row.change:+8.2%}  "
                f"{interval:18} {row.spread:7.2%}  {row.verdict}"
            )
    return shown


def conclusions(found: Sequence[Change]) -> list[str]:
    """One sentence for each selection and budget."""
    sentences = []
    for whole in found:
        if whole.control or whole.items != ALL_TARGETS:
            continue
        own = [
            row for row in found if (row.name, row.budget) == (whole.name, whole.budget) and row.items != ALL_TARGETS
        ]
        counts = {v: sum(row.verdict == v for row in own if row.kind == TARGET) for v in ("win", "loss", "tie")}
        words = {"win": "better", "loss": "worse", "tie": "undecided"}
        others = ", ".join(f"{row.items} {row.change:+.1%} ({words[row.verdict]})" for row in own if row.kind != TARGET)
        verdict = {"win": "helps", "loss": "harms", "tie": "cannot be told from random"}[whole.verdict]
        sentences.append(
            f"{whole.name} at {100 * whole.budget:.4g}% of the tokens {verdict}: {whole.change:+.2%} bits per byte against "
            f"random (95 % in [{whole.low:+.2%}, {whole.high:+.2%}], another random draw within {whole.spread:.2%}); better on "
            f"{counts['win']} of {sum(counts.values())} benchmarks, worse on {counts['loss']}, undecided on {counts['tie']}"
            + (f"; elsewhere: {others}" if others else "")
        )
    return sentences
