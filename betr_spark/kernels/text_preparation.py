"""The ONE text preparation, for training and for scoring. `corpus.kernel` applies the same rules to raw bytes."""

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
    """Make a text one line that fastText reads as words only.

    Every Unicode white-space character and NUL becomes one space. A token that begins with `__label__`, or is `</s>`,
    loses its first two characters, since fastText would take it for a label or for the end of the line.
    """
    return _MARKUP.sub("", text.translate(_TO_SPACE))


def as_buffers(texts: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Give the bytes of texts, one after the other, and their offsets, int64 [n + 1]."""
    encoded = [text.encode("utf-8", "replace") for text in texts]
    offsets = np.concatenate([[0], np.cumsum([len(text) for text in encoded], dtype=np.int64)]).astype(np.int64)
    return np.frombuffer(b"".join(encoded), np.uint8), offsets
