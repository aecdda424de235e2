"""From two small tables to a proposed mixture, with what a reader needs to judge it."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from betr_spark.errors import ConfigError, quoted
from betr_spark.mixture.fit import Fit, TaskFit, fit_runs
from betr_spark.mixture.propose import Proposal, propose
from betr_spark.mixture.runs import Available, Runs

_LARGE_GAP = 1e-6  # relative to the objective
_SHOWN_OUTSIDE = 5


class GroupWeight(NamedTuple):
    """A group of the mixture.

    natural: share of the available tokens, or the mean weight of the runs. weight: proposed. lowest, highest: weights of the
    runs. tokens: available. repeats: how often a run of D tokens reads each of them. The last two are None without their
    tables.
    """

    group: str
    natural: float
    weight: float
    lowest: float
    highest: float
    tokens: int | None
    repeats: float | None


class TaskResult(NamedTuple):
    """A task: its law, its agreement, and its predicted loss for the natural and for the proposed mixture."""

    task: str
    agreement: float
    error: float
    spread: float
    natural_loss: float
    proposed_loss: float
    c: float
    t: dict[str, float]


class Mixture(NamedTuple):
    """A proposal; `agreement` is the mean rank correlation of left-out runs with their predictions."""

    runs: int
    mixtures: int
    agreement: float
    tokens: int | None
    max_repeats: float | None
    groups: list[GroupWeight]
    tasks: list[TaskResult]
    warnings: list[str]

    def lines(self) -> list[str]:
        """Two tables, and the warnings."""
        head = f"{self.runs} runs on {self.mixtures} distinct mixtures; agreement {self.agreement:.3f}"
        groups = [["group", "natural", "proposed", *(["repeats"] if self.tokens else [])]]
        for group in self.groups:
            repeats = [f"{group.repeats:.2f}"] if group.repeats is not None else []
            groups.append([group.group, f"{group.natural:.4f}", f"{group.weight:.4f}", *repeats])
        tasks = [["task", "agreement", "error", "spread", "natural loss", "proposed loss"]]
        for task in self.tasks:
            losses = task.error, task.spread, task.natural_loss, task.proposed_loss
            tasks.append([task.task, f"{task.agreement:.3f}", *(f"{loss:.4f}" for loss in losses)])
        tables = [*_aligned(groups), "", *_aligned(tasks)]
        return [head, "", *tables, *[f"warning: {warning}" for warning in self.warnings]]


def mixture_of(
    runs: Runs, available: Available | None, *, tokens: int | None = None, max_repeats: float = 4.0
) -> Mixture:
    """Fit the runs and propose a mixture.

    Args:
        runs: as `Runs.read` gives them.
        available: tokens of each group; without it, the natural mixture is the mean of the runs, and nothing limits a weight.
        tokens: of the training run; it limits the weights so that no group is repeated more than `max_repeats` times.
        max_repeats: > 0.

    Raises:
        ConfigError: `tokens` without `available`.
        DataError: the laws do not predict left-out runs, or there are not enough tokens.
    """
    if tokens is not None and available is None:
        raise ConfigError("--tokens: the tokens of each group are required, too; give them by --available FILE")
    natural = available.natural() if available else runs.weights.mean(axis=0)
    limits = available.limits(tokens=tokens, max_repeats=max_repeats) if available and tokens else None
    fit = fit_runs(runs)
    fit.check(runs)
    proposal = propose([task.law for task in fit.tasks], natural, limits=limits)
    of_group = available.tokens if available else (None,) * len(runs.groups)
    lowest, highest = runs.weights.min(axis=0).tolist(), runs.weights.max(axis=0).tolist()
    shares = natural.tolist(), proposal.weights.tolist(), lowest, highest, of_group
    rows = [
        GroupWeight(name, *values, repeats=weight * tokens / values[-1] if tokens and values[-1] else None)
        for name, weight, values in zip(runs.groups, proposal.weights.tolist(), zip(*shares, strict=True), strict=True)
    ]
    return Mixture(
        runs=len(runs.losses), mixtures=runs.n_mixtures, agreement=fit.agreement, tokens=tokens,
        max_repeats=max_repeats if tokens else None, groups=rows,
        tasks=[_task(task, runs.groups, natural, proposal.weights) for task in fit.tasks],
        warnings=[*runs.warnings(), *_warnings(rows, proposal, fit)],
    )  # fmt: skip


def _task(
    fit: TaskFit, groups: tuple[str, ...], natural: NDArray[np.float64], proposed: NDArray[np.float64]
) -> TaskResult:
    t = dict(zip(groups, fit.law.t.tolist(), strict=True))
    losses = float(fit.law.predict(natural)), float(fit.law.predict(proposed))
    return TaskResult(fit.task, fit.agreement, fit.error, fit.spread, *losses, fit.law.c, t)


def _warnings(groups: list[GroupWeight], proposal: Proposal, fit: Fit) -> Iterator[str]:
    outside = [group for group in groups if not group.lowest <= group.weight <= group.highest]
    for group in outside[:_SHOWN_OUTSIDE]:
        within = f"{group.lowest:.4f} to {group.highest:.4f}"
        yield f"{quoted(group.group)}: the proposed weight {group.weight:.4f} is outside the runs' {within}; check it by a run"
    if len(outside) > _SHOWN_OUTSIDE:
        yield f"{len(outside) - _SHOWN_OUTSIDE} more groups have a weight outside those of the runs"
    for task in fit.tasks:
        if task.error >= task.spread:
            errors = f"{task.error:.4f}, spread {task.spread:.4f}"
            yield f"{quoted(task.task)}: left-out losses are predicted no better than by their median (error {errors})"
    if proposal.gap > _LARGE_GAP * (1 + abs(proposal.objective)):
        yield f"the minimum was not reached: the objective may be {proposal.gap:.2g} above it; check the losses for outliers"


def _aligned(rows: list[list[str]]) -> list[str]:
    """Columns of equal width; the first one to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
