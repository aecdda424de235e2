"""Generate corpora with near-duplicates of every kind; find all similar pairs by brute force in plain Python.

    python benchmarks/planted.py OUT.parquet [--groups 200] [--identical 20000] [--with DOCUMENTS.parquet]

writes id, source, text; `source` names the kind. The seed determines the result.
"""

import argparse
import math
import random
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Row = dict[str, Any]
EDITS = (0.01, 0.02, 0.05, 0.10, 0.20, 0.40)
TRUNCATIONS = (0.95, 0.85, 0.7)
# Prefixes of the Unicode names of characters in scripts that are written without spaces.
UNSPACED = (
    "CJK COMPATIBILITY IDEOGRAPH",
    "CJK UNIFIED IDEOGRAPH",
    "COMBINING KATAKANA-HIRAGANA",
    "HALFWIDTH KATAKANA",
    "HANGZHOU",
    "HENTAIGANA",
    "HIRAGANA",
    "IDEOGRAPHIC CLOSING",
    "IDEOGRAPHIC ITERATION",
    "IDEOGRAPHIC NUMBER ZERO",
    "KATAKANA",
    "KHMER",
    "LAO ",
    "MYANMAR",
    "THAI ",
    "VERTICAL IDEOGRAPHIC ITERATION",
)
SEPARATORS = (
    ", ",
    "\u00a0",
    " \u201c",
    "\u201d ",
    "\u2013",
    "\u060c ",
    "\uff0c",
    "\u3000",
    "\u2026 ",
    "\u00ab",
    "\u2028",
)


class Words:
    """Generated words, drawn with Zipf's frequencies."""

    def __init__(self, pick: random.Random, n: int = 8000, syllables: Sequence[str] = ()) -> None:
        """Generate the vocabulary."""
        parts = syllables or [a + b for a in "bdfgklmnprstvz" for b in ("a", "e", "i", "o", "u", "ar", "en", "is")]
        self._pick = pick
        self._words = list(dict.fromkeys("".join(pick.choices(parts, k=pick.randint(1, 4))) for _ in range(n)))
        self._weights = list(_running(1 / (10 + i) for i in range(len(self._words))))

    def text(self, n: int) -> list[str]:
        """Draw n words."""
        return self._pick.choices(self._words, cum_weights=self._weights, k=n)

    def edited(self, words: Sequence[str], share: float) -> list[str]:
        """Replace a fraction of the words at random positions."""
        words_after = list(words)
        for position in self._pick.sample(range(len(words)), max(1, round(share * len(words)))):
            words_after[position] = self.text(1)[0]
        return words_after


def _running(values: Iterator[float]) -> Iterator[float]:
    total = 0.0
    for value in values:
        total += value
        yield total


