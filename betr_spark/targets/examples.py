"""Benchmark examples: rows of JSON Lines, Parquet or a saved dataset through a template, as many for each benchmark."""

import hashlib
import io
import json
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
from jinja2 import StrictUndefined, TemplateSyntaxError
from jinja2.sandbox import SandboxedEnvironment

from betr_spark.config.targets import TargetConfig
from betr_spark.errors import ConfigError, DataError

Content = bytes | list[bytes]  # of a file, or of the Arrow files of a dataset's folder


class Example(NamedTuple):
    """One target text. `row` is its place in the benchmark's file: 0-based row, or line - 1 of JSON Lines."""

    benchmark: str
    row: int
    text: str


def template_fields(template: str) -> list[str]:
    """Names in a template, in order; `{{` and `}}` stand for braces.

    Raises:
        ValueError: no field, a positional field, or a format specification.
    """
    parts = list(string.Formatter().parse(template))
    fields = [name for _, name, _, _ in parts if name is not None]
    if any(spec or conversion for _, _, spec, conversion in parts):
        raise ValueError("a field is {name} alone, without ':' or '!'")
    if not fields:
        raise ValueError("no {field} in it")
    if not all(fields) or any(name.isdigit() for name in fields):
        raise ValueError("fields are named, as in {question}")
    return fields


def examples_of(benchmark: str, target: TargetConfig, content: Content) -> list[Example]:
    """Read all examples of one benchmark.

    Args:
        benchmark: its name, for messages.
        target: path, format and template.
        content: the whole file, or the Arrow files of a saved dataset.

    Raises:
        ConfigError: the template is malformed.
        DataError: the file cannot be parsed, is empty, or a row lacks a field; names file, line and field.
    """
    render, fields = renderer(benchmark, target)
    unit = "line" if _format(target, content) == "json" else "row"
    examples = []
    for index, row in _rows(target, content, fields):
        where = f"{target.path}: {unit} {index + 1}"
        text = render(row, where)
        if not text.strip():
            raise DataError(f"{where}: the example is empty after targets.{benchmark}.{_key(target)}")
        examples.append(Example(benchmark, index, text))
    if not examples:
        raise DataError(f"{target.path}: targets.{benchmark} has no examples, the file is empty")
    return examples


def renderer(benchmark: str, target: TargetConfig) -> tuple[Callable[[Mapping[str, Any], str], str], list[str] | None]:
    """Give what makes the text of a row, and the fields that it wants (None: any).

    Raises:
        ConfigError: the template is malformed.
    """
    try:
        if target.jinja is not None:
            return _jinja(target.jinja, benchmark), None
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


def _jinja(template: str, benchmark: str) -> Callable[[Mapping[str, Any], str], str]:
    environment = SandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
    try:
        compiled = environment.from_string(template)
    except TemplateSyntaxError as error:
        raise ValueError(f"line {error.lineno}: {error.message}") from None

    def render(row: Mapping[str, Any], where: str) -> str:
        try:
            return str(compiled.render(row))
        except Exception as error:  # noqa: BLE001 - whatever an expression of the user's raises
            raise DataError(f"{where}: targets.{benchmark}.jinja: {' '.join(str(error).split())[:200]}") from None

    return render


def _key(target: TargetConfig) -> str:
    return "template" if target.jinja is None else "jinja"


def distinct(examples: Mapping[str, list[Example]]) -> tuple[dict[str, list[Example]], dict[str, int]]:
    """Leave out examples that say the same as an earlier one, of their benchmark or of another; white space and case aside.

    Returns:
        What is left, and how many each benchmark lost.
    """
    seen: set[str] = set()
    left: dict[str, list[Example]] = {}
    for name, found in examples.items():
        left[name] = []
        for example in found:
            if (form := _normal(example.text)) not in seen:
                seen.add(form)
                left[name].append(example)
    return left, {name: len(examples[name]) - len(left[name]) for name in examples}


def check_not_in_test(benchmark: str, target: TargetConfig, train: Sequence[Example], test: Sequence[Example]) -> None:
    """Raise DataError if a target says the same as an item of its own benchmark's test file."""
    items = {_normal(item.text): item.row for item in test}
    for example in train:
        if (row := items.get(_normal(example.text))) is not None:
            raise DataError(
                f"{target.path}: example {example.row + 1} of targets.{benchmark} is item {row + 1} of its test file "
                f"{target.test}; targets are TRAIN examples"
            )


def _normal(text: str) -> str:
    return " ".join(text.lower().split())


def balanced(examples: Mapping[str, list[Example]], caps: Mapping[str, int | None]) -> list[Example]:
    """Take the same number from every benchmark: the smallest benchmark's, or the smallest cap if that is less.

    Which ones is decided by a hash of the text, so it does not depend on the order of the file; none is repeated.

    Returns:
        Examples by benchmark in the given order, then by row.
    """
    limits = [len(found) for found in examples.values()] + [cap for cap in caps.values() if cap is not None]
    count = min(limits)
    chosen = []
    for found in examples.values():
        by_hash = sorted(found, key=lambda e: (hashlib.sha256(e.text.encode("utf-8", "surrogatepass")).digest(), e.row))
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
            raise DataError(f"{target.path}: line {index + 1}: a JSON object is wanted, found {type(row).__name__}")
        yield index, row


def _table(content: Content, fields: Sequence[str] | None) -> tuple[list[str], pa.Table]:
    """Names of all columns, and those that are wanted."""
    if isinstance(content, bytes):
        file = pq.ParquetFile(io.BytesIO(content))
        names = file.schema_arrow.names
        return names, file.read(columns=_wanted(names, fields))
    table = pa.concat_tables([pa.ipc.open_stream(part).read_all() for part in content])
    return table.column_names, table.select(_wanted(table.column_names, fields))


def _wanted(names: Sequence[str], fields: Sequence[str] | None) -> list[str]:
    return sorted(set(names) if fields is None else set(names) & set(fields))


def _as_text(value: Any, where: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return str(value)
    if isinstance(value, list) and all(isinstance(part, str | int | float) for part in value):
        return "\n".join(str(part) for part in value)
    raise DataError(f"{where}: text, a number or a list of them is wanted, found {type(value).__name__}")
