"""The scorer on disk: `scorers/NAME/tables-SHA.npz` (folded arrays) and `scorer.json` beside it, written last."""

import dataclasses
import hashlib
import io
import json
import tempfile
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pyspark import SparkFiles
from pyspark.sql import SparkSession

from betr_spark import files
from betr_spark.errors import ArtifactError
from betr_spark.scorer.table import Bank, NgramTable, stack


class Scorer(NamedTuple):
    """A folded model and what scorer.json says of it (`sha256`, `key`, hyper-parameters, metrics)."""

    name: str
    table: NgramTable
    about: Mapping[str, Any]


def sha256(table: NgramTable) -> str:
    """Digest of a table's arrays: names, types, shapes and bytes, hex."""
    digest = hashlib.sha256()
    for name, array in sorted(table.arrays().items()):
        digest.update(f"{name} {array.dtype.str} {array.shape};".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def save(spark: SparkSession, folder: str, table: NgramTable, about: Mapping[str, Any]) -> dict[str, Any]:
    """Write an artifact; scorer.json last, so that it never speaks of arrays that are not there.

    Returns:
        What scorer.json says: `about` with `sha256` and `arrays` added.
    """
    digest = sha256(table)
    packed = io.BytesIO()
    np.savez(packed, allow_pickle=False, **table.arrays())
    arrays = f"tables-{digest[:16]}.npz"
    files.write_bytes(spark, f"{folder}/{arrays}", packed.getvalue())
    full = {**about, "arrays": arrays, "sha256": digest}
    files.write_bytes(spark, f"{folder}/scorer.json", json.dumps(full, indent=2, sort_keys=True).encode())
    for old in files.children(spark, folder):
        if old.startswith("tables-") and old != arrays:
            files.delete(spark, f"{folder}/{old}")
    return full


def describe(spark: SparkSession, folder: str) -> dict[str, Any] | None:
    """Read scorer.json; None where it is missing or cut short, which a new training mends."""
    path = f"{folder}/scorer.json"
    if not files.exists(spark, path):
        return None
    try:
        about = json.loads(files.read_bytes(spark, path))
    except ValueError:
        return None
    return about if isinstance(about, dict) and {"arrays", "sha256"} <= set(about) else None


def load(spark: SparkSession, folder: str, name: str) -> Scorer:
    """Read an artifact.

    Raises:
        ArtifactError: it is not there, or its arrays are not those that scorer.json was written for.
    """
    about = describe(spark, folder)
    if about is None:
        raise ArtifactError(f"{folder}: no trained scorer '{name}'; `betr-spark train` makes it")
    try:
        with np.load(io.BytesIO(files.read_bytes(spark, f"{folder}/{about['arrays']}")), allow_pickle=False) as arrays:
            table = NgramTable.from_arrays({key: arrays[key] for key in arrays.files})
    except (ValueError, KeyError, OSError) as error:
        raise ArtifactError(
            f"{folder}/{about['arrays']}: damaged ({error}); `betr-spark train --again` mends it"
        ) from None
    if sha256(table) != about["sha256"]:
        raise ArtifactError(
            f"{folder}/{about['arrays']}: sha256 differs from scorer.json; `betr-spark train --again` mends it"
        )
    return Scorer(name, table, about)


def share(spark: SparkSession, tables: Sequence[NgramTable]) -> list[str]:
    """Send the banks of these tables to every executor, once, as files that its Python workers map into memory.

    Mapped pages are shared by all workers of an executor; a broadcast would be one private copy a worker, and a second of
    unpickling each.

    Returns:
        Names for `shared`, one a bank.
    """
    names, folder = [], Path(_sent().name)
    for bank in stack(tables):
        arrays = {field.name: np.atleast_1d(getattr(bank, field.name)) for field in dataclasses.fields(bank)}
        digest = hashlib.sha256()
        for array in arrays.values():
            digest.update(np.ascontiguousarray(array).tobytes())
        names.append(f"bank-{digest.hexdigest()[:16]}")
        for key, array in arrays.items():
            path = folder / f"{names[-1]}-{key}.npy"
            if not path.exists():
                np.save(path, array, allow_pickle=False)
            spark.sparkContext.addFile(str(path))  # does nothing the second time
    return names


@lru_cache(maxsize=1)
def _sent() -> "tempfile.TemporaryDirectory[str]":
    """Folder of the files sent: executors fetch them from there as long as the driver lives."""
    return tempfile.TemporaryDirectory(prefix="betr-spark-")


@lru_cache(maxsize=16)
def shared(name: str) -> Bank:
    """Map a bank that `share` sent; call it in a task."""
    arrays: dict[str, Any] = {
        field.name: np.load(SparkFiles.get(f"{name}-{field.name}.npy"), mmap_mode="r", allow_pickle=False)
        for field in dataclasses.fields(Bank)
    }
    return Bank(**{**arrays, "word_ngrams": int(arrays["word_ngrams"][0])})
