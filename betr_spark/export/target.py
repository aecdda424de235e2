"""The folder of an export: what is in it, and what of it a later run can keep."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from pyspark.sql import SparkSession

from betr_spark.errors import DataError
from betr_spark.export.encoding import RECORD
from betr_spark.storage import byte_files, hadoop_files
from betr_spark.storage.delta import as_object
from betr_spark.storage.lease import FOLDER as LEASE
from betr_spark.storage.small_files import write_bytes

MANIFEST = "manifest.json"
UNFINISHED = "_export"  # folder of an export that has not ended
_OURS = re.compile(r"shard-\d{5}\.(jsonl\.zst|parquet|bin|idx|arrow)|dataset_info\.json|state\.json")
_SHOWN = 3


class Target:
    """A folder on any Hadoop file system.

    `_export/settings.json` tells what an unfinished export writes, and `_export/staged` has its files until they are moved to
    their names. At the end `manifest.json` is written and `_export` is deleted.
    """

    def __init__(self, spark: SparkSession, path: str) -> None:
        self._spark, self.path = spark, path.rstrip("/") or "/"
        self.staged = f"{self.path}/{UNFINISHED}/staged"

    def manifest(self) -> dict[str, Any]:
        """The manifest of a finished export; empty where there is none."""
        return self._json(MANIFEST)

    def settings(self) -> dict[str, Any]:
        """What the export in the folder was asked for; empty where there is none."""
        return dict(self.manifest().get("settings", {})) or self._json(f"{UNFINISHED}/settings.json")

    def check_ours(self) -> None:
        """Raise DataError if the path is a file, or a folder with other things in it than an export."""
        if hadoop_files.is_file(self._spark, self.path):
            raise DataError(f"--to: {self.path} is a file; a folder is required")
        names = set(hadoop_files.children(self._spark, self.path)) - {LEASE}
        if names and not self.settings():
            raise DataError(
                f"--to: {self.path}: is not empty and has no export in it ({', '.join(sorted(names)[:_SHOWN])}); "
                "choose a new or empty folder"
            )

    def check_same(self, settings: Mapping[str, Any]) -> None:
        """Raise DataError if the folder has an export of another selection or version of it, or with other settings."""
        before = self.settings()
        different = (
            [name for name in {**before, **settings} if before.get(name) != settings.get(name)] if before else []
        )
        if different:
            name = different[0]
            raise DataError(
                f"--to: {self.path}: has another export in it ({name}: {before.get(name)}, now {settings.get(name)}); "
                "choose another folder, or replace it with --overwrite"
            )

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Note what is written from now on."""
        self._write(f"{UNFINISHED}/settings.json", settings)

    def clear(self) -> None:
        """Delete an export, the manifest first; other files stay. An export that is half deleted counts as unfinished."""
        self.begin(self.settings())
        hadoop_files.delete(self._spark, f"{self.path}/{MANIFEST}")
        for name in hadoop_files.children(self._spark, self.path):
            if _OURS.fullmatch(name):
                hadoop_files.delete(self._spark, f"{self.path}/{name}")
        self.delete_unfinished()

    def records(self, *, separator: str, verify: bool = False) -> dict[int, dict[str, Any]]:
        """The records of shards whose files are all there with their size, by number; staged files are moved to their names.

        A file is in its place as a whole or not at all, so its size tells whether it is there. With `verify` its hash is
        compared, too, which reads it.
        """
        spark = self._spark
        lines = byte_files.read_staged(spark, self.staged, suffix=RECORD, separator=separator)
        known = {record["number"]: record for record in self.manifest().get("shards", [])}
        known |= {record["number"]: record for record in map(as_object, lines) if record}
        staged, present = byte_files.staged_files(spark, self.staged), byte_files.sizes(spark, self.path)
        whole, moves = {}, dict[str, str]()
        for number, record in known.items():
            sizes = {file["name"]: file["bytes"] for file in record["files"]}
            to_move = [name for name, size in sizes.items() if name in staged and staged[name].n_bytes == size]
            if all(name in to_move or present.get(name) == size for name, size in sizes.items()):
                whole[number] = record
                moves |= {staged[name].path: f"{self.path}/{name}" for name in to_move}
        byte_files.move_files(spark, moves)
        return self._intact(whole) if verify else whole

    def _intact(self, records: Mapping[int, dict[str, Any]]) -> dict[int, dict[str, Any]]:
        files = [(number, file) for number, record in records.items() for file in record["files"]]
        hashes = byte_files.sha256_of(self._spark, [f"{self.path}/{file['name']}" for _, file in files])
        damaged = {number for (number, file), sha256 in zip(files, hashes, strict=True) if sha256 != file["sha256"]}
        return {number: record for number, record in records.items() if number not in damaged}

    def delete_unfinished(self) -> None:
        """Delete what an unfinished export has."""
        hadoop_files.delete(self._spark, f"{self.path}/{UNFINISHED}")

    def drop(self, names: Iterable[str]) -> None:
        """Delete staged files that are written again, and what killed tasks left."""
        byte_files.delete_staged(self._spark, self.staged, set(names))

    def finish(self, files: Mapping[str, bytes], manifest: Mapping[str, Any]) -> None:
        """Write small files, then the manifest in one step, then delete what an unfinished export has."""
        for name, content in files.items():
            write_bytes(self._spark, f"{self.path}/{name}", content)
        self._write(MANIFEST, manifest)
        self.delete_unfinished()

    def _write(self, name: str, values: Mapping[str, Any]) -> None:
        write_bytes(self._spark, f"{self.path}/{name}", f"{json.dumps(values, indent=2)}\n".encode())

    def _json(self, name: str) -> dict[str, Any]:
        path = f"{self.path}/{name}"
        if not hadoop_files.exists(self._spark, path):
            return {}
        return as_object(hadoop_files.read_bytes(self._spark, path).decode())
