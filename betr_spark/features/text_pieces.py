"""Pieces of a long text that have together exactly the tokens of the whole, for tokenizers where this is certain.

A text is cut before a single space between two letters. The tokens of the pieces are those of the text if

- the normalizer looks at single characters, or composes characters, which it never does across a space;
- the pre-tokenizer begins a new word at this space, whatever is left of it, and adds nothing before a space;
- no added token contains a space, or takes in the space beside it.

Only tokenizers of known parts pass. The expressions are those of GPT-2, GPT-4 (also Llama 3), Qwen 2 and GPT-4o: none of their
alternatives matches a space after a letter, and none looks back.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

_LETTERS = "A-Za-zÀ-ÖØ-öø-ɏΑ-ΡΣ-ωА-яא-תا-ي가-힣"  # in every normal form letters, perhaps with marks
_CUT = re.compile(f"(?<=[{_LETTERS}]) (?=[{_LETTERS}])")
_NORMALIZERS = frozenset({"BertNormalizer", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "StripAccents"})
_AT_SPACES = frozenset({"BertPreTokenizer", "Whitespace", "WhitespaceSplit"})
_WITHIN_WORDS = frozenset({"ByteLevel", "Digits", "Punctuation"})
_ENDINGS = "'s|'t|'re|'ve|'m|'ll|'d"
_BEFORE, _AFTER = r"[^\r\n\p{L}\p{N}]?", f"(?i:{_ENDINGS})?"
_DIGITS, _OTHERS = r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+"
_SPACES, _LINES = r"\s+(?!\S)|\s+", r"\s*[\r\n]+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_EXPRESSIONS = frozenset("|".join(alternatives) for alternatives in (
    (_ENDINGS, r" ?\p{L}+", r" ?\p{N}+", _OTHERS, _SPACES),
    (f"(?i:{_ENDINGS})", rf"{_BEFORE}\p{{L}}+", _DIGITS, rf"{_OTHERS}[\r\n]*", _LINES, _SPACES),
    (f"(?i:{_ENDINGS})", rf"{_BEFORE}\p{{L}}+", r"\p{N}", rf"{_OTHERS}[\r\n]*", _LINES, _SPACES),
    (
        f"{_BEFORE}{_UPPER}*{_LOWER}+{_AFTER}", f"{_BEFORE}{_UPPER}+{_LOWER}*{_AFTER}", _DIGITS,
        rf"{_OTHERS}[\r\n/]*", _LINES, _SPACES,
    ),
))  # fmt: skip


def pieces_of(text: str, n_characters: int) -> Iterator[str]:
    """Cut a text into pieces of about so many characters; a piece is longer where there is no place to cut."""
    start = 0
    while len(text) - start > n_characters and (cut := _CUT.search(text, start + n_characters)):
        yield text[start : cut.start()]
        start = cut.start()
    yield text[start:]


def pieces_are_exact(content: bytes) -> bool:
    """Whether the pieces of any text have the tokens of the whole.

    Args:
        content: of a tokenizer's file.
    """
    file = json.loads(content)
    normalizers, pre_tokenizers = _parts(file.get("normalizer")), _parts(file.get("pre_tokenizer"))
    return (
        all(part.get("type") in _NORMALIZERS for part in normalizers)
        and all(_cuts_at_spaces(part) or part.get("type") in _WITHIN_WORDS for part in pre_tokenizers)
        and any(_cuts_at_spaces(part) for part in pre_tokenizers)
        and not any(_reaches_over_spaces(token) for token in file.get("added_tokens") or ())
    )


def _parts(part: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """A normalizer or a pre-tokenizer as a list, with the parts of sequences in their order."""
    if part is None or part.get("type") != "Sequence":
        return [] if part is None else [part]
    return [each for inner in part.get("normalizers") or part.get("pretokenizers") or [] for each in _parts(inner)]


def _cuts_at_spaces(part: Mapping[str, Any]) -> bool:
    kind = part.get("type")
    if kind == "Split":
        finds_words = (part.get("behavior"), part.get("invert")) in (("Isolated", False), ("Removed", True))
        return finds_words and (part.get("pattern") or {}).get("Regex") in _EXPRESSIONS
    if kind == "ByteLevel":
        return part.get("use_regex", True) is True
    return kind in _AT_SPACES or (kind == "Metaspace" and part.get("split", True) is True)


def _reaches_over_spaces(token: Mapping[str, Any]) -> bool:
    text = str(token.get("content", ""))
    strips = (token.get("lstrip") and text[:1].isalpha()) or (token.get("rstrip") and text[-1:].isalpha())
    return bool(strips) or any(character.isspace() for character in text)
