"""Counts and sums over the documents that selections rank, by groups, for all selections in one query."""

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

NUMBER = "number"
_ROLE = "role"
_KEPT = 2  # position in a population
_SIGNS = np.array([1, -1, 0])


class Population(NamedTuple):
    """Documents that are ranked: n_tokens and logit, not null, of each.

    What becomes of a document is not a column of `rows`, because a join of all documents costs several times what the sums do.

    Attributes:
        rows: the documents, and those of `dropped`.
        dropped: do not count; None if there are none.
        kept: that a selection has, each once; also in `rows`. None if this is not known.
    """

    rows: DataFrame
    dropped: DataFrame | None = None
    kept: DataFrame | None = None

    def where(self, condition: Column) -> Self:
        """The documents that fulfil a condition."""
        rows, *others = (part if part is None else part.where(condition) for part in self)
        assert rows is not None
        return type(self)(rows, *others)


def kept_name(name: str) -> str:
    """Name of a sum over the documents that are kept."""
    return f"kept_{name}"


def tally(
    populations: Mapping[int, Population], keys: Callable[[int], Mapping[str, Column]], sums: Mapping[str, Column], *,
    smallest: Sequence[str] = (), largest: Sequence[str] = (),
) -> dict[int, pa.Table]:  # fmt: skip
    """Aggregate each population by groups, in one query.

    Args:
        populations: by number; at least one.
        keys: of the groups of a number; the names are the same for all.
        sums: aggregations by name; of those that are neither smallest nor largest, the value of all documents minus that of the
            dropped ones is the value of the others.
        smallest: names of `sums` that are minima; they are over all rows, dropped ones too.
        largest: as `smallest`, of maxima.

    Returns:
        By number, a row for each group: the keys, the sums, and those over the kept documents, as `kept_name` names them. A
        group of dropped documents only has sums of 0.
    """
    parts = []
    for number, population in populations.items():
        groups = [key.alias(name) for name, key in keys(number).items()]
        for role, rows in enumerate(population):
            if rows is not None:
                found = rows.groupBy(*groups).agg(*[of.alias(name) for name, of in sums.items()])
                parts.append(found.select(F.lit(number).alias(NUMBER), F.lit(role).alias(_ROLE), "*"))
    table = reduce(DataFrame.unionAll, parts).toArrow()
    role = table.column(_ROLE).to_numpy()
    names = [name for name in table.column_names if name not in (_ROLE, *sums)]
    signed = {name: table.column(name) for name in (*names, *smallest, *largest)}
    for name in [name for name in sums if name not in (*smallest, *largest)]:
        values = table.column(name).to_numpy()
        signed |= {name: values * _SIGNS[role], kept_name(name): values * (role == _KEPT)}
    ways = {**dict.fromkeys(signed, "sum"), **dict.fromkeys(smallest, "min"), **dict.fromkeys(largest, "max")}
    of_groups = [(name, way) for name, way in ways.items() if name not in names]
    total = pa.table(signed).group_by(names).aggregate(of_groups)
    total = total.rename_columns([*names, *[name for name, _ in of_groups]])
    numbers = total.column(NUMBER).to_numpy()
    return {number: total.filter(pa.array(numbers == number)) for number in populations}
