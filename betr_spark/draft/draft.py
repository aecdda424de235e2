"""From the user's three answers to a configuration that is valid."""

import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pyspark.sql import SparkSession

from betr_spark.config import load_config
from betr_spark.draft.benchmarks import guessed_targets, named_paths
from betr_spark.draft.columns import guessed_columns
from betr_spark.draft.documents import look_at
from betr_spark.draft.local_files import data_files, local_path
from betr_spark.draft.text import SMALL_CORPUS, text_of, unequal
from betr_spark.errors import ConfigError


class Draft(NamedTuple):
    """A configuration.

    Attributes:
        text: its YAML.
        values: its keys.
        guesses: what the user should check, one line each.
        n_documents: about how many documents there are.
    """

    text: str
    values: dict[str, Any]
    guesses: list[str]
    n_documents: int


def draft(
    documents: str, targets: Sequence[str], output: str, *, file: str, session: Callable[[], SparkSession]
) -> Draft:
    """Look at the user's files and write a configuration for them.

    Args:
        documents: path of the documents.
        targets: paths of the benchmarks' examples, as NAME=PATH or PATH.
        output: folder of the tables.
        file: path of the configuration's file.
        session: gives Spark's session; it is asked for if a file is not on this machine, or is a Delta table.

    Raises:
        ConfigError: an answer is wrong, such as an output inside the input.
        DataError: a file cannot be read, or nothing can be guessed from it; one line for each problem.
    """
    paths = named_paths(targets)
    if not paths:
        raise ConfigError("--target: missing; at least one benchmark with training examples is required")
    _check_apart(documents, output)
    corpus = look_at(documents, session)
    columns = guessed_columns(corpus.rows, corpus.folders, where=documents)
    guessed = guessed_targets(paths, session)
    used = [path for each in guessed for path in (each.target.path, each.target.test) if path is not None]
    _check_no_documents(corpus.path, used, file)
    text = text_of(corpus, columns, guessed, output=output, file=shlex.quote(file))
    values = yaml.safe_load(text)
    load_config(values)  # a name or a path can be one that the configuration refuses
    lines = [f"input.text: {columns.text.value}: {columns.text.why}"]
    for key, guess in (("id", columns.id), ("source", columns.source)):
        lines.append(f"input.{key}: {guess.value or 'none'}: {guess.why}")
    for name, target, why, _, _ in guessed:
        template = target.template if target.template is not None else target.jinja
        lines += [f"targets.{name}: {template!r}: {why[0]}", *(f"targets.{name}: {line}" for line in why[1:])]
    if about := unequal(guessed):
        lines.append(f"targets: {about}")
    if corpus.n_documents < SMALL_CORPUS:
        lines.append(
            f"input.path: {corpus.n_documents} documents are too few to train a scorer; some thousands are required"
        )
    return Draft(text, values, lines, corpus.n_documents)


def _check_apart(documents: str, output: str) -> None:
    """Raise ConfigError for an output that is the input, is inside it, or is a file."""
    source, folder = (_whole(path) for path in (documents, output))
    if folder == source or folder.startswith(f"{source}/"):
        raise ConfigError(f"--output: {output}: is inside the documents ({documents}); choose another folder")
    if (here := local_path(output)) is not None and Path(here).is_file():
        raise ConfigError(f"--output: {output}: is a file; a folder is required")


def _check_no_documents(documents: str, benchmarks: Sequence[str], file: str) -> None:
    """Raise ConfigError for files that would be read as documents: a benchmark's test items could then be selected.

    Args:
        documents: path or glob of the configuration.
        benchmarks: paths of examples and test items.
        file: of the configuration, which need not exist.
    """
    here, folder = local_path(documents), _whole(documents)
    read = {os.path.realpath(name) for name in data_files(here)} if here is not None else set()
    inside = [
        f"--target: {path}: is among the documents ({documents}); move it, or name the documents by a glob that leaves it out"
        for path in benchmarks
        if read & {_whole(path), *_files_of(path)} or _whole(path).startswith(f"{folder}/")
    ]
    if _whole(file).startswith(f"{folder}/"):
        inside.append(f"--to: {file}: is inside the documents ({documents}); choose another folder")
    if inside:
        raise ConfigError(*inside)


def _files_of(path: str) -> set[str]:
    """The files of a folder of this machine, such as one of `datasets`."""
    here = local_path(path)
    return (
        {os.path.realpath(file) for file in Path(here).rglob("*")}
        if here is not None and Path(here).is_dir()
        else set()
    )


def _whole(path: str) -> str:
    here = local_path(path)
    return os.path.realpath(here) if here is not None else path.rstrip("/")
