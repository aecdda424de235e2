"""A plain detector: compare lists of words, every word of a document with every word of an item."""

from typing import NamedTuple

from planted import shingle_tokens


class Run(NamedTuple):
    document: int
    word: int
    item: int
    item_word: int
    n_words: int


def folded(character: str) -> str:
    folding = character.casefold()
    return folding if len(folding) == 1 and len(folding.encode()) == len(character.encode()) else character


def words_of(text: str) -> list[str]:
    return ["".join(map(folded, word)) for word in shingle_tokens(text)]


def runs_of(documents: list[str], items: list[str], *, n_min: int, n_max: int) -> set[Run]:
    """Maximal runs of equal words that hold an n-gram, of items of at least `n_min` words."""
    runs = set()
    for i, item in enumerate(map(words_of, items)):
        n = min(len(item), n_max)
        for d, document in enumerate(map(words_of, documents)):
            for diagonal in range(-len(item) + 1, len(document) if len(item) >= n_min else -len(item) + 1):
                length = 0
                for item_word in range(len(item) + 1):
                    word = item_word + diagonal
                    if item_word < len(item) and 0 <= word < len(document) and item[item_word] == document[word]:
                        length += 1
                        continue
                    if length >= n:
                        runs.add(Run(d, word - length, i, item_word - length, length))
                    length = 0
    return runs
