"""Token ids in Megatron's indexed format, by the builder of megatron-core: a file of ids (`.bin`) and its index (`.idx`)."""

import hashlib
import os
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from betr_spark.errors import DataError
from betr_spark.export.formats.base import Format, Payload, Piece, ShardWriter
from betr_spark.export.formats.row_groups import RowGroups

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_GROUP_ROWS, _GROUP_BYTES = 256, 2**20
_READ_BYTES = 4 * 2**20
_UINT16_IDS = 65_500  # Megatron stores ids of smaller vocabularies in 16 bits


@dataclass(frozen=True)
class Megatron(Format):
    """Tokenized documents.

    Attributes:
        tokenizer: content of a file of Hugging Face's tokenizers.
        file: its path, for messages.
        end_token: put after each document; None for no token.
    """

    tokenizer: str = ""
    file: str = ""
    end_token: str | None = None

    name = "megatron"
    suffixes = (".bin", ".idx")
    payload = Payload.TEXT
    modules = ("tokenizers", "megatron")

    def writer(self) -> ShardWriter:
        """Start a pair of files."""
        return _IndexedWriter(self)

    def check(self) -> None:
        """Check the tokenizer.

        Raises:
            DataError: there is none, it cannot be read, or it has no such token.
        """
        if not self.file:
            raise DataError(
                "--format megatron: requires --tokenizer FILE, a tokenizer.json of Hugging Face's tokenizers"
            )
        self.end_id()

    def end_id(self) -> int | None:
        """The id of `end_token`."""
        tokenizer = _load(self.tokenizer, self.file)
        if self.end_token is None:
            return None
        token_id = tokenizer.token_to_id(self.end_token)
        if token_id is None:
            raise DataError(f"--end-token: {self.end_token}: the vocabulary of {self.file} has no such token")
        return int(token_id)

    def settings(self) -> dict[str, Any]:
        """The tokenizer by its hash, and the token at the end of each document."""
        return {
            "tokenizer": {"file": self.file, "sha256": hashlib.sha256(self.tokenizer.encode()).hexdigest()},
            "end_token": self.end_token,
            "dtype": np.dtype(self.dtype()).name,
        }

    def dtype(self) -> type[np.uint16] | type[np.int32]:
        """Type of the stored ids, as Megatron chooses it for the vocabulary."""
        return (
            np.uint16
            if max(_load(self.tokenizer, self.file).get_vocab().values(), default=0) < _UINT16_IDS - 1
            else np.int32
        )


class _IndexedWriter(ShardWriter):
    """Lets the builder write to local files without a name that outlives the worker, and reads the bytes back."""

    def __init__(self, settings: Megatron) -> None:
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # there is a worker for each core
        with warnings.catch_warnings():  # of packages for GPUs that are not there
            warnings.simplefilter("ignore")
            from megatron.core.datasets.indexed_dataset import IndexedDatasetBuilder  # noqa: PLC0415 - optional
        folders = [name for name in os.environ.get("SPARK_LOCAL_DIRS", "").split(",") if name]
        self._folder = tempfile.TemporaryDirectory(dir=folders[os.getpid() % len(folders)] if folders else None)
        self._bin, self._idx = (Path(self._folder.name, f"shard.{kind}") for kind in ("bin", "idx"))
        self._dtype, self._end = settings.dtype(), settings.end_id()
        self._tokenizer = _load(settings.tokenizer, settings.file)
        self._builder = IndexedDatasetBuilder(str(self._bin), dtype=self._dtype)
        self._groups = RowGroups(
            rows=_GROUP_ROWS, n_bytes=_GROUP_BYTES
        )  # an encoding takes far more memory than its text
        self._n_ids = 0

    def add(self, batch: pa.RecordBatch) -> Iterator[Piece]:
        for group in self._groups.add(batch):
            self._encode(group)
        return iter(())

    def finish(self) -> Iterator[Piece]:
        for group in self._groups.rest():
            self._encode(group)
        self._builder.finalize(str(self._idx))
        for suffix, file in ((".bin", self._bin), (".idx", self._idx)):
            with file.open("rb") as stream:
                while content := stream.read(_READ_BYTES):
                    yield Piece(suffix, content)
        yield Piece(
            ".bin", bytes(np.dtype(self._dtype).itemsize)
        )  # an id that the index does not name: a file ends with zero
        self._folder.cleanup()

    def _encode(self, group: pa.Table) -> None:
        texts = [text or "" for text in group.column(0).to_pylist()]
        try:
            encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        except Exception as error:  # the library raises this class
            reason = str(error).partition("\n")[0][:200]
            raise DataError(f"--tokenizer: cannot encode a text: {reason}") from error
        for encoding in encodings:
            ids = encoding.ids if self._end is None else [*encoding.ids, self._end]
            self._builder.add_document(np.array(ids, self._dtype), [len(ids)])
            self._n_ids += len(ids)

    def figures(self) -> dict[str, int]:
        return {"token_ids": self._n_ids}


@lru_cache(maxsize=1)
def _load(content: str, file: str) -> "Tokenizer":
    from tokenizers import Tokenizer  # noqa: PLC0415 - optional

    try:
        tokenizer = Tokenizer.from_str(content)
    except Exception as error:  # noqa: BLE001 - tokenizers raises no narrower class
        raise DataError(f"--tokenizer: {file}: is not a tokenizer of Hugging Face's tokenizers ({error})") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
