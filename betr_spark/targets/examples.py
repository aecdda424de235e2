"""Benchmark examples: rows of JSON Lines or Parquet through a template, an equal number for each benchmark."""

import hashlib
import io
import json
import string
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from betr_spark.config import TargetConfig
from betr_spark.errors import ConfigError, DataError


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


def examples_of(benchmark: str, target: TargetConfig, content: bytes) -> list[Example]:
    """Read all examples of one benchmark.

    Args:
        benchmark: its name, for messages.
        target: path, format and template.
        content: the whole file.

    Raises:
        ConfigError: the template is malformed.
        DataError: the file cannot be parsed, is empty, or a row lacks a field; names file, line and field.
    """
    try:
        fields = template_fields(target.template)
    except ValueError as error:
        raise ConfigError(f"config.targets.{benchmark}.template: {error}") from None
    unit = "row" if _format(target) == "parquet" else "line"
    examples = []
    for index, row in _rows(target, content, fields):
        where = f"{target.path}: {unit} {index + 1}"
        values = {}
        for field in fields:
            if field not in row:
                raise DataError(f"{where}: no field '{field}' for targets.{benchmark}.template; found {', '.join(row)}")
            values[field] = _as_text(row[field], f"{where}: field '{field}'")
        text = "".join(
            literal + (values[field] if field is not None else "")
            for literal, field, _, _ in string.Formatter().parse(target.template)
        )
        if not text.strip():
            raise DataError(f"{where}: the example is empty after targets.{benchmark}.template")
        examples.append(Example(benchmark, index, text))
    if not examples:
        raise DataError(f"{target.path}: targets.{benchmark} has no examples, the file is empty")
    return examples


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


def _format(target: TargetConfig) -> str:
    return target.format or ("parquet" if target.path.endswith(".parquet") else "json")


def _rows(target: TargetConfig, content: bytes, fields: Sequence[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    if _format(target) == "parquet":
        try:
            file = pq.ParquetFile(io.BytesIO(content))
            found = file.schema_arrow.names
            rows = file.read(columns=sorted(set(fields) & set(found))).to_pylist()
        except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
            raise DataError(f"{target.path}: not a readable Parquet file ({str(error).splitlines()[0]})") from None
        if missing := next((field for field in fields if field not in found), None):
            raise DataError(f"{target.path}: no column '{missing}' for the template; found {', '.join(found)}")
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


def _as_text(value: Any, where: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return str(value)
    if isinstance(value, list) and all(isinstance(part, str | int | float) for part in value):
        return "\n".join(str(part) for part in value)
    raise DataError(f"{where}: text, a number or a list of them is wanted, found {type(value).__name__}")
