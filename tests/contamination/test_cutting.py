"""Pieces of documents: no test item, words whole, and the bounds of the method."""

import random

import pyarrow as pa
import pytest

from betr_spark.contamination import cutting
from betr_spark.contamination.cutting import AROUND, MOST_CUTS, SHORTEST, cut_documents
from betr_spark.contamination.detection import contaminated_texts
from betr_spark.contamination.index import Index, build_index
from betr_spark.contamination.items import Item

ITEM = "When the quick brown fox jumps over the lazy dog, how many animals are awake?"
INDEX = build_index([Item("quiz", 0, ITEM)])


def filler(n_characters: int, seed: int = 0) -> str:
    pick, words = random.Random(seed), list[str]()
    while sum(map(len, words)) + len(words) <= n_characters:
        words.append("".join(pick.choice("abcdeéß漢") for _ in range(pick.randint(1, 9))))
    return " ".join(words)[:n_characters]


def cut(texts: list[str], index: Index = INDEX) -> list[dict[str, object]]:
    ids = pa.array([f"d{number}" for number in range(len(texts))], pa.string())
    rows: list[dict[str, object]] = cut_documents(
        ids, pa.array(texts, pa.string()), index, min_coverage=0.0
    ).to_pylist()
    return rows


def test_the_rest_of_a_document_are_pieces_without_the_words_around_the_item() -> None:
    before, after = filler(1_000, 1), filler(900, 2)
    row, clean, short = cut([f"{before} {ITEM.upper()} {after}", filler(500), f"{filler(250)} {ITEM} {filler(230)}"])
    first, second = row["pieces"]  # type: ignore[misc]
    assert (row["cuts"], row["short"], row["unclean"]) == (1, 0, 0)
    assert before.startswith(first)
    assert after.endswith(second)
    for whole, piece in ((before, first), (after, second)):
        assert AROUND - 1 <= len(whole) - len(piece) <= AROUND + 11  # a space, and the rest of a word
    assert set(first.split()) <= set(before.split())
    assert set(second.split()) <= set(after.split())
    assert (clean["cuts"], clean["pieces"]) == (0, [filler(500)])
    assert (short["cuts"], short["pieces"], short["short"]) == (1, [], 2)


def test_places_that_are_near_are_one_cut_and_more_than_ten_leave_nothing() -> None:
    gap = filler(2 * AROUND + SHORTEST + 60)
    near, ten, eleven = cut([
        f"{filler(500)} {ITEM} {filler(300)} {ITEM} {filler(500)}",
        f" {gap} ".join([ITEM] * MOST_CUTS),
        f" {gap} ".join([ITEM] * (MOST_CUTS + 1)),
    ])  # fmt: skip
    assert (near["cuts"], len(near["pieces"])) == (1, 2)  # type: ignore[arg-type]
    assert (ten["cuts"], len(ten["pieces"])) == (MOST_CUTS, MOST_CUTS - 1)  # type: ignore[arg-type]
    assert (eleven["cuts"], eleven["pieces"], eleven["short"]) == (MOST_CUTS + 1, [], 0)


def test_a_short_item_is_cut_out_with_its_question() -> None:
    index = build_index(
        [Item("trivia", 7, "Q: Who wrote Hamlet? A: Shakespeare", "Who wrote Hamlet?", "William Shakespeare")]
    )
    text = f"{filler(700)} Who wrote Hamlet? William Shakespeare. {filler(700, 3)}"
    (row,) = cut([text], index)
    assert row["cuts"] == 1
    assert "Hamlet" not in " ".join(row["pieces"])  # type: ignore[arg-type]


def test_a_piece_that_still_has_an_item_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    rest = cutting._Rest(1, [filler(300), f"{filler(300)} {ITEM}"], 0)
    monkeypatch.setattr(cutting, "_rest", lambda *_: rest)
    first, second = cut(["a", "b"])
    assert (first["pieces"], first["unclean"]) == ([filler(300)], 1)
    assert second["pieces"] == first["pieces"]


@pytest.mark.parametrize("seed", range(5))
def test_no_piece_has_an_item(seed: int) -> None:
    pick = random.Random(seed)
    words = ["a", "b", "c", "dé", "e,", "F"]
    items = [Item("quiz", row, " ".join(pick.choice(words) for _ in range(pick.randint(8, 20)))) for row in range(30)]
    index = build_index(items)
    texts = []
    for number in range(40):
        parts = [filler(pick.randint(0, 900), number), pick.choice(items).text]
        texts.append(" ".join(pick.choice(parts) for _ in range(pick.randint(1, 6))))
    pieces = [piece for row in cut(texts, index) for piece in row["pieces"]]  # type: ignore[attr-defined]
    assert len(pieces) > 10
    assert contaminated_texts(pieces, index, min_coverage=0.0) == []
    assert all(len(piece) >= SHORTEST for piece in pieces)


@pytest.mark.parametrize("character", ["\u0e17\u0e35\u0e48", "e\u0323\u0301", "👩‍👩‍👧", "👵🏽", "漢"])
@pytest.mark.parametrize("shift", range(1, 6))
def test_texts_without_spaces_are_cut_between_characters(character: str, shift: int) -> None:
    side = character * 400
    (row,) = cut([f"{side}{'.' * shift}{ITEM}{'.' * shift}{side}"])
    for piece in row["pieces"]:  # type: ignore[attr-defined]
        assert piece == character * (len(piece) // len(character))
        assert AROUND - 1 <= len(side) + shift - len(piece) < AROUND + len(character)
    assert len(row["pieces"]) == 2  # type: ignore[arg-type]
