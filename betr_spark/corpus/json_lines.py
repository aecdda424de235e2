"""JSON Lines: only the used fields of each line are parsed, and a line that cannot be used says why."""

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from operator import or_

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from betr_spark.config.column_path import path_name
from betr_spark.corpus.columns import Located, Origin, Path, UsedColumn, missing
from betr_spark.errors import SchemaError

_REQUIRED = ("input.text", "input.id", "input.tokens.column")
VALUE, OBJECT, CORRUPT = "value", "betr_spark_object", "betr_spark_corrupt"
_FIRST_LINES = 1_000
_UNLIMITED = str(2**31 - 1)
_OPTIONS = {
    "maxNestingDepth": _UNLIMITED, "maxNumLen": _UNLIMITED, "maxStringLen": _UNLIMITED, "allowNonNumericNumbers": "true",
    "allowSingleQuotes": "false", "columnNameOfCorruptRecord": CORRUPT,
}  # fmt: skip
# What a value that is not a string looks like as one; a string may look the same, so its line is then parsed again.
_FIRST_CHARACTERS = [*'{[tf-0123456789NI"']
_NOT_A_STRING = r'(?s)\{.*\}|\[.*\]|true|false|-?[0-9][0-9.eE+-]*|"?[+-]?(NaN|INF|Infinity)"?'
_logger = logging.getLogger(__name__)


def parsed(lines: DataFrame, columns: Iterable[Located]) -> DataFrame:
    """Parse the used fields of each line that is not blank, each once.

    The line is put into an object of one field, so that anything after the first JSON value makes it invalid. Adds the object
    of fields (null if the line is not a JSON object), all as strings: numbers with their digits, lists and objects as JSON; and
    the column CORRUPT, which is not null if the line or a field could not be parsed. Of a repeated key, the last value counts.

    Args:
        lines: value, and any other columns.
        columns: the columns to parse.
    """
    fields: T.StructType = T.StructType()
    for column in columns:
        if column.origin is Origin.ROWS:
            fields = _with_field(fields, column.path)
    whole = T.StructType([T.StructField(OBJECT, fields), T.StructField(CORRUPT, T.StringType())])
    lines = lines.where(F.trim(VALUE) != "")
    parsed_once = F.inline(F.array(F.from_json(_wrapped(), whole, _OPTIONS)))  # Spark never runs a generator twice
    return lines.select("*", parsed_once)


def _wrapped() -> Column:
    line = F.ltrim(VALUE, F.lit("\ufeff"))  # the byte-order mark of a file's first line
    return F.concat(F.lit(f'{{"{OBJECT}":'), line, F.lit("}"))


def _with_field(fields: T.StructType, path: Path) -> T.StructType:
    inner = {field.name: field for field in fields.fields}
    kind: T.DataType = T.StringType()
    if len(path) > 1:
        below = inner[path[0]].dataType if path[0] in inner else T.StructType()
        assert isinstance(below, T.StructType)
        kind = _with_field(below, path[1:])
    return T.StructType(list({**inner, path[0]: T.StructField(path[0], kind)}.values()))


def value_of(path: Path) -> Column:
    """A field of the parsed object, as a string."""
    return reduce(lambda column, step: column.getField(step), path, F.col(OBJECT))


def invalid(text: UsedColumn) -> list[tuple[Column, str, Column]]:
    """What can be wrong with a line: condition, reason, detail."""
    value = value_of(text.path)
    looks_other = F.substring(value, 1, 1).isin(*_FIRST_CHARACTERS) & value.rlike(f"^({_NOT_A_STRING})$")
    kind = F.when(looks_other, _type_of(text.path))
    unreadable = F.col(CORRUPT).isNotNull()
    return [
        (F.col(OBJECT).isNull(), "invalid_json", F.lit("the line is not one JSON object")),
        (unreadable & value.isNull(), "invalid_json", F.lit(f"the value of {text.name} cannot be parsed")),
        (kind != "STRING", "text_not_a_string", F.concat(F.lit(f"{text.name} is "), kind)),
    ]  # fmt: skip


