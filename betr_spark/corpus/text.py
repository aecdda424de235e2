"""The ONE text preparation, for training and for scoring. `corpus.kernel` applies the same rules to raw bytes."""

import re
import sys

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
