"""Laws of all tasks, and how well they predict runs that they were not fitted to."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from betr_spark.errors import DataError
from betr_spark.mixture.law import Law, fit_law
from betr_spark.mixture.runs import RUNS_PER_GROUP, Runs

MIN_AGREEMENT = 0.5


class TaskFit(NamedTuple):
    """The law of a task.

    agreement: rank correlation (Spearman) of the losses with their predictions by laws that were fitted without the run.
    error: mean absolute error of these predictions, in units of loss. spread: mean absolute distance of the losses from their
    median, for comparison.
    """

    task: str
    law: Law
    agreement: float
    error: float
    spread: float


class Fit(NamedTuple):
    """Laws of all tasks; `agreement` is the mean over them."""

    tasks: list[TaskFit]

    @property
    def agreement(self) -> float:
        """Mean rank correlation."""
        return float(np.mean([task.agreement for task in self.tasks]))

    def check(self, runs: Runs) -> None:
        """Refuse a fit that does not predict.

        Raises:
            DataError: the mean rank correlation is below 0.5.
        """
        if self.agreement < MIN_AGREEMENT:
            each = ", ".join(f"{task.task} {task.agreement:.2f}" for task in self.tasks)
            required = f"about {RUNS_PER_GROUP * len(runs.groups)} distinct mixtures for {len(runs.groups)} groups"
            raise DataError(
                f"{runs.path}: the laws predict left-out runs with a mean rank correlation of {self.agreement:.2f} ({each}); "
                f"at least {MIN_AGREEMENT} is required; add runs ({required}, found {runs.n_mixtures}) or use larger proxies"
            )


def fit_runs(runs: Runs) -> Fit:
    """Fit a law for each task, and measure it on runs that are left out one mixture at a time.

    Runs of the same mixture are left out together: one would predict the other. Each left-out fit begins at starts of its own.
    """
    tasks = []
    for name, losses in zip(runs.tasks, runs.losses.T, strict=True):
        predicted = left_out(runs, losses)
        error = float(np.mean(np.abs(predicted - losses)))
        spread = float(np.mean(np.abs(losses - np.median(losses))))
        law = fit_law(runs.weights, losses)
        tasks.append(TaskFit(name, law, rank_correlation(losses, predicted), error, spread))
    return Fit(tasks)


def left_out(runs: Runs, losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Loss of each run as the law of all runs on other mixtures predicts it, float64 [n]."""
    predicted = np.empty(len(losses))
    for number in range(runs.n_mixtures):
        left = runs.mixture == number
        rest = losses[~left]
        if np.ptp(rest) == 0:
            predicted[left] = rest[0]
        else:
            predicted[left] = fit_law(runs.weights[~left], rest).predict(runs.weights[left])
    return predicted


def rank_correlation(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Spearman's rank correlation, ties at their mean rank; 0 if one side is constant."""
    ranks = rankdata(x), rankdata(y)
    if min(np.ptp(rank) for rank in ranks) == 0:
        return 0.0
    return float(np.corrcoef(*ranks)[0, 1])
