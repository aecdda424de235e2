"""Marks as a file that a scorer is trained on: external scores (`kind: teacher`) or positives (`kind: classifier`)."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from betr_spark.errors import DataError
from betr_spark.look.marks import CLASSIFIER, GOOD, TEACHER, Marks
from betr_spark.look.tables import Tables
from betr_spark.schemas import DOC_ID, SCORE, TEXT


class Exported(NamedTuple):
    """A file that was written.

    Attributes:
        kind: of the scorer.
        path: of the file.
        documents: in the file.
        left_out: marked documents that the scorer could not use.
        why: they are left out.
        scorer: the entry of `scorers` that reads the file, as YAML.
    """

    kind: str
    path: str
    documents: int
    left_out: int
    why: str
    scorer: str

    def lines(self) -> list[str]:
        """For people."""
        left_out = f"; {self.left_out} left out: {self.why}" if self.left_out else ""
        return [f"{self.path}: {self.documents} documents{left_out}", "scorers:", f"  marks: {self.scorer}"]


def export_marks(tables: Tables, marks: Marks, kind: str) -> Exported:
    """Write the marks for a kind of scorer, next to the file of marks; an earlier export is replaced at once.

    `teacher`: a Parquet table of the marked documents of the sample, with score 1 (good) or 0 (bad). `classifier`: JSON Lines
    of the good documents with their texts, as the tables have them now.

    Raises:
        DataError: there are not enough marks.
    """
    return _teacher(tables, marks) if kind == TEACHER else _classifier(tables, marks)


def _teacher(tables: Tables, marks: Marks) -> Exported:
    given = marks.all()
    sampled = sorted(tables.sampled(given))
    scores = [1.0 if given[doc_id] == GOOD else 0.0 for doc_id in sampled]
    n_good = int(sum(scores))
    if not 0 < n_good < len(sampled):
        raise DataError(
            f"{marks.file}: {n_good} good and {len(sampled) - n_good} bad documents of the sample; `kind: teacher` requires at "
            "least one of each; mark documents of the sample, because only they are trained on"
        )
    path = _sibling(marks.file, f".{TEACHER}.parquet")
    table = pa.table({DOC_ID: pa.array(sampled, pa.string()), SCORE: pa.array(scores, pa.float64())})
    _replace(path, lambda temporary: pq.write_table(table, temporary))
    # The positives are the first ceil(fraction * N) documents; half a document less, so that no rounding takes in a bad one.
    fraction = round((n_good - 0.5) / len(sampled), 9)
    scorer = f"{{kind: {TEACHER}, path: {json.dumps(str(path))}, positive_fraction: {fraction:.9f}}}"
    return Exported(TEACHER, str(path), len(sampled), len(given) - len(sampled), "not in the sample", scorer)


def _classifier(tables: Tables, marks: Marks) -> Exported:
    good = [doc_id for doc_id, mark in marks.all().items() if mark == GOOD]
    path, written = _sibling(marks.file, f".{CLASSIFIER}.jsonl"), 0

    def write(temporary: Path) -> None:
        nonlocal written
        with temporary.open("w", encoding="utf-8") as file:
            for row in tables.texts(good).toLocalIterator():  # one part of the texts at a time
                if row[TEXT].strip():
                    file.write(json.dumps({DOC_ID: row[DOC_ID], TEXT: row[TEXT]}) + "\n")
                    written += 1
        if not written:
            raise DataError(f"{marks.file}: no good document; `kind: {CLASSIFIER}` requires at least one")

    _replace(path, write)
    positives = f'{{path: {json.dumps(str(path))}, template: "{{{TEXT}}}"}}'
    scorer = f"{{kind: {CLASSIFIER}, positives: {positives}}}"
    return Exported(CLASSIFIER, str(path), written, len(good) - written, "in no table any more", scorer)


def _sibling(marks: Path, ending: str) -> Path:
    return marks.with_name(marks.name.removesuffix(".jsonl") + ending)


def _replace(path: Path, write: Callable[[Path], None]) -> None:
    """Write a file under another name first, so that no reader sees a part of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
