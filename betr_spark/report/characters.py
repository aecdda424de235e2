"""Texts of a crawl for a page: characters that a browser hides or acts on are shown, and what was searched is marked."""

import re
from collections.abc import Iterator
from typing import NamedTuple

# Not line breaks and tabs, and not what scripts need: joiners, no-break spaces, soft hyphens, marks of the writing direction.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
    "|\r(?!\n)"
)
PLAIN, HIDDEN, MATCH = "plain", "hidden", "match"


class Piece(NamedTuple):
    """A part of a text; that of a hidden character is its code point, such as `[U+001B]`."""

    kind: str
    text: str


def pieces(text: str, search: str = "") -> Iterator[Piece]:
    r"""Split a text into plain parts, hidden characters in a form that can be seen, and matches of a search (any case).

    >>> [tuple(piece) for piece in pieces("a\x1b[2J B", "b")]
    [('plain', 'a'), ('hidden', '[U+001B]'), ('plain', '[2J '), ('match', 'B')]
    """
    end = 0
    for match in re.finditer(re.escape(search), text, re.IGNORECASE) if search else ():
        yield from _shown(text[end : match.start()], PLAIN)
        yield from _shown(match[0], MATCH)
        end = match.end()
    yield from _shown(text[end:], PLAIN)


def visible(text: str) -> str:
    r"""Return a text with its hidden characters in a form that can be seen; `\r\n` is a line break.

    >>> visible("\x1b[31mred\x00\r\n")
    '[U+001B][31mred[U+0000]\n'
    """
    return "".join(piece.text for piece in pieces(text.replace("\r\n", "\n")))


def _shown(text: str, kind: str) -> Iterator[Piece]:
    end = 0
    for match in _HIDDEN.finditer(text):
        if match.start() > end:
            yield Piece(kind, text[end : match.start()])
        yield Piece(HIDDEN, f"[U+{ord(match[0]):04X}]")
        end = match.end()
    if end < len(text):
        yield Piece(kind, text[end:])
