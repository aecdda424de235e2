"""From the user's three answers to a configuration that is valid."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pyspark.sql import SparkSession

from betr_spark.config import load_config
from betr_spark.draft.benchmarks import guessed_targets, named_paths
from betr_spark.draft.columns import guessed_columns
from betr_spark.draft.documents import look_at
from betr_spark.draft.local_files import local_path
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
        file: name of the configuration's file.
        session: gives Spark's session; it is asked for if a file is not on this machine, or is a Delta table.

    Raises:
        ConfigError: an answer is wrong, such as an output inside the input.
        DataError: a file cannot be read, or nothing can be guessed from it; one line for each problem.
    """
    paths = named_paths(targets)
    if not paths:
        raise ConfigError("--target: missing; at least one benchmark with training examples is required")
    _check_apart(documents, output)
    found = look_at(documents, session)
    columns = guessed_columns(found.rows, found.folders, where=documents)
    guessed = guessed_targets(paths, session)
    text = text_of(found, columns, guessed, output=output, file=file)
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
    if found.n_documents < SMALL_CORPUS:
        lines.append(
            f"input.path: {found.n_documents} documents are too few to train a scorer; some thousands are required"
        )
    return Draft(text, values, lines, found.n_documents)


def _check_apart(documents: str, output: str) -> None:
    """Raise ConfigError for an output that is the input, is inside it, or is a file."""
    source, folder = (_whole(path) for path in (documents, output))
    if folder == source or folder.startswith(f"{source}/"):
        raise ConfigError(f"--output: {output}: is inside the documents ({documents}); choose another folder")
    if (here := local_path(output)) is not None and Path(here).is_file():
        raise ConfigError(f"--output: {output}: is a file; a folder is required")


def _whole(path: str) -> str:
    here = local_path(path)
    return os.path.realpath(here) if here is not None else path.rstrip("/")
