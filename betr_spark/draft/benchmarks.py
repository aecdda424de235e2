"""The user's benchmark files: their names, templates that all rows can be written with, and test files next to them."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pyspark.sql import SparkSession

from betr_spark.config.targets import TargetConfig
from betr_spark.draft.local_files import local_path
from betr_spark.draft.templates import candidates
from betr_spark.errors import BetrSparkError, ConfigError, DataError
from betr_spark.targets.content import LocalFiles, content_of, splits_of
from betr_spark.targets.examples import Content, examples_of, rows_of
from betr_spark.targets.reading import Benchmark, examples_and_items, read_content, targets_of

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\x28\xb5\x2f\xfd": "zstd", b"PK\x03\x04": "zip"}
_TRAIN = re.compile(r"(?<![A-Za-z])(train|training)(?![A-Za-z])", re.IGNORECASE)
_REQUIRED = "JSON Lines, Parquet or a folder that `Dataset.save_to_disk` wrote is required"


class GuessedTarget(NamedTuple):
    """A target of the configuration.

    Attributes:
        name: of the benchmark.
        target: its settings.
        why: the reason for the template, and what was found about a test file; one line each.
        is_known: whether the fields have known names.
        n_examples: of its file.
    """

    name: str
    target: TargetConfig
    why: list[str]
    is_known: bool
    n_examples: int


def named_paths(given: Sequence[str]) -> dict[str, str]:
    """Split `NAME=PATH`; a path without a name gets that of its file.

    >>> named_paths(["math=data/gsm8k.jsonl", "data/qasc.train.parquet", "data/arc/train"])
    {'math': 'data/gsm8k.jsonl', 'qasc': 'data/qasc.train.parquet', 'arc': 'data/arc/train'}

    Raises:
        ConfigError: two benchmarks have the same name, or a path is missing.
    """
    paths: dict[str, str] = {}
    for text in given:
        name, is_named, path = text.partition("=")
        if not is_named or not _NAME.fullmatch(name) or (not path and Path(text).exists()):
            name, path = _name_of(text), text
        if not path:
            raise ConfigError(f"--target {text}: no path after '='; NAME=PATH is required")
        if name in paths:
            raise ConfigError(
                f"--target: two benchmarks have the name '{name}': {paths[name]} and {path}; name them by NAME=PATH"
            )
        paths[name] = path
    return paths


def _name_of(path: str) -> str:
    steps = path.rstrip("/").split("/")
    stem = steps[-1].split(".")[0]
    if _TRAIN.fullmatch(stem) and len(steps) > 1:
        stem = steps[-2]
    return re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-_") or "benchmark"


def guessed_targets(paths: Mapping[str, str], session: Callable[[], SparkSession]) -> list[GuessedTarget]:
    """Look at each benchmark's file, and find a template that all its rows can be written with.

    Args:
        paths: by name.
        session: gives Spark's session, for files on other file systems.

    Raises:
        DataError: a file cannot be read, or its rows cannot be written as texts; one line for each file.
    """
    targets, contents, problems = [], {}, list[str]()
    for name, path in paths.items():
        try:
            guessed, contents[name] = _guessed(name, path, session)
        except BetrSparkError as error:
            problems += error.args
        else:
            targets.append(guessed)
    if problems:
        raise DataError(*problems)
    targets_of({each.name: each.target for each in targets}, contents)  # raises if one is a copy of another
    return targets


def _guessed(name: str, path: str, session: Callable[[], SparkSession]) -> tuple[GuessedTarget, Benchmark]:
    here, whys = local_path(path), list[str]()
    if here is not None and "train" in splits_of(LocalFiles(), here):
        path = f"{path.rstrip('/')}/train"
        whys.append("the split 'train' of the folder")
    content = _content(path, session)
    _check_kind(name, path, content)
    target, why, is_known, n_examples = _with_template(name, path, content)
    whys.insert(0, why)
    benchmark = Benchmark(content, None)
    if (test := _test_path(path)) is not None:
        with_test = target.model_copy(update={"test": test})
        try:
            test_content = _content(test, session)
            items = examples_of(name, with_test.model_copy(update={"path": test}), test_content)
        except BetrSparkError as error:
            whys.append(f"'{test}' is not used as the test file: {error.args[0]}")
        else:
            both = Benchmark(content, test_content)
            examples_and_items(name, with_test, both)  # raises if an example is also a test item
            target, benchmark = with_test, both
            whys.append(f"the test file is next to the path by its name; its {len(items):,} items are never targets")
    return GuessedTarget(name, target, whys, is_known, n_examples), benchmark


def _content(path: str, session: Callable[[], SparkSession]) -> Content:
    here = local_path(path)
    return read_content(session(), path) if here is None else content_of(LocalFiles(), here)


def _check_kind(name: str, path: str, content: Content) -> None:
    """Raise DataError for a file of another kind, which as JSON Lines would only be invalid."""
    if isinstance(content, list) or content.startswith(b"PAR1") or path.endswith(".parquet"):
        return
    where = f"targets.{name}: {path}"
    for first, kind in _COMPRESSED.items():
        if content.startswith(first):
            raise DataError(f"{where}: {kind} data; benchmark files are read as they are: decompress it")
    start = content[:4096].lstrip(b"\xef\xbb\xbf \r\n\t")
    if start.startswith(b"["):
        raise DataError(
            f"{where}: a JSON array; JSON Lines is required, one object in each line (`jq -c '.[]'` writes it so)"
        )
    if start and not start.startswith(b"{"):
        suffix = Path(path).suffix
        kind = f"{suffix} files cannot be read" if suffix not in ("", ".json", ".jsonl") else "not JSON Lines"
        raise DataError(f"{where}: {kind}; {_REQUIRED}")


def _with_template(name: str, path: str, content: Content) -> tuple[TargetConfig, str, bool, int]:
    """The first template that all rows can be written with, and why; its error if there is none."""
    settings: dict[str, Any] = {"path": path}
    if isinstance(content, bytes) and content.startswith(b"PAR1") and not path.endswith(".parquet"):
        settings["format"] = "parquet"
    rows = [row for _, row in rows_of(TargetConfig(**settings, template="{}"), content)]
    fields = list(dict.fromkeys(field for row in rows for field in row))
    first_error: BetrSparkError | None = None
    for candidate in candidates(rows):
        target = TargetConfig(**{**settings, candidate.key: candidate.template})
        try:
            examples = examples_of(name, target, content)
        except BetrSparkError as error:
            first_error = first_error or error
            continue
        used = ", ".join(candidate.fields)
        if candidate.is_known:
            unused = [field for field in fields if field not in candidate.fields]
            why = f"by the names of the fields {used}" + (f"; not used: {', '.join(unused)}" if unused else "")
        else:
            why = f"the names of the fields say nothing, so all texts are joined; found {', '.join(fields)}; check it"
        why += f"; {candidate.doubt}: check it" if candidate.doubt else ""
        return target, why, candidate.is_known, len(examples)
    if first_error is not None:
        raise first_error
    raise DataError(f"targets.{name}: {path}: no field has text; found {', '.join(fields) or 'no row'}")


def _test_path(path: str) -> str | None:
    """The file or folder of this machine next to a training file whose name says test instead of train, if there is one."""
    folder, slash, name = path.rstrip("/").rpartition("/")
    renamed = _TRAIN.sub("test", name)
    candidate = f"{folder}{slash}{renamed}"
    here = local_path(candidate)
    return candidate if renamed != name and here is not None and Path(here).exists() else None
