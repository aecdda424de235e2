"""Texts of documents for people: control characters become visible."""

import re

# C0 without tab and newline, DEL, C1, and the marks that change the direction of the text around them.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
_PICTURES, _DELETE = 0x2400, 0x7F


def visible(text: str) -> str:
    r"""Replace control characters by symbols of theirs: those of C0 by their pictures, others by their number.

    A carriage return before a newline is left out. Marks of direction would reorder what is beside the text.

    >>> visible("\x1b[31mred\x00\r\n\u202eabc")
    '␛[31mred␀\n⟨U+202E⟩abc'
    """
    return _CONTROL.sub(_symbol, text.replace("\r\n", "\n"))


def _symbol(match: re.Match[str]) -> str:
    code = ord(match[0])
    return chr(_PICTURES + code) if code < 0x20 else "␡" if code == _DELETE else f"⟨U+{code:04X}⟩"
