"""Small tables that a user wrote: CSV, JSON Lines or Parquet on this machine; no Spark."""

import csv
import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from betr_spark.errors import DataError, SchemaError, quoted

MAX_BYTES = 16 * 2**20
MAX_ROWS = 2_000
MAX_COLUMNS = 1_000
_SUFFIXES = {".csv": "csv", ".json": "json", ".jsonl": "json", ".ndjson": "json", ".parquet": "parquet"}
_PROBLEMS_SHOWN = 20


class Table(NamedTuple):
    """Columns of a file with their values as they are written: text in CSV, else numbers, text or None; each [n]."""

    path: str
    columns: Mapping[str, Sequence[Any]]
    n_rows: int

    def place(self, row: int, column: str) -> str:
        """Where a value is, for messages; rows count from 1, without the header."""
        return f"{self.path}: row {row + 1}: column {quoted(column)}"


def read_table(path: Path) -> Table:
    """Read a small table; its suffix is its format: .csv, .jsonl (also .json, .ndjson) or .parquet.

    Args:
        path: a local file of at most 16 MiB, 2,000 rows and 1,000 columns.

    Raises:
        DataError: the file is missing, too large, empty or damaged.
        SchemaError: a column occurs twice, or the suffix is another one.
    """
    kind = _SUFFIXES.get(path.suffix.lower())
    if not path.is_file():
        raise DataError(f"{path}: file not found; a local CSV, JSON Lines or Parquet file is required")
    if kind is None:
        raise SchemaError(f"{path}: suffix {quoted(path.suffix)}; .csv, .jsonl or .parquet is required")
    if (size := path.stat().st_size) > MAX_BYTES:
        raise DataError(f"{path}: {size:,} bytes; at most {MAX_BYTES:,} are allowed: one row for each run is enough")
    try:
        table = {"csv": _csv, "json": _json_lines, "parquet": _parquet}[kind](path)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.start}: not UTF-8; save the file as UTF-8") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    if not table.n_rows:
        raise DataError(f"{path}: no rows; at least one is required")
    return table


def _check_size(path: Path, n_rows: int, n_columns: int) -> None:
    if n_rows > MAX_ROWS:
        raise DataError(f"{path}: {n_rows:,} rows; at most {MAX_ROWS:,} are allowed")
    if n_columns > MAX_COLUMNS:
        raise DataError(f"{path}: {n_columns:,} columns; at most {MAX_COLUMNS:,} are allowed")


def _check_names(path: Path, names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SchemaError(*[f"{path}: column {quoted(name)} occurs twice; names must be unique" for name in twice])


def _csv(path: Path) -> Table:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            lines = [(reader.line_num, cells) for cells in reader if cells]
        except csv.Error as error:
            raise DataError(f"{path}: line {reader.line_num}: {error}") from error
    if not lines:
        raise DataError(f"{path}: empty; a header and at least one row are required")
    names, body = [name.strip() for name in lines[0][1]], lines[1:]
    _check_size(path, len(body), len(names))
    _check_names(path, names)
    wrong = [
        f"{path}: line {line}: {len(cells)} values; the header has {len(names)} columns"
        for line, cells in body
        if len(cells) != len(names)
    ]
    raise_problems(wrong)
    return Table(str(path), {name: [cells[at] for _, cells in body] for at, name in enumerate(names)}, len(body))


def _json_lines(path: Path) -> Table:
    rows: list[dict[str, Any]] = []

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        _check_names(path, [name for name, _ in pairs])
        return dict(pairs)

    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=unique)
        except SchemaError as error:
            raise SchemaError(
                *[text.replace(f"{path}:", f"{path}: line {number}:", 1) for text in error.args]
            ) from error
        except (RecursionError, ValueError) as error:  # ValueError: also a number of too many digits
            raise DataError(f"{path}: line {number}: not JSON: {error}") from error
        if not isinstance(row, dict):
            raise DataError(f"{path}: line {number}: {type(row).__name__}; a JSON object is required")
        rows.append(row)
    names = list(dict.fromkeys(name for row in rows for name in row))
    _check_size(path, len(rows), len(names))
    return Table(str(path), {name: [row.get(name) for row in rows] for name in names}, len(rows))


def _parquet(path: Path) -> Table:
    try:
        with pq.ParquetFile(path) as file:
            names = list(file.schema_arrow.names)
            _check_size(path, file.metadata.num_rows, len(names))
            _check_names(path, names)
            table = file.read()
    except pa.ArrowException as error:
        raise DataError(f"{path}: not a readable Parquet file: {str(error).splitlines()[0]}") from error
    return Table(str(path), {name: table.column(name).to_pylist() for name in names}, table.num_rows)


def raise_problems(problems: Sequence[str]) -> None:
    """Raise a DataError with one line for each problem, the first twenty of them; nothing if there are none."""
    if not problems:
        return
    hidden = len(problems) - _PROBLEMS_SHOWN
    raise DataError(*problems[:_PROBLEMS_SHOWN], *([f"... and {hidden} more problems"] if hidden > 0 else []))


def as_number(value: Any) -> float | None:
    """Read a finite number; None if a value is none. Text is a number in CSV only, so callers pass it for CSV alone.

    >>> as_number(" 1e3 "), as_number("nan"), as_number(True), as_number("1_0")
    (1000.0, None, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        return None
    if isinstance(value, str) and "_" in value:
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if np.isfinite(number) else None
