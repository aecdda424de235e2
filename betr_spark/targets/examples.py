"""Benchmark examples: rows of JSON Lines, Parquet or a saved dataset, made into texts by a template and balanced."""

import datetime as dt
import hashlib
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
    for index, row in _rows(target, content, fields):
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


def distinct(examples: Mapping[str, list[Example]]) -> tuple[dict[str, list[Example]], dict[str, int]]:
    """Drop examples that repeat an earlier one of any benchmark, ignoring white space and case.

    Returns:
        The examples that are left, and how many each benchmark lost.
    """
    seen: set[str] = set()
    left: dict[str, list[Example]] = {}
    for name, all_examples in examples.items():
        left[name] = []
        for example in all_examples:
            if (form := _normal(example.text)) not in seen:
                seen.add(form)
                left[name].append(example)
    return left, {name: len(examples[name]) - len(left[name]) for name in examples}


def check_not_in_test(benchmark: str, target: TargetConfig, train: Sequence[Example], test: Sequence[Example]) -> None:
    """Raise DataError if a target repeats an item of its own benchmark's test file."""
    items = {_normal(item.text): item.row for item in test}
    for example in train:
        if (row := items.get(_normal(example.text))) is not None:
            raise DataError(
                f"{target.path}: example {example.row + 1} of targets.{benchmark} is item {row + 1} of its test file "
                f"{target.test}; targets must be TRAIN examples"
            )


def _normal(text: str) -> str:
    return " ".join(text.lower().split())


def balanced(examples: Mapping[str, list[Example]], caps: Mapping[str, int | None]) -> list[Example]:
    """Take the same number from every benchmark: that of the smallest benchmark, or the smallest cap if it is less.

    A hash of the text decides which ones, so the order of the file does not matter; none is repeated.

    Returns:
        Examples by benchmark in the given order, then by row.
    """
    limits = [len(all_examples) for all_examples in examples.values()]
    count = min(limits + [cap for cap in caps.values() if cap is not None])
    chosen = []
    for all_examples in examples.values():
        by_hash = sorted(all_examples, key=lambda e: (hashlib.sha256(e.text.encode()).digest(), e.row))
        chosen += sorted(by_hash[:count], key=lambda e: e.row)
    return chosen


def _format(target: TargetConfig, content: Content) -> str:
    if isinstance(content, list):
        return "dataset"
    return target.format or ("parquet" if target.path.endswith(".parquet") else "json")


def _rows(
    target: TargetConfig, content: Content, fields: Sequence[str] | None
) -> Iterator[tuple[int, Mapping[str, Any]]]:
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
