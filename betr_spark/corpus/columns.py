"""The columns of the input that a configuration names, and where their values come from."""

import difflib
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import NamedTuple

from pyspark.sql import types as T

from betr_spark.config import InputConfig
from betr_spark.config.column_path import column_path, path_name, quoted
from betr_spark.errors import SchemaError

Path = tuple[str, ...]


class UsedColumn(NamedTuple):
    """A column that the configuration names: its key there, the name as given, and the steps of the path."""

    key: str
    name: str
    path: Path

    @property
    def use(self) -> str:
        """`input.text`, `input.id`, `input.source`, `input.tokens.column`, `input.columns` or `scorers`."""
        return "scorers" if self.key.startswith("scorers.") else self.key


class UsedColumns(NamedTuple):
    """All columns that a configuration names."""

    text: UsedColumn
    id: UsedColumn | None
    source: UsedColumn | None
    carried: Mapping[str, UsedColumn]
    """By the name in the output."""
    numbers: Mapping[str, UsedColumn]
    """By the expression scorer."""
    tokens: UsedColumn | None = None

    @classmethod
    def of(cls, source: InputConfig, numbers: Mapping[str, str]) -> "UsedColumns":
        """Collect them.

        Args:
            source: the input.
            numbers: columns of expression scorers, by the scorer's name.
        """

        def used(key: str, name: str) -> UsedColumn:
            try:
                return UsedColumn(key, name, column_path(name))
            except ValueError as error:
                raise SchemaError(f"{key}: {error}") from None

        return cls(
            used("input.text", source.text),
            used("input.id", source.id) if source.id is not None else None,
            used("input.source", source.source) if source.source is not None else None,
            {output: used("input.columns", name) for output, name in source.columns.items()},
            {scorer: used(f"scorers.{scorer}.column", name) for scorer, name in numbers.items()},
            used("input.tokens.column", source.tokens.column) if source.tokens.column is not None else None,
        )

    def of_the_pass(self) -> list[UsedColumn]:
        """All but the carried columns."""
        named = [self.text, self.id, self.source, self.tokens]
        return [*(column for column in named if column is not None), *self.numbers.values()]

    def all(self) -> list[UsedColumn]:
        """Every one."""
        return [*self.of_the_pass(), *self.carried.values()]


class Origin(Enum):
    """Where the values of a column come from."""

    ROWS = "rows"
    FOLDERS = "folders"
    """`key=value` in the path of the file."""
    NOWHERE = "nowhere"
    """All values are null."""


class Located(NamedTuple):
    """Where the values of a column come from, the path as the files spell it, and the type."""

    origin: Origin
    path: Path
    kind: T.DataType = T.StringType()


def missing(column: UsedColumn, names: Sequence[str], where: str) -> str:
    """Say that a column does not exist, with the closest name that does, or the way to write it."""
    subject = f"{column.key}: no column '{column.name}' in {where}"
    if column.name in names:
        return f"{subject} (a column has a dot in its name; write it as {quoted(column.name)})"
    close = difflib.get_close_matches(column.name, names, n=1)
    known = ", ".join(list(dict.fromkeys(names))[:20]) or "none"
    hint = f"did you mean '{path_name((close[0],))}'?" if close else f"found {known}"
    return f"{subject} ({hint})"


def read_schema(columns: Mapping[Path, Located]) -> T.StructType:
    """The schema to read the files with: only these columns, and of structs only the fields that are used."""
    schema = T.StructType()
    for place in sorted(columns.values(), key=lambda place: len(place.path)):
        if place.origin is Origin.ROWS:
            schema = _inserted(schema, place.path, place.kind)
    return schema


def _inserted(schema: T.StructType, path: Path, kind: T.DataType) -> T.StructType:
    """Add a path; a whole struct that is there already has its fields."""
    existing = next((field for field in schema.fields if field.name == path[0]), None)
    if len(path) == 1:
        return schema if existing else T.StructType([*schema.fields, T.StructField(path[0], kind)])
    inner = existing.dataType if existing else T.StructType()
    assert isinstance(inner, T.StructType)
    fields = {field.name: field for field in schema.fields}
    fields[path[0]] = T.StructField(path[0], _inserted(inner, path[1:], kind))
    return T.StructType(list(fields.values()))
