"""Finished proxy runs, and the tokens that each group has: read from small tables and checked."""

from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from betr_spark.errors import ConfigError, DataError, SchemaError, quoted
from betr_spark.mixture.table import Table, as_number, raise_problems, read_table

MAX_GROUPS = 100
MAX_TASKS = 50
SUM_TOLERANCE = 1e-3
RUNS_PER_GROUP = 5
_RUN, _GROUP, _TOKENS = "run", "group", "tokens"
_RANK_TOLERANCE = 1e-6  # a singular value of the weights, relative to the largest
_DIGITS = 30  # of a number of tokens


class Runs(NamedTuple):
    """Proxy runs, n of them, on mixtures of m groups, measured on k tasks.

    weights: share of each group in a run's tokens; rows sum to 1, float64 [n, m]. losses: float64 [n, k].
    mixture: runs of equal weights have the same number, int64 [n].
    """

    path: str
    groups: tuple[str, ...]
    tasks: tuple[str, ...]
    weights: NDArray[np.float64]
    losses: NDArray[np.float64]
    mixture: NDArray[np.int64]

    @property
    def n_mixtures(self) -> int:
        """Number of distinct mixtures."""
        return int(self.mixture.max()) + 1

    @classmethod
    def read(cls, path: Path, *, weight_prefix: str = "weight_", loss_prefix: str = "loss_") -> Self:
        """Read and check a table of runs: one row a run, a column of weights for each group, one of losses for each task.

        A column `run`, if there is one, holds unique names; other columns are ignored. Weights are divided by their sum.

        Args:
            path: as `read_table` takes it.
            weight_prefix: what the names of columns of weights begin with; the rest is the group's name.
            loss_prefix: the same for losses and tasks.

        Raises:
            ConfigError: a prefix is empty, or one begins with the other.
            SchemaError: fewer than two groups or no task, or more than 100 groups or 50 tasks.
            DataError: an invalid value, too few runs, or runs that cannot tell the groups apart; one line for each.
        """
        if not weight_prefix or not loss_prefix:
            raise ConfigError("--weight-prefix, --loss-prefix: empty; a prefix of at least one character is required")
        if weight_prefix.startswith(loss_prefix) or loss_prefix.startswith(weight_prefix):
            found = f"{quoted(weight_prefix)} and {quoted(loss_prefix)}"
            raise ConfigError(f"--weight-prefix, --loss-prefix: {found}; neither may begin with the other")
        table = read_table(path)
        groups, tasks = _named(table, weight_prefix), _named(table, loss_prefix)
        _check_counts(table, groups, weight_prefix, least=2, most=MAX_GROUPS, what="groups")
        _check_counts(table, tasks, loss_prefix, least=1, most=MAX_TASKS, what="tasks")
        problems = _names_twice(table, _RUN)
        weights = _numbers(table, [f"{weight_prefix}{name}" for name in groups], problems, least=0.0)
        losses = _numbers(table, [f"{loss_prefix}{name}" for name in tasks], problems)
        for row, total in enumerate(weights.sum(axis=1)):
            if abs(total - 1) > SUM_TOLERANCE:
                where = f"{path}: row {row + 1}: columns {quoted(weight_prefix + '*')}"
                problems.append(f"{where}: the weights sum to {total:.6g}; 1 is required (within {SUM_TOLERANCE:g})")
        raise_problems(problems)
        weights /= weights.sum(axis=1, keepdims=True)
        mixture = np.unique(np.round(weights, 9), axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
        runs = cls(str(path), groups, tasks, weights, losses, mixture)
        raise_problems(list(_not_enough(runs, weight_prefix, loss_prefix)))
        return runs

    def warnings(self) -> list[str]:
        """What makes a fit of these runs less reliable, one line each."""
        if self.n_mixtures >= RUNS_PER_GROUP * len(self.groups):
            return []
        recommended = f"about {RUNS_PER_GROUP} a group ({RUNS_PER_GROUP * len(self.groups)}) are recommended"
        return [f"{self.path}: {self.n_mixtures} distinct mixtures for {len(self.groups)} groups; {recommended}"]


class Available(NamedTuple):
    """Tokens of each group in the order of `Runs.groups`, m whole numbers >= 1."""

    path: str
    tokens: tuple[int, ...]

    @classmethod
    def read(cls, path: Path, groups: tuple[str, ...]) -> Self:
        """Read a table with the columns `group` and `tokens`: one row for each group of the runs, and no other.

        Raises:
            SchemaError: a column is missing.
            DataError: a group is missing, unknown or repeated, or its tokens are not a whole number of at least 1.
        """
        table = read_table(path)
        if missing := [name for name in (_GROUP, _TOKENS) if name not in table.columns]:
            raise SchemaError(*[f"{path}: column {quoted(name)} not found; it is required" for name in missing])
        problems, tokens = _names_twice(table, _GROUP), {}
        for row, (name, value) in enumerate(zip(table.columns[_GROUP], table.columns[_TOKENS], strict=True)):
            if str(name).strip() not in groups:
                known = ", ".join(quoted(group) for group in groups[:10])
                problems.append(f"{table.place(row, _GROUP)}: {quoted(name)} is not a group of the runs ({known})")
            if (number := _whole(table, value)) is None or number < 1:
                problems.append(
                    f"{table.place(row, _TOKENS)}: {quoted(value)}; a whole number of at least 1 is required"
                )
            else:
                tokens[str(name).strip()] = number
        given = {str(name).strip() for name in table.columns[_GROUP]}
        problems += [f"{path}: group {quoted(name)} of the runs has no row" for name in groups if name not in given]
        raise_problems(problems)
        return cls(str(path), tuple(tokens[name] for name in groups))

    def natural(self) -> NDArray[np.float64]:
        """Share of each group in all tokens, float64 [m]."""
        total = sum(self.tokens)
        return np.array([float(Fraction(tokens, total)) for tokens in self.tokens])

    def limits(self, *, tokens: int, max_repeats: float) -> NDArray[np.float64]:
        """Largest weight of each group: max_repeats times its tokens, divided by the tokens of the run, float64 [m].

        Raises:
            DataError: all groups together, each repeated as often as allowed, have fewer than `tokens`.
        """
        repeats = Fraction(str(max_repeats))
        largest = repeats * sum(self.tokens)
        if largest < tokens:
            raise DataError(
                f"--tokens: {tokens:,}; at most {int(largest):,} are possible, {max_repeats:g} times the tokens of "
                f"{self.path}; lower --tokens or raise --max-repeats"
            )
        return np.array([float(min(Fraction(1), repeats * own / tokens)) for own in self.tokens])


def _named(table: Table, prefix: str) -> tuple[str, ...]:
    """Names after a prefix, in the order of the columns."""
    names = tuple(name.removeprefix(prefix) for name in table.columns if name.startswith(prefix))
    if "" in names:
        raise SchemaError(f"{table.path}: column {quoted(prefix)}: no name after the prefix; one is required")
    return names


def _check_counts(table: Table, names: tuple[str, ...], prefix: str, *, least: int, most: int, what: str) -> None:
    if not least <= len(names) <= most:
        raise SchemaError(
            f"{table.path}: {len(names)} columns {quoted(prefix + 'NAME')}; {least} to {most} {what} are required"
        )


def _names_twice(table: Table, column: str) -> list[str]:
    """Problems of a column of unique names; none if there is no such column."""
    problems, first = [], dict[str, int]()
    for row, value in enumerate(table.columns.get(column, ())):
        name = "" if value is None else str(value).strip()
        if not name:
            problems.append(f"{table.place(row, column)}: empty; a name is required")
        elif name in first:
            problems.append(f"{table.place(row, column)}: {quoted(name)} is also in row {first[name] + 1}")
        first.setdefault(name, row)
    return problems


def _is_csv(table: Table) -> bool:
    return table.path.lower().endswith(".csv")


def _numbers(
    table: Table, columns: list[str], problems: list[str], *, least: float | None = None
) -> NDArray[np.float64]:
    """Values of columns, float64 [n, columns]; adds a line to `problems` for each that is not a finite number >= `least`."""
    values = np.empty((table.n_rows, len(columns)))
    for at, column in enumerate(columns):
        for row, value in enumerate(table.columns[column]):
            number = None if isinstance(value, str) and not _is_csv(table) else as_number(value)
            if number is None:
                problems.append(f"{table.place(row, column)}: {quoted(value)}; a finite number is required")
            elif least is not None and number < least:
                problems.append(f"{table.place(row, column)}: {quoted(value)}; a number >= {least:g} is required")
            values[row, at] = np.nan if number is None else number
    return values


def _whole(table: Table, value: Any) -> int | None:
    """A whole number with all its digits, or None."""
    if isinstance(value, str) and _is_csv(table) and len(value) <= _DIGITS and value.strip().isdecimal():
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    number = None if isinstance(value, str) and not _is_csv(table) else as_number(value)
    return int(number) if number is not None and number.is_integer() else None


def _not_enough(runs: Runs, weight_prefix: str, loss_prefix: str) -> list[str]:
    """Why no law can be fitted to these runs; empty if one can."""
    n_groups = len(runs.groups)
    if runs.n_mixtures < n_groups + 2:  # a law has n_groups + 1 parameters, and one mixture at a time is left out
        least, recommended = n_groups + 2, RUNS_PER_GROUP * n_groups
        required = f"at least {least} are required for {n_groups} groups, and about {recommended} are recommended"
        return [f"{runs.path}: {runs.n_mixtures} distinct mixtures; {required}"]
    spread = np.ptp(runs.weights, axis=0)
    fixed = [name for name, width in zip(runs.groups, spread, strict=True) if width < _RANK_TOLERANCE]
    problems = [
        f"{runs.path}: column {quoted(weight_prefix + name)}: the same weight in every run; its effect is unknown, "
        "leave the column out or vary it"
        for name in fixed
    ]
    singular = np.linalg.svd(runs.weights, compute_uv=False)
    rank = int((singular > _RANK_TOLERANCE * singular[0]).sum())
    if not fixed and rank < n_groups:
        problems.append(
            f"{runs.path}: columns {quoted(weight_prefix + '*')}: the mixtures span {rank} of {n_groups} dimensions, so some "
            "groups cannot be told apart; vary each group on its own"
        )
    return problems + [
        f"{runs.path}: column {quoted(loss_prefix + name)}: the same loss in every run; there is nothing to fit"
        for name, width in zip(runs.tasks, np.ptp(runs.losses, axis=0), strict=True)
        if width == 0
    ]
