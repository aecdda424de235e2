"""Types of the columns that are read: found in the layouts of all files, and widened where the files differ."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import reduce
from typing import NamedTuple

from pyspark.sql import types as T

from betr_spark.config import NOT_IN_DELTA
from betr_spark.config.column_path import path_name
from betr_spark.corpus.columns import Located, Origin, Path, UsedColumn, missing
from betr_spark.corpus.layouts import Layout
from betr_spark.corpus.widening import widened
from betr_spark.errors import SchemaError

_ALLOWED: dict[str, tuple[type[T.DataType], ...]] = {
    "input.text": (T.StringType, T.BinaryType),
    "input.id": (T.StringType, T.BinaryType, T.IntegralType, T.DecimalType),
    "input.source": (T.StringType, T.BinaryType, T.IntegralType, T.DecimalType, T.BooleanType, T.DateType),
    "input.tokens.column": (T.NumericType,),
    "scorers": (T.NumericType,),
}
_REQUIRED = {
    "input.text": "string",
    "input.id": "string or integer",
    "input.source": "string, integer, boolean or date",
    "input.tokens.column": "numeric",
    "scorers": "numeric",
}


class Example(NamedTuple):
    """A layout, and one file that has it, for messages."""

    layout: Layout
    file: str


def located(
    used: Iterable[UsedColumn], examples: Sequence[Example], *, folders: Callable[[], Sequence[str]], where: str
) -> dict[Path, Located]:
    """Find every used column, with the widest of its types.

    Args:
        used: the columns.
        examples: each layout that occurs among the files.
        folders: gives the keys of `key=value` folders on the paths of the files.
        where: path of the input, for messages.

    Raises:
        SchemaError: a column is missing, cannot be read, or has the wrong type; one line for each problem.
    """
    problems: list[str] = []
    result: dict[Path, Located] = {}
    for column in used:
        try:
            result[column.path] = _locate(column, examples, folders, where)
        except SchemaError as error:
            problems.append(str(error))
    if problems:
        raise SchemaError(*dict.fromkeys(problems))
    return result


def _locate(
    column: UsedColumn, examples: Sequence[Example], folders: Callable[[], Sequence[str]], where: str
) -> Located:
    kinds: list[tuple[T.DataType, str]] = []
    nulls: str | None = None
    spelled: Path = column.path
    for layout, file in examples:
        if reason := next(
            (layout.unreadable[name] for name in _prefixes(column.path) if name in layout.unreadable), ""
        ):
            raise SchemaError(f"{column.key}: {file}: column '{column.name}' is {reason}")
        field = _field(layout.fields, column, file)
        if field is None:
            continue
        spelled, kind = field
        if spelled[0] in layout.codecs:
            codec = layout.codecs[spelled[0]]
            raise SchemaError(
                f"input.path: {file}: compressed with {codec}, which Spark cannot read here; "  # one line for all columns
                f"write the file with zstd or snappy, or add a jar with a Hadoop codec for {codec}"
            )
        if spelled[0] in layout.null_columns:
            nulls = file
        else:
            kinds.append((kind, file))
    if not kinds and nulls is None:
        keys = folders()
        if len(column.path) == 1 and column.path[0] in keys and column.use != "input.text":
            return Located(Origin.FOLDERS, column.path)
        names = [*(field.name for layout, _ in examples for field in layout.fields), *keys]
        raise SchemaError(missing(column, names, where))
    if nulls is not None and column.use != "input.columns":
        raise SchemaError(
            f"{column.key}: {nulls}: column '{column.name}' has no type, because all its values are null; "
            f"write the file with a {_REQUIRED[column.use]} column"
        )
    kinds = [(kind, file) for kind, file in kinds if not isinstance(kind, T.NullType)]
    if not kinds:
        return Located(Origin.NOWHERE, spelled)
    kind, _ = reduce(lambda left, right: _wider(column, left, right), kinds)
    _check(column, kind, where)
    return Located(Origin.ROWS, spelled, T.StringType() if column.use != "input.columns" and _is_binary(kind) else kind)


def _is_binary(kind: T.DataType) -> bool:
    return isinstance(kind, T.BinaryType)


def _prefixes(path: Path) -> Iterator[str]:
    return (".".join(path[: n + 1]) for n in range(len(path)))


def _field(fields: T.StructType, column: UsedColumn, file: str) -> tuple[Path, T.DataType] | None:
    """The path as it is spelled, and the type at its end; names are compared without case, as Spark does."""
    spelled: list[str] = []
    kind: T.DataType = fields
    for step in column.path:
        if not isinstance(kind, T.StructType):
            raise SchemaError(
                f"{column.key}: {file}: column '{path_name(tuple(spelled))}' is {kind.simpleString()}; "
                "a dotted name reaches into structs only"
            )
        same = [field for field in kind.fields if field.name.lower() == step.lower()]
        if not same:
            return None
        if len(same) > 1:
            names = " and ".join(f"'{field.name}'" for field in same)
            raise SchemaError(
                f"{column.key}: {file}: columns {names} differ only in case; Spark cannot tell them apart"
            )
        spelled.append(same[0].name)
        kind = same[0].dataType
    return tuple(spelled), kind


def _wider(column: UsedColumn, left: tuple[T.DataType, str], right: tuple[T.DataType, str]) -> tuple[T.DataType, str]:
    kind = widened(left[0], right[0])
    if kind is None:
        raise SchemaError(
            f"{column.key}: {right[1]}: column '{column.name}' is {right[0].simpleString()}, "
            f"but {left[0].simpleString()} in {left[1]}; write the files with one type"
        )
    return kind, left[1]


def _check(column: UsedColumn, kind: T.DataType, where: str) -> None:
    allowed = _ALLOWED.get(column.use)
    if allowed and not isinstance(kind, allowed):
        raise SchemaError(
            f"{column.key}: column '{column.name}' in {where} is {kind.simpleString()}; "
            f"a {_REQUIRED[column.use]} column is required"
        )
    if column.use == "input.columns" and (inner := _not_in_delta(kind)):
        raise SchemaError(
            f"{column.key}: '{column.name}' in {where} has a field '{inner}', a name that Delta refuses; "
            "carry single fields by dotted names"
        )


def _not_in_delta(kind: T.DataType) -> str | None:
    """The first name of a nested field that Delta refuses."""
    if isinstance(kind, T.StructType):
        refused = (f.name if set(f.name) & NOT_IN_DELTA else _not_in_delta(f.dataType) for f in kind.fields)
        return next((name for name in refused if name), None)
    if isinstance(kind, T.ArrayType):
        return _not_in_delta(kind.elementType)
    if isinstance(kind, T.MapType):
        return _not_in_delta(kind.keyType) or _not_in_delta(kind.valueType)
    return None
