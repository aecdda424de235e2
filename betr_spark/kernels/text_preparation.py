"""The text preparation for training and scoring. `scoring.fasttext_tokens` applies the same rules to raw bytes."""

import re
import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

PREPARATION = "1"
_SEPARATORS = [chr(c) for c in range(sys.maxunicode + 1) if chr(c).isspace()] + ["\0"]
_TO_SPACE = str.maketrans(dict.fromkeys(_SEPARATORS, " "))
_MARKUP = re.compile(r"(?:(?<=^)|(?<= ))(?:__(?=label__)|</(?=s>(?: |$)))")


def prepare(text: str) -> str:
    """Convert a text to one line in which fastText finds only words.

    Every Unicode white-space character and NUL becomes a space. A token that begins with `__label__` or equals `</s>` loses its
    first two characters, because fastText would read it as a label or as the end of the line.
    """
    return _MARKUP.sub("", text.translate(_TO_SPACE))


def as_buffers(texts: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the concatenated UTF-8 bytes of texts, and their offsets, int64 [n + 1]."""
    encoded = [text.encode("utf-8", "replace") for text in texts]
    offsets = np.concatenate([[0], np.cumsum([len(text) for text in encoded], dtype=np.int64)]).astype(np.int64)
    return np.frombuffer(b"".join(encoded), np.uint8), offsets
