"""The scorer on disk, and its way to the executors.

`scorers/NAME/tables-SHA.npz` holds the folded arrays, `scorer.json` beside it is written last.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from pyspark.sql import SparkSession

from betr_spark.errors import ArtifactError
from betr_spark.scoring.ngram_table import SharedTables, Table, table_of
from betr_spark.scoring.shared_memory import map_shared_tables, write_shared_tables
from betr_spark.storage import hadoop_files, shipping
from betr_spark.storage.small_files import write_bytes


class Scorer(NamedTuple):
    """A folded model and what scorer.json says of it (`sha256`, `key`, hyper-parameters, metrics)."""

    name: str
    table: Table
    about: Mapping[str, Any]


def sha256(table: Table) -> str:
    """Digest of a table's arrays: names, types, shapes and bytes, hex."""
    digest = hashlib.sha256()
    for name, array in sorted(table.arrays().items()):
        digest.update(f"{name} {array.dtype.str} {array.shape};".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def save(spark: SparkSession, folder: str, table: Table, about: Mapping[str, Any]) -> dict[str, Any]:
    """Write an artifact; scorer.json last, so that it never speaks of arrays that are not there.

    Returns:
        What scorer.json says: `about` with `sha256` and `arrays` added.
    """
    digest = sha256(table)
    packed = io.BytesIO()
    np.savez(packed, allow_pickle=False, **table.arrays())
    arrays = f"tables-{digest[:16]}.npz"
    write_bytes(spark, f"{folder}/{arrays}", packed.getvalue())
    full = {**about, "arrays": arrays, "sha256": digest}
    write_bytes(spark, f"{folder}/scorer.json", json.dumps(full, indent=2, sort_keys=True).encode())
    for old in hadoop_files.children(spark, folder):
        if old.startswith("tables-") and old != arrays:
            hadoop_files.delete(spark, f"{folder}/{old}")
    return full


def describe(spark: SparkSession, folder: str) -> dict[str, Any] | None:
    """Read scorer.json; None where it is missing or cut short, which a new training mends."""
    path = f"{folder}/scorer.json"
    if not hadoop_files.exists(spark, path):
        return None
    try:
        about = json.loads(hadoop_files.read_bytes(spark, path))
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
        with np.load(
            io.BytesIO(hadoop_files.read_bytes(spark, f"{folder}/{about['arrays']}")), allow_pickle=False
        ) as arrays:
            table = table_of({key: arrays[key] for key in arrays.files})
    except (ValueError, KeyError, OSError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
        raise ArtifactError(
            f"{folder}/{about['arrays']}: damaged ({error}); `betr-spark train --again` mends it"
        ) from None
    if sha256(table) != about["sha256"]:
        raise ArtifactError(
            f"{folder}/{about['arrays']}: sha256 differs from scorer.json; `betr-spark train --again` mends it"
        )
    return Scorer(name, table, about)


def ship(spark: SparkSession, shared_tables: SharedTables) -> Callable[[], SharedTables]:
    """Send tables to every executor once; the function returned maps them into memory that a machine's workers share."""
    places = write_shared_tables(shared_tables, shipping.shipping_folder(spark))
    fetched = shipping.ship(spark, places.name)
    return lambda: map_shared_tables(places, fetched())
