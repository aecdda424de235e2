"""Files of benchmarks, and the folders that Hugging Face `datasets` writes, from any file system."""

import json
from pathlib import Path
from typing import Any, Protocol

from betr_spark.errors import DataError
from betr_spark.targets.examples import Content


class Files(Protocol):
    """A file system. `read_bytes` raises DataError if there is no such file, or it cannot be read."""

    def exists(self, path: str) -> bool:
        """Whether there is a file or folder."""

    def is_file(self, path: str) -> bool:
        """Whether there is a file."""

    def read_bytes(self, path: str) -> bytes:
        """The whole file."""


class LocalFiles:
    """The files of this machine."""

    def exists(self, path: str) -> bool:
        """Whether there is a file or folder."""
        return Path(path).exists()

    def is_file(self, path: str) -> bool:
        """Whether there is a file."""
        return Path(path).is_file()

    def read_bytes(self, path: str) -> bytes:
        """The whole file."""
        try:
            return Path(path).read_bytes()
        except FileNotFoundError:
            raise DataError(f"{path}: no such file") from None
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def content_of(files: Files, path: str) -> Content:
    """Read a file, or the Arrow files of a folder that `Dataset.save_to_disk` wrote.

    Raises:
        DataError: the path does not exist, or is another folder.
    """
    if not files.exists(path) or files.is_file(path):
        return files.read_bytes(path)
    if splits := splits_of(files, path):
        raise DataError(
            f"{path}: holds the splits {', '.join(splits)}; name one of them, for example {path}/{splits[0]}"
        )
    if not files.exists(f"{path}/state.json"):
        raise DataError(f"{path}: is a folder; a file is required, or a folder that `Dataset.save_to_disk` wrote")
    names = [part["filename"] for part in _listed(files, f"{path}/state.json", "_data_files")]
    return [files.read_bytes(f"{path}/{name}") for name in names]


def splits_of(files: Files, path: str) -> list[str]:
    """Names of the splits of a folder that `DatasetDict.save_to_disk` wrote; none of any other path."""
    description = f"{path}/dataset_dict.json"
    return _listed(files, description, "splits") if files.exists(description) else []


def _listed(files: Files, path: str, key: str) -> list[Any]:
    """Return the list under a key of a JSON file of `datasets`."""
    try:
        values = json.loads(files.read_bytes(path))[key]
    except (ValueError, KeyError, TypeError):
        values = None
    if not isinstance(values, list) or not values:
        raise DataError(f"{path}: damaged: a JSON object with a list '{key}' is required; save the dataset again")
    return values
