"""Which columns of the documents are the id, the text and the source: guessed by names and values."""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from betr_spark.config.column_path import path_name
from betr_spark.errors import DataError

Path = tuple[str, ...]
_TEXT = (
    "text", "content", "contents", "body", "raw_content", "raw_text", "full_text", "page_content", "document", "article",
    "markdown", "maintext", "main_text", "code", "passage", "abstract",
)  # fmt: skip
_ID = (
    "id", "doc_id", "docid", "document_id", "_id", "uid", "uuid", "guid", "key", "record_id", "warc_record_id",
    "warc-record-id", "identifier",
)  # fmt: skip
_SOURCE = (
    "source", "domain", "subset", "dataset", "corpus", "collection", "source_name", "site", "host", "hostname", "website",
    "publisher", "category", "topic", "language", "lang", "dump", "crawl", "snapshot", "license",
)  # fmt: skip
_URL = "url"
_MAX_DEPTH = 4
_MIN_MEAN = 20  # characters of a text whose name says nothing
_MAX_SOURCES = 0.9  # distinct values in a row
_MAX_EMPTY = 0.01  # rows without an id


class Column(NamedTuple):
    """A column, also one inside objects: its path, and its values where they are not null."""

    path: Path
    values: list[Any]
    n_rows: int

    @property
    def name(self) -> str:
        """As the configuration writes it."""
        return path_name(self.path)

    @property
    def kind(self) -> str:
        """The type of the values, for people."""
        kinds = dict.fromkeys(type(value).__name__ for value in self.values)
        return " or ".join(kinds) or "null"

    def has_only(self, *types: type) -> bool:
        """Whether it has values, and all of these types."""
        return bool(self.values) and all(isinstance(v, types) and not isinstance(v, bool) for v in self.values)

    def mean_length(self) -> float:
        """Characters, or bytes, of a value."""
        return sum(map(len, self.values)) / len(self.values)


class Guess(NamedTuple):
    """A value of the configuration, or None, and why: one line."""

    value: str | None
    why: str


class Columns(NamedTuple):
    """The guesses for a corpus, and the columns to carry."""

    id: Guess
    text: Guess
    source: Guess
    carried: list[str]


def guessed_columns(rows: Sequence[Mapping[str, Any]], folders: Sequence[str] = (), *, where: str) -> Columns:
    """Guess the columns of documents.

    Args:
        rows: some documents.
        folders: keys of `key=value` folders, which are columns of strings.
        where: path of the documents, for messages.

    Raises:
        DataError: no column can be the text.
    """
    columns = list(_columns(rows))
    text = _text(columns, where)
    others = [column for column in columns if column.name != text.value]
    identity = _id(others)
    others = [column for column in others if column.name != identity.value]
    source = _source(others, folders)
    carried = [c.name for c in _named(others, (_URL,)) if c.name != source.value and c.has_only(str)]
    return Columns(identity, text, source, carried[:1])


def _columns(rows: Sequence[Mapping[str, Any]]) -> Iterator[Column]:
    """Columns of any depth, without those whose names differ only in case, which Spark cannot tell apart."""
    values: dict[Path, list[Any]] = {}
    for row in rows:
        for path, value in _leaves(row, ()):
            values.setdefault(path, []).append(value)
    spelled: dict[Path, int] = {}
    for path in values:
        lower = tuple(step.lower() for step in path)
        spelled[lower] = spelled.get(lower, 0) + 1
    for path, every in values.items():
        if spelled[tuple(step.lower() for step in path)] == 1 and all(path):
            yield Column(path, [value for value in every if value is not None], len(rows))


def _leaves(value: Mapping[str, Any], path: Path) -> Iterator[tuple[Path, Any]]:
    for name, inner in value.items():
        if isinstance(inner, Mapping) and len(path) < _MAX_DEPTH:
            yield from _leaves(inner, (*path, str(name)))
        else:
            yield (*path, str(name)), inner


def _named(columns: Sequence[Column], names: Sequence[str]) -> list[Column]:
    """Columns of these names, in their order; of the same name the outermost first."""
    known = [column for column in columns if column.path[-1].lower() in names]
    return sorted(known, key=lambda column: (names.index(column.path[-1].lower()), len(column.path)))


def _text(columns: Sequence[Column], where: str) -> Guess:
    texts = [column for column in columns if column.has_only(str, bytes)]
    for column in _named(texts, _TEXT):
        return Guess(column.name, f"by its name; {column.mean_length():,.0f} characters on average")
    longest = max(texts, key=lambda column: column.mean_length(), default=None)
    if longest is None or longest.mean_length() < _MIN_MEAN:
        raise DataError(
            f"documents: {where}: no column can be the text; found {listed(columns)}; a column of texts of at least "
            f"{_MIN_MEAN} characters, or with a name such as 'text', is required"
        )
    return Guess(longest.name, f"the longest strings, {longest.mean_length():,.0f} characters on average; check it")


def _id(columns: Sequence[Column]) -> Guess:
    names = dict.fromkeys([*_ID, *(c.path[-1].lower() for c in columns if c.path[-1].lower().endswith("_id"))])
    refused = []
    for column in _named(columns, list(names)):
        if not column.has_only(str, int, bytes, Decimal):
            refused.append(f"'{column.name}' has other values than strings and integers")
            continue
        values = [value for value in column.values if value not in ("", b"")]
        n_empty = column.n_rows - len(values)
        if n_empty > _MAX_EMPTY * column.n_rows:
            refused.append(f"'{column.name}' is empty in {n_empty:,} of {column.n_rows:,} rows")
        elif len(set(values)) < len(values):
            refused.append(f"'{column.name}' has equal values in several rows")
        elif n_empty:
            why = f"by its name; {n_empty:,} of {column.n_rows:,} rows have none, and a run puts such rows into `quarantine`"
            return Guess(column.name, why)
        else:
            return Guess(column.name, f"by its name; all {column.n_rows:,} values are different")
    reason = refused[0] if refused else f"found {listed(columns)}"
    return Guess(
        None,
        f"no column looks like a unique id ({reason}); a hash of the text is the id, and equal texts are one document",
    )


def _source(columns: Sequence[Column], folders: Sequence[str]) -> Guess:
    for column in _named(columns, _SOURCE):
        n_distinct = len({str(value) for value in column.values})
        is_group = column.n_rows < 1 / (1 - _MAX_SOURCES) or n_distinct <= _MAX_SOURCES * column.n_rows
        if (
            all(isinstance(value, str | int | Decimal | dt.date) for value in column.values)
            and n_distinct > 1
            and is_group
        ):
            return Guess(column.name, f"by its name; {n_distinct:,} values in {column.n_rows:,} rows")
    for key in sorted(set(folders) & set(_SOURCE), key=_SOURCE.index):
        return Guess(key, f"the folders `{key}=...`")
    return Guess(None, f"no column looks like a source of documents; found {listed(columns)}")


def listed(columns: Sequence[Column], limit: int = 20) -> str:
    """Names and types of columns, for a message."""
    names = [f"{column.name} ({column.kind})" for column in columns]
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "") or "no other column"