def _type_of(path: Path) -> Column:
    """The JSON type of a field, by parsing the line again."""
    kind: T.DataType = T.VariantType()
    for step in reversed((OBJECT, *path)):
        kind = T.StructType([T.StructField(step, kind)])
    assert isinstance(kind, T.StructType)
    again = F.from_json(_wrapped(), kind, {k: v for k, v in _OPTIONS.items() if k != "columnNameOfCorruptRecord"})
    field = reduce(lambda column, step: column.getField(step), (OBJECT, *path), again)
    return F.coalesce(F.schema_of_variant(field), F.lit("not a string"))


def located(
    lines: DataFrame,
    used: Sequence[UsedColumn],
    *,
    folders: Callable[[], Sequence[str]],
    where: str,
    further: Callable[[], DataFrame],
) -> dict[Path, Located]:
    """Find which columns are keys of the objects: in the first lines, or else in some further files.

    A warning names a source, carried or expression column that is not found.

    Args:
        lines: value; the first lines are looked at.
        used: the columns.
        folders: gives the keys of `key=value` folders on the paths of the files.
        where: path of the input, for messages.
        further: gives value; a bounded part of the input, read only if a key is missing in the first lines.

    Raises:
        SchemaError: the text, the id or the number of tokens is not found; or two columns overlap.
    """
    _check_overlaps(used)
    result: dict[Path, Located] = {}
    not_blank = lines.where(F.trim(VALUE) != "")
    by_parent: dict[Path, set[str]] = {}
    parents = list(dict.fromkeys(column.path[:-1] for column in used))
    rows = not_blank.select(*[_keys(parent) for parent in parents]).take(_FIRST_LINES)
    for number, parent in enumerate(parents):
        by_parent[parent] = {key for row in rows for key in row[number] or ()}
    for column in used:
        if column.path[-1] in by_parent[column.path[:-1]]:
            result[column.path] = Located(Origin.ROWS, column.path)
    if lacking := [column for column in used if column.path not in result]:
        keys = folders()
        result |= {c.path: Located(Origin.FOLDERS, c.path) for c in lacking if len(c.path) == 1 and c.path[0] in keys}
    if lacking := [column for column in lacking if column.path not in result]:
        result |= {path: Located(Origin.ROWS, path) for path in _found_further(further(), lacking)}
    still = [column for column in lacking if column.path not in result]
    names = sorted({path_name((*parent, key)) for parent, keys in by_parent.items() for key in keys})
    names += sorted(key for key in by_parent.get((), ()) if "." in key)
    problems = [missing(c, names, where) for c in still if c.key in _REQUIRED]
    if problems:
        raise SchemaError(*problems)
    for column in still:
        _logger.warning("%s; its values are null", missing(column, names, where))
    return result | {column.path: Located(Origin.ROWS, column.path) for column in still}  # later lines may have it


def _keys(parent: Path) -> Column:
    """Keys of the object at a path."""
    if not parent:
        return F.json_object_keys(VALUE)
    path = "$" + "".join(f"['{step}']" for step in parent)
    return F.json_object_keys(F.get_json_object(VALUE, path))


def _found_further(lines: DataFrame, lacking: Sequence[UsedColumn]) -> set[Path]:
    """Paths that have a value in some line; reads until every one has."""
    objects = parsed(lines, [Located(Origin.ROWS, column.path) for column in lacking])
    seen: set[Path] = set()
    while remaining := [column.path for column in lacking if column.path not in seen]:
        present = [value_of(path).isNotNull() for path in remaining]
        row = objects.where(reduce(or_, present)).select(*present).take(1)
        if not row:
            break
        seen |= {path for path, here in zip(remaining, row[0], strict=True) if here}
    return seen


def _check_overlaps(used: Sequence[UsedColumn]) -> None:
    for column in used:
        for outer in used:
            if len(outer.path) < len(column.path) and column.path[: len(outer.path)] == outer.path:
                raise SchemaError(
                    f"{outer.key}: '{outer.name}' contains '{column.name}' ({column.key}); "
                    "of JSON objects, name either the whole or its fields"
                )
            if outer.path != column.path and outer.name.lower() == column.name.lower():
                raise SchemaError(
                    f"{outer.key}: '{outer.name}' and '{column.name}' ({column.key}) differ only in case; "
                    "Spark cannot tell them apart"
                )
