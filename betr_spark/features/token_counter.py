"""The number of tokens of each text by a tokenizer of Hugging Face's `tokenizers`, as a part of the one pass over the text."""

import os
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from betr_spark.errors import DataError
from betr_spark.extras import require
from betr_spark.features.text_pieces import pieces_are_exact, pieces_of
from betr_spark.kernels.arrow_buffers import string_buffers
from betr_spark.kernels.murmur3 import content_hashes

if TYPE_CHECKING:
    from tokenizers import Tokenizer

KEY = "input.tokens.tokenizer"
# Of texts that are encoded at once: an encoding takes about two hundred times the memory of its text.
_BYTES_AT_ONCE, _CHARACTERS_AT_ONCE = 1 << 18, 1 << 18
_REASON_LENGTH = 200


def require_tokenizers(subject: str) -> None:
    """Check that `tokenizers` is installed.

    Args:
        subject: what needs it, for the message.

    Raises:
        SetupError: it is not.
    """
    require("tokenizers", extra="tokens", subject=subject)


def tokenizer_of(content: bytes, name: str) -> "Tokenizer":
    """Load a tokenizer. It neither cuts nor pads texts, whatever the file says.

    Args:
        content: of a JSON file of `tokenizers`.
        name: of the file, for the message.

    Raises:
        DataError: the file is not a tokenizer, or the installed `tokenizers` cannot read it.
    """
    from tokenizers import Tokenizer, __version__  # noqa: PLC0415 - of an extra

    try:
        tokenizer = Tokenizer.from_buffer(content)
    except Exception as error:  # noqa: BLE001 - the package has no class of its own
        raise DataError(f"{KEY}: {name}: no tokenizer that tokenizers {__version__} reads ({_reason(error)})") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def in_sample(doc_id: pa.Array, one_in: int) -> NDArray[np.bool_]:
    """Whether each document is in a sample of one in so many, by a hash of its id, bool [n]."""
    data, offsets = string_buffers(pc.fill_null(doc_id, "") if doc_id.null_count else doc_id)
    first_half = np.ascontiguousarray(content_hashes(data, offsets)[:, :8]).view(np.uint64)[:, 0]
    return np.asarray(first_half % np.uint64(one_in) == 0)


class TokenCounter:
    """Counts the tokens of texts, without special tokens of the tokenizer's template.

    A long text is encoded in pieces if these have exactly its tokens (`text_pieces`), else as a whole.
    """

    def __init__(self, content: bytes, *, name: str, one_in: int = 1) -> None:
        """Load the tokenizer.

        Args:
            content: of its file.
            name: of the file, for messages.
            one_in: count the tokens of one document in so many.

        Raises:
            DataError: it is not a tokenizer.
        """
        self._tokenizer, self._name, self._one_in = tokenizer_of(content, name), name, one_in
        self._in_pieces = pieces_are_exact(content)

    def __call__(self, text: pa.Array, doc_id: pa.Array, valid: NDArray[np.bool_]) -> pa.Array:
        """Count.

        Args:
            text: string or large_string [n], without nulls.
            doc_id: string [n].
            valid: whether the text is UTF-8, bool [n].

        Returns:
            int32 [n], null where the text is not UTF-8 or the document is not in the sample.

        Raises:
            DataError: the tokenizer cannot encode a text, for example an unknown word without a token for it.
        """
        chosen = valid & in_sample(doc_id, self._one_in) if self._one_in > 1 else valid
        rows = np.flatnonzero(chosen)
        counts = np.zeros(len(text), np.int32)
        ends = np.cumsum(np.asarray(pc.binary_length(text), np.int64)[rows])
        for part in np.split(rows, np.flatnonzero(np.diff(ends // _BYTES_AT_ONCE)) + 1):
            counts[part] = self._counts(text.take(pa.array(part)).to_pylist())
        return pa.array(counts, mask=~chosen)

    def _counts(self, texts: Sequence[str]) -> list[int]:
        if not (self._in_pieces and any(len(text) > _CHARACTERS_AT_ONCE for text in texts)):
            return self._encoded(texts)
        return [sum(self._encoded([piece])[0] for piece in pieces_of(text, _CHARACTERS_AT_ONCE)) for text in texts]

    def _encoded(self, texts: Sequence[str]) -> list[int]:
        try:
            return [len(each) for each in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
        except Exception as error:  # noqa: BLE001 - the package has no class of its own
            raise DataError(f"{KEY}: {self._name}: cannot encode a text ({_reason(error)})") from None


@lru_cache(maxsize=2)
def counter_of(file: Path, name: str, one_in: int) -> TokenCounter:
    """Load the counter of a Python worker once; the worker encodes on its one core."""
    require_tokenizers(f"input.tokens: {sys.executable}")  # executors may have another environment
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    return TokenCounter(file.read_bytes(), name=name, one_in=one_in)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:_REASON_LENGTH]
