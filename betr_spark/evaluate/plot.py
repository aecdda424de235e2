"""The plot of an evaluation."""

from collections.abc import Sequence
from typing import BinaryIO

from betr_spark.evaluate.benefit import Change


def plot(results: Sequence[Change], file: BinaryIO) -> None:
    """Draw one panel for each budget: the change of bits per byte by items and selection, with interval and random spread."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import

    budgets = list(dict.fromkeys(row.budget for row in results))
    names = list(dict.fromkeys(row.name for row in results if not row.control))
    figure = Figure(figsize=(9, 1 + 3 * len(budgets)), layout="constrained")
    for axes, budget in zip(figure.subplots(len(budgets), squeeze=False)[:, 0], budgets, strict=True):
        rows = [row for row in results if row.budget == budget and not row.control]
        items = list(dict.fromkeys(row.items for row in rows))
        spreads = [next(row.spread for row in rows if row.items == item) for item in items]
        axes.bar(
            range(len(items)),
            [200 * s for s in spreads],
            0.9,
            [-100 * s for s in spreads],
            color="0.85",
            label="random",
        )
        for number, name in enumerate(names):
            changes = [next(row for row in rows if (row.name, row.items) == (name, item)) for item in items]
            centres = [tick + (number - (len(names) - 1) / 2) * 0.8 / len(names) for tick in range(len(items))]
            ends = [
                [100 * (row.change - row.low) for row in changes],
                [100 * (row.high - row.change) for row in changes],
            ]
            axes.errorbar(centres, [100 * row.change for row in changes], ends, fmt="o", capsize=3, label=name)
        axes.axhline(0, color="0.4", linewidth=0.8)
        axes.set_xticks(range(len(items)), items)
        axes.set_ylabel("bits per byte against random, %")
        axes.set_title(f"{100 * budget:.4g}% of the pool's tokens; below 0 is better")
    figure.axes[0].legend()
    figure.savefig(file, format="png", dpi=120)