def planted(*, groups: int = 200, identical: int = 20_000, seed: int = 0) -> list[Row]:
    """Generate a corpus: `groups` originals of each kind with their variants, in random order.

    Kinds: exact, edit-SHARE, truncated, boilerplate, template (50 to 65 % of the shingles shared), identical, short (1 to 6
    words), chain, copies (one source, 95 % copies), cyrillic, cjk (no spaces), separators (equal tokens, different characters
    between them).
    """
    pick = random.Random(seed)  # noqa: S311 - repeatable
    words = Words(pick)
    cyrillic = Words(pick, 3000, [a + b for a in "бвгдклмнпрст" for b in "аеиоуя"])
    rows: list[Row] = []

    def add(kind: str, group: int, text: str) -> None:
        rows.append({"id": f"{kind}-{group}-{len(rows)}", "source": kind, "text": text})

    notice = " ".join(words.text(60))
    for group in range(groups):
        base = words.text(pick.choice((60, 150, 400, 1000)))
        add("exact", group, " ".join(base))
        for _ in range(pick.randint(1, 3)):
            add("exact", group, " ".join(base))
        for share in EDITS:
            base = words.text(pick.choice((80, 200, 500)))
            for line in (base, words.edited(base, share), words.edited(base, share)):
                add(f"edit-{share:g}", group, " ".join(line))
        base = words.text(pick.choice((100, 300, 900)))
        for share in (1.0, *TRUNCATIONS):
            add("truncated", group, " ".join(base[: int(share * len(base))]))
        base = words.text(pick.choice((150, 400, 900)))
        add("boilerplate", group, " ".join(base))
        add("boilerplate", group, " ".join(base) + " " + notice)
        base = cyrillic.text(200)
        for line in (base, cyrillic.edited(base, 0.02), cyrillic.text(200)):
            add("cyrillic", group, " ".join(line))
        signs = [chr(pick.randint(0x4E00, 0x5E00)) for _ in range(300)]
        changed_signs = list(signs)
        changed_signs[pick.randrange(300)] = "\u9f8d"
        for line in (signs, changed_signs, [chr(pick.randint(0x4E00, 0x5E00)) for _ in range(300)]):
            add("cjk", group, "".join(line))
    for family in range(max(1, groups // 20)):
        frame = words.text(200)
        for _ in range(40):  # 55 to 95 different words in a common frame of 200 words
            filling = words.text(pick.randint(55, 95))
            add("template", family, " ".join([*frame[:100], *filling, *frame[100:]]))
    for group in range(max(1, groups // 20)):
        link = words.text(300)
        for _ in range(12):  # each step replaces the next 20 words: neighbours are similar, the ends are not
            add("chain", group, " ".join(link))
            start = 20 * len(rows) % 280
            link = [*link[:start], *words.text(20), *link[start + 20 :]]
    page = " ".join(words.text(120))
    for _ in range(identical):
        add("identical", 0, page)
    for n_words in range(1, 7):
        for group in range(groups):
            add("short", group, " ".join([f"{words.text(1)[0]}{group}", *words.text(n_words - 1)]))
    originals = [" ".join(words.text(150)) for _ in range(max(1, groups // 4))]
    for group, original in enumerate(originals):
        for _ in range(20):
            add("copies", group, original)
    for group in range(groups):
        base = words.text(80)
        add("separators", group, " ".join(base))
        for separator in pick.sample(SEPARATORS, 3):
            add("separators", group, separator.join(base))
    pick.shuffle(rows)
    return rows


class _SpacedTokens(dict[int, str]):
    """For `str.translate`: a token character in lower case, with spaces around it if it is a token; a space for all others."""

    def __missing__(self, code_point: int) -> str:
        character = chr(code_point)
        if unicodedata.category(character)[0] not in "LMN":
            spaced = " "
        elif unicodedata.name(character, "").startswith(UNSPACED):
            spaced = f" {character} "
        else:
            spaced = character.lower() if character.isascii() else character
        self[code_point] = spaced
        return spaced


_SPACED_TOKENS = _SpacedTokens()


def shingle_tokens(text: str) -> list[str]:
    """Split a text into tokens, ASCII letters in lower case.

    A token is a run of letters, marks and digits by Unicode category, or one such character of a script written without spaces.
    """
    return text.translate(_SPACED_TOKENS).split()


def shingle_set(text: str, ngram: int = 5) -> frozenset[tuple[str, ...]]:
    """The distinct shingles of a text: `ngram` consecutive tokens."""
    tokens = shingle_tokens(text)
    return frozenset(zip(*(tokens[i:] for i in range(ngram)), strict=False))


def similar_pairs(texts: Sequence[str], least: float, *, ngram: int = 5) -> dict[tuple[int, int], float]:
    """All pairs of texts whose Jaccard similarity is at least `least`, by an exact prefix filter.

    Two sets with that similarity share at least one of the rarest |s| - ceil(least |s|) + 1 elements of each.

    Returns:
        (i, j) with i < j, and the similarity.
    """
    ids: dict[tuple[str, ...], int] = {}
    sets = [{ids.setdefault(s, len(ids)) for s in shingle_set(text, ngram)} for text in texts]
    del ids
    counts = Counter(shingle for shingles in sets for shingle in shingles)
    index: defaultdict[int, list[int]] = defaultdict(list)
    pairs: dict[tuple[int, int], float] = {}
    for number, shingles in enumerate(sets):
        prefix = sorted(shingles, key=lambda s: (counts[s], s))[: len(shingles) - math.ceil(least * len(shingles)) + 1]
        for earlier in {text_number for shingle in prefix for text_number in index[shingle]}:
            small, large = sorted((len(shingles), len(sets[earlier])))
            if small < least * large:
                continue
            n_common = len(shingles & sets[earlier])
            similarity = n_common / (len(shingles) + len(sets[earlier]) - n_common)
            if similarity >= least:
                pairs[earlier, number] = similarity
        for shingle in prefix:
            if counts[shingle] > 1:
                index[shingle].append(number)
    return pairs


def main() -> None:
    """Write a corpus."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output")
    parser.add_argument("--groups", type=int, default=200)
    parser.add_argument("--identical", type=int, default=20_000)
    parser.add_argument("--with", dest="documents", help="Parquet file with id, domain and text; its rows are added")
    arguments = parser.parse_args()
    rows = planted(groups=arguments.groups, identical=arguments.identical)
    if arguments.documents:
        table = pq.read_table(arguments.documents, columns=["id", "domain", "text"]).rename_columns(
            ["id", "source", "text"]
        )
        rows += table.to_pylist()
    random.Random(1).shuffle(rows)  # noqa: S311
    pq.write_table(pa.Table.from_pylist(rows), arguments.output, row_group_size=5000)
    print(f"{len(rows)} documents: {dict(Counter(row['source'] for row in rows))}")


if __name__ == "__main__":
    main()
