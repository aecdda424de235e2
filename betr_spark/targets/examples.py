"""Benchmark examples: rows of JSON Lines, Parquet or a saved dataset, made into texts by a template and balanced."""

import datetime as dt
import io
import json
import numbers
import re
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq

from betr_spark.config.targets import TargetConfig
from betr_spark.errors import ConfigError, DataError
from betr_spark.targets.jinja_template import jinja_renderer

Content = bytes | list[bytes]  # of a file, or of the Arrow files of a dataset's folder
# Text, numbers (also Decimal), dates and times (also datetime)
_SCALARS = (str, numbers.Number, dt.date, dt.time, dt.timedelta)
_SURROGATE = re.compile("[\ud800-\udfff]")


class Example(NamedTuple):
    """One target text. `row` is the 0-based row in the benchmark's file, or line - 1 of JSON Lines."""

    benchmark: str
    row: int
    text: str


def template_fields(template: str) -> list[str]:
    """Names in a template, in order; `{{` and `}}` are braces.

    Raises:
        ValueError: no field, a positional field, or a format specification.
    """
    parts = list(string.Formatter().parse(template))
    fields = [name for _, name, _, _ in parts if name is not None]
    if any(spec or conversion for _, _, spec, conversion in parts):
        raise ValueError("a field is only {name}; ':' and '!' are not supported")
    if not fields:
        raise ValueError("it has no {field}")
    if not all(fields) or any(name.isdigit() for name in fields):
        raise ValueError("fields must have names, as in {question}")
    return fields


def examples_of(
    benchmark: str, target: TargetConfig, content: Content, *, where_from: str = "targets", may_be_empty: bool = False
) -> list[Example]:
    """Read all examples of one benchmark.

    Args:
        benchmark: its name, for messages.
        target: path, format and template.
        content: the whole file, or the Arrow files of a saved dataset.
        where_from: section of the configuration that has the benchmark, for messages.
        may_be_empty: an example without text is no error.

    Raises:
        ConfigError: the template is malformed.
        DataError: the file cannot be parsed, is empty, or a row lacks a field or is not valid Unicode; names file, line and
            field.
    """
    render, fields = renderer(benchmark, target)
    unit = "line" if _format(target, content) == "json" else "row"
    examples = []
    for index, row in rows_of(target, content, fields):
        where = f"{target.path}: {unit} {index + 1}"
        text = render(row, where)
        if surrogate := _SURROGATE.search(text):
            raise DataError(
                f"{where}: lone surrogate \\u{ord(surrogate[0]):x}, which is not valid Unicode; remove it from the file"
            )
        if not text.strip() and not may_be_empty:
            raise DataError(f"{where}: {where_from}.{benchmark}.{_key(target)} gives an empty example; remove the row")
        examples.append(Example(benchmark, index, text))
    if not examples:
        raise DataError(f"{target.path}: the file is empty; {where_from}.{benchmark} requires at least one example")
    return examples


def renderer(benchmark: str, target: TargetConfig) -> tuple[Callable[[Mapping[str, Any], str], str], list[str] | None]:
    """Return the function that makes the text of a row, and the fields that it uses (None: any field).

    Raises:
        ConfigError: the template is malformed.
    """
    try:
        if target.jinja is not None:
            return jinja_renderer(target.jinja, benchmark), None
        assert target.template is not None
        fields = template_fields(target.template)
    except ValueError as error:
        raise ConfigError(f"config.targets.{benchmark}.{_key(target)}: {error}") from None
    parts = [(literal, field) for literal, field, _, _ in string.Formatter().parse(target.template)]

    def render(row: Mapping[str, Any], where: str) -> str:
        for field in fields:
            if field not in row:
                raise DataError(f"{where}: no field '{field}' for targets.{benchmark}.template; found {', '.join(row)}")
        values = {field: _as_text(row[field], f"{where}: field '{field}'") for field in fields}
        return "".join(literal + (values[field] if field is not None else "") for literal, field in parts)

    return render, fields


def _key(target: TargetConfig) -> str:
    return "template" if target.jinja is None else "jinja"


def _format(target: TargetConfig, content: Content) -> str:
    if isinstance(content, list):
        return "dataset"
    return target.format or ("parquet" if target.path.endswith(".parquet") else "json")


def rows_of(
    target: TargetConfig, content: Content, fields: Sequence[str] | None = None
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield the rows of a benchmark's file with their numbers; of Parquet only the given fields.

    Raises:
        DataError: the file cannot be parsed, or lacks a field.
    """
    if isinstance(content, list) or _format(target, content) != "json":
        try:
            names, table = _table(content, fields)
            rows = table.to_pylist()
        except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
            kind = "saved dataset" if isinstance(content, list) else "Parquet file"
            raise DataError(f"{target.path}: not a readable {kind} ({str(error).splitlines()[0]})") from None
        if missing := next((field for field in fields or () if field not in names), None):
            raise DataError(f"{target.path}: no column '{missing}' for the template; found {', '.join(names)}")
        yield from enumerate(rows)
        return
    for index, line in enumerate(content.split(b"\n")):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{target.path}: line {index + 1}: not valid JSON ({error})") from None
        if not isinstance(row, dict):
            raise DataError(f"{target.path}: line {index + 1}: a JSON object is required, found {type(row).__name__}")
        yield index, row


def _table(content: Content, fields: Sequence[str] | None) -> tuple[list[str], pa.Table]:
    """Names of all columns, and the columns that the template uses."""
    if isinstance(content, bytes):
        file = pq.ParquetFile(io.BytesIO(content))
        names = file.schema_arrow.names
        return names, file.read(columns=_used(names, fields))
    table = pa.concat_tables([pa.ipc.open_stream(part).read_all() for part in content])
    return table.column_names, table.select(_used(table.column_names, fields))


def _used(names: Sequence[str], fields: Sequence[str] | None) -> list[str]:
    return sorted(set(names) if fields is None else set(names) & set(fields))


def _as_text(value: Any, where: str) -> str:
    """Text, numbers (also decimals), dates and times as Python writes them; a list one part per line."""
    if isinstance(value, _SCALARS):
        return str(value)
    if isinstance(value, list) and all(isinstance(part, _SCALARS) for part in value):
        return "\n".join(str(part) for part in value)
    raise DataError(f"{where}: text, a number, a date, or a list of them is required, found {type(value).__name__}")
