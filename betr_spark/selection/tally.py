"""Counts and sums over the documents that selections rank, by groups that NumPy computes, for all selections in one pass."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property, partial, reduce
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from betr_spark.schemas import N_TOKENS

N_IN_MEMORY = 500_000  # documents, up to which the driver reads them once; to start Python workers takes longer
DOCUMENTS, TOKENS, LOWEST, LONGEST, LOGITS, SQUARES = "documents", "tokens", "lowest", "longest", "logits", "squares"
ALL, DROPPED, KEPT = 0, 1, 2  # roles of parts
_SIGNS = np.array([1, -1, 0])
_NUMBER, _ROLE, _PART = "number", "role", "part"
_AT_ONCE, _MAX_PENDING = 1 << 18, 1 << 20  # rows
LARGE = 1e150  # up to which logits count; a sum of squares of larger ones could be infinite
_WAYS = {DOCUMENTS: "sum", TOKENS: "sum", LOWEST: "min", LONGEST: "max", LOGITS: "sum", SQUARES: "sum"}
_SQL = {"sum": F.sum, "min": F.min, "max": F.max}


class Scored(NamedTuple):
    """Documents with a score: n_tokens and logit, each [n]."""

    tokens: NDArray[np.int64]
    logit: NDArray[np.float64]


class Groups(NamedTuple):
    """Groups of documents.

    Attributes:
        keys: of each document that counts, by name; each [m].
        counted: whether a document counts, [n]; None: all do.
    """

    keys: Mapping[str, NDArray[np.int64]]
    counted: NDArray[np.bool_] | None = None


Grouping = Callable[[Scored], Groups]


class Part(NamedTuple):
    """Some documents of one or several populations.

    Attributes:
        role: `ALL`: the documents of the population, and those of the dropped part. `DROPPED`: of them, those that do not
            count. `KEPT`: those that a selection has, each once; also in the first part.
        rows: n_tokens, and columns of logits; null where a document has none and is not of the population.
        logits: column by name of the population.
    """

    role: int
    rows: DataFrame
    logits: Mapping[str, str]


_SumUp = Callable[[pa.Table], pa.Table]


class Populations:
    """Documents that are ranked, by several scores.

    What becomes of a document is not a column of all documents, because a join of these costs several times what the sums do.
    """

    def __init__(self, parts: Iterable[Part], *, in_memory: bool) -> None:
        """Read nothing yet.

        Args:
            parts: of the populations.
            in_memory: whether the driver reads the documents, once; for at most `N_IN_MEMORY` of them. Else the executors keep
                them, 8 bytes for each number.
        """
        self._parts, self._in_memory = list(parts), in_memory
        self._kept = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._kept.close()

    def tally(self, keys: Mapping[str, Grouping], sums: Sequence[str]) -> dict[str, pa.Table]:
        """Sum over groups of the documents.

        Args:
            keys: of the groups, by name of the population; those of each population have the same names.
            sums: constants of this module. The value of all documents minus that of the dropped ones is that of the others;
                `LOWEST` and `LONGEST` are over all rows, dropped ones too. Larger logits than `LARGE` count as that in sums.

        Returns:
            By name of the population, a row for each group: the keys, the sums, and those over the kept documents, as
            `kept_name` names them. A group of dropped documents only has sums of 0.
        """
        numbers, sum_ups = {name: number for number, name in enumerate(keys)}, dict[int, _SumUp]()
        for position, part in enumerate(self._parts):
            logits = {numbers[name]: column for name, column in part.logits.items() if name in numbers}
            if logits:
                summed = partial(_summed, role=part.role, logits=logits, keys=list(keys.values()), sums=tuple(sums))
                sum_ups[position] = summed
        if not sum_ups:
            return {}
        if self._in_memory:
            found = pa.concat_tables(sum_up(self._tables[position]) for position, sum_up in sum_ups.items())
        else:
            found = self._distributed(sum_ups, sums)
        return dict(zip(keys, _combined(found, sums, len(keys)), strict=True))

    @cached_property
    def _tables(self) -> list[pa.Table]:
        """The documents of each part; one query."""
        rows = _union(part.rows for part in self._parts).toArrow()
        numbers = rows.column(_PART).to_numpy()
        return [rows.filter(pa.array(numbers == number)) for number in range(len(self._parts))]

    @cached_property
    def _packed(self) -> DataFrame:
        """A row for some documents of a part: n_tokens and the logits as bytes, which are faster to read than rows."""
        frames = []
        for part in self._parts:
            columns = list(dict.fromkeys(part.logits.values()))
            doubles = [F.col(name).cast("double").alias(name) for name in columns]
            schema = ", ".join(f"{name} binary" for name in (N_TOKENS, *columns))
            frames.append(part.rows.select(F.col(N_TOKENS).cast("bigint"), *doubles).mapInArrow(_pack, schema))
        packed = _union(frames).persist()
        self._kept.callback(packed.unpersist)
        return packed

    def _distributed(self, sum_ups: Mapping[int, _SumUp], sums: Sequence[str]) -> pa.Table:
        """Sum in Python workers over the documents of each task, then over the tasks."""
        position, sum_up = next(iter(sum_ups.items()))
        fields = sum_up(_unpacked(dict.fromkeys([N_TOKENS, *self._parts[position].logits.values()], b""))).schema
        types = ["double" if pa.types.is_floating(field.type) else "bigint" for field in fields]
        ddl = ", ".join(f"{field.name} {of}" for field, of in zip(fields, types, strict=True))
        rows = self._packed.mapInArrow(partial(_in_task, sum_ups=sum_ups), ddl)
        groups = [name for name in rows.columns if name not in sums]
        return rows.groupBy(*groups).agg(*[_SQL[_WAYS[name]](name).alias(name) for name in sums]).toArrow()


def kept_name(name: str) -> str:
    """Name of a sum over the documents that are kept."""
    return f"kept_{name}"


def _union(frames: Iterable[DataFrame]) -> DataFrame:
    """Rows of all parts, with the number of the part; null in the columns that a part does not have."""
    numbered = [rows.withColumn(_PART, F.lit(number)) for number, rows in enumerate(frames)]
    return reduce(lambda left, right: left.unionByName(right, allowMissingColumns=True), numbered)


def _pack(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    waiting, size = list[pa.RecordBatch](), 0
    for batch in batches:
        waiting.append(batch)
        size += len(batch)
        if size >= _AT_ONCE:
            yield _bytes_of(waiting)
            waiting, size = [], 0
    if size:
        yield _bytes_of(waiting)


def _bytes_of(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    table = pa.Table.from_batches(batches)
    return pa.record_batch({name: pa.array([table.column(name).to_numpy().tobytes()]) for name in table.column_names})


def _unpacked(values: Mapping[str, bytes]) -> pa.Table:
    types = {name: np.int64 if name == N_TOKENS else np.float64 for name in values}
    return pa.table({name: np.frombuffer(value, types[name]) for name, value in values.items()})


def _in_task(batches: Iterator[pa.RecordBatch], *, sum_ups: Mapping[int, _SumUp]) -> Iterator[pa.RecordBatch]:
    """Sum over the packed documents of a task."""
    found = list[pa.Table]()
    for batch in batches:
        for row in batch.to_pylist():
            if (part := row.pop(_PART)) in sum_ups:
                found.append(sum_ups[part](_unpacked({name: of for name, of in row.items() if of is not None})))
            if sum(map(len, found)) > _MAX_PENDING:
                found = [_merged(found)]
    if found:
        yield from _merged(found).to_batches()


def _summed(
    rows: pa.Table, *, role: int, logits: Mapping[int, str], keys: Sequence[Grouping], sums: Sequence[str]
) -> pa.Table:
    """Sum over the rows of a part: number, role, the keys and the sums of each group."""
    n_tokens, parts = rows.column(N_TOKENS).to_numpy().astype(np.int64), []
    for number, column in logits.items():
        logit = rows.column(column).to_numpy().astype(np.float64)
        ranked = ~np.isnan(logit)
        scored = Scored(n_tokens[ranked], logit[ranked])
        groups, counted = keys[number](scored)
        if counted is not None:
            scored = Scored(scored.tokens[counted], scored.logit[counted])
        n = len(scored.logit)
        constants = {_NUMBER: np.full(n, number), _ROLE: np.full(n, role)}
        values = {name: _values(name, scored) for name in sums}
        parts.append(_merged([pa.table({**constants, **groups, **values})]))
    return pa.concat_tables(parts)


def _values(name: str, scored: Scored) -> NDArray[np.int64] | NDArray[np.float64]:
    """What is summed of each document."""
    if name == DOCUMENTS:
        return np.ones(len(scored.logit), np.int64)
    if name in (TOKENS, LONGEST):
        return scored.tokens
    if name == LOWEST:
        return scored.logit
    bounded = np.clip(scored.logit, -LARGE, LARGE)
    return bounded if name == LOGITS else bounded * bounded


def _merged(tables: Sequence[pa.Table]) -> pa.Table:
    """Add up the rows of equal groups."""
    table = pa.concat_tables(tables)
    names, ways = table.column_names, {name: _WAYS[name] for name in table.column_names if name in _WAYS}
    groups = [name for name in names if name not in ways]
    return table.group_by(groups, use_threads=False).aggregate(list(ways.items())).rename_columns([*groups, *ways])


def _combined(found: pa.Table, sums: Sequence[str], n_populations: int) -> list[pa.Table]:
    """Subtract the dropped documents; a table for each population."""
    role = found.column(_ROLE).to_numpy()
    columns = {name: found.column(name) for name in found.column_names if name not in (_ROLE, *sums)}
    ways = dict[str, str]()
    for name in sums:
        values, ways[name] = found.column(name).to_numpy(), _WAYS[name]
        columns[name] = values
        if ways[name] == "sum":
            columns |= {name: values * _SIGNS[role], kept_name(name): values * (role == KEPT)}
            ways[kept_name(name)] = "sum"
    groups = [name for name in columns if name not in ways]
    total = pa.table(columns).group_by(groups, use_threads=False).aggregate(list(ways.items()))
    total = total.rename_columns([*groups, *ways])
    numbers = total.column(_NUMBER).to_numpy()
    return [total.filter(pa.array(numbers == number)) for number in range(n_populations)]
