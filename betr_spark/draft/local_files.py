"""Files of documents on this machine: those that Spark would read, their format, and the folders `key=value`."""

import glob
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlparse

from betr_spark.corpus.compression import problem_of_start
from betr_spark.errors import DataError
from betr_spark.targets.content import LocalFiles, splits_of

REQUIRED = "Parquet, Delta or JSON Lines is required"
JSON_NAMES = (".json", ".jsonl", ".ndjson")
_COMPRESSED = (".gz", ".bz2", ".zst")
_PARQUET = b"PAR1"
_NAMED = 3

Format = Literal["parquet", "delta", "json"]


def local_path(path: str) -> str | None:
    """The path on this machine; None for a URI of another file system.

    >>> local_path("docs/a.parquet"), local_path("file:///docs/a%20b"), local_path("s3a://bucket/docs")
    ('docs/a.parquet', '/docs/a b', None)
    """
    parts = urlparse(path)
    if "://" not in path and parts.scheme != "file":
        return path
    return unquote(parts.path) if parts.scheme == "file" else None


def check_no_dataset(path: str, here: str) -> None:
    """Raise DataError for a folder that Hugging Face `datasets` wrote: a run does not read its Arrow files as documents."""
    splits = splits_of(LocalFiles(), here)
    if splits or (Path(here) / "state.json").exists():
        name = f"{path}/{splits[0]}" if splits else path
        raise DataError(
            f"documents: {path}: a folder of Hugging Face `datasets`, which is read for benchmark examples alone; {REQUIRED}; "
            f"write it as Parquet with `datasets.load_from_disk('{name}').to_parquet('documents.parquet')`"
        )


def data_files(here: str) -> list[str]:
    """Files that Spark reads below a path or glob, sorted: none whose name, or a folder of it, begins with `_` or `.`."""
    files = []
    for found in sorted(glob.glob(here)) if glob.has_magic(here) and not Path(here).exists() else [here]:  # noqa: PTH207
        if Path(found).is_file():
            files.append(found)
        for folder, folders, names in os.walk(found):
            folders[:] = sorted(name for name in folders if not _is_hidden(name))
            files += [str(Path(folder) / name) for name in sorted(names) if not _is_hidden(name)]
    return [file for file in files if Path(file).exists() and Path(file).stat().st_size > 0]  # not a broken link


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or (name.startswith("_") and "=" not in name)


def of_one_format(path: str, files: Sequence[str]) -> tuple[list[str], Format]:
    """The files that can be read, all of one format, and the format. One file of each suffix is opened.

    Raises:
        DataError: no file can be read, or there are files of two formats.
    """
    formats: dict[str, Format | str] = {}  # by suffix; the reason where a file cannot be read
    by_format: dict[Format | str, list[str]] = {}
    for file in files:
        suffix = _suffix(file)
        if suffix not in formats:
            formats[suffix] = _format_of(file)
        by_format.setdefault(formats[suffix], []).append(file)
    known: list[Format] = [kind for kind in ("parquet", "json") if kind in by_format]
    if len(known) == 1:
        return by_format[known[0]], known[0]
    if known:
        raise DataError(
            f"documents: {path}: has Parquet and JSON files, for example {by_format['parquet'][0]} and {by_format['json'][0]}; "
            "name files of one format by a glob"
        )
    reason, refused = next(iter(by_format.items()))
    raise DataError(f"documents: {refused[0]}: {reason}")


def _suffix(file: str) -> str:
    """Of the name, with that of the compression."""
    stem = file.lower()
    compressed = next((suffix for suffix in _COMPRESSED if stem.endswith(suffix)), "")
    return f"{Path(stem.removesuffix(compressed)).suffix}{compressed}"


def _format_of(file: str) -> Format | str:
    """The format of a file by its first bytes and its name, or why it cannot be read."""
    try:
        with Path(file).open("rb") as opened:
            start = opened.read(64)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if start.startswith(_PARQUET):
        return "parquet"
    suffix = _suffix(file)
    is_json = (
        suffix.startswith(JSON_NAMES) or suffix in _COMPRESSED or start.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"{")
    )
    if suffix == ".parquet":
        return f"is not a Parquet file, but its name says so; {REQUIRED}"
    if is_json:
        return problem_of_start(file, start) or "json"
    return f"{f'{suffix} files' if suffix else 'files of this kind'} cannot be read; {REQUIRED}"


def glob_of(path: str, here: str, usable: Sequence[str], files: Sequence[str]) -> str:
    """A glob of the usable files of a folder, where others are next to them.

    Raises:
        DataError: there is no such glob.
    """
    suffix = _suffix(usable[0])
    pattern = f"{here.rstrip('/')}/*{suffix}"
    matched = set(glob.glob(pattern)) if suffix else set()  # noqa: PTH207
    if not glob.has_magic(here) and Path(here).is_dir() and matched == set(usable):
        return f"{path.rstrip('/')}/*{suffix}"
    others = [file for file in files if file not in set(usable)]
    raise DataError(
        f"documents: {path}: has files that cannot be read: {', '.join(others[:_NAMED])}{', ...' if others[_NAMED:] else ''}; "
        "move them, or name the others by a glob"
    )


def folder_keys(here: str, files: Sequence[str]) -> list[str]:
    """Keys of the folders `key=value` below the path that all files have."""
    keys = [
        [part.partition("=")[0] for part in Path(os.path.relpath(file, here)).parts[:-1] if "=" in part]
        for file in files
    ]
    return [key for key in keys[0] if all(key in of_file for of_file in keys)]
