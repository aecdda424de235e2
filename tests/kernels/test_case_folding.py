"""Case folding against `str.casefold`: the same tokens at the same bytes, and what is left as it is."""

import unicodedata

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from betr_spark.kernels.case_folding import fold_case, foldings
from betr_spark.kernels.shingle_tokens import token_kind, token_marks
from betr_spark.kernels.token_runs import token_runs

# Code points whose folding has another number of bytes or characters, without the Greek ones with an iota: equal to themselves
# only. These are sharp s, dotted I, long s, Kelvin, Angstrom and Ohm signs, ligatures, and letters whose cases are far apart.
LEFT = """
    DF 130 149 17F 1F0 23A 23E 587 1C80-1C87 1E96-1E9A 1E9E 1FBE 2126 212A 212B 2C62 2C64 2C6D-2C70 2C7E 2C7F A78D
    A7AA-A7AE A7B0-A7B2 A7C5 FB00-FB06 FB13-FB17
"""


def folded(text: bytes) -> bytes:
    result, changed = fold_case(np.frombuffer(text, np.uint8))
    assert changed == (result.tobytes() != text.lower())  # of bytes only ASCII has cases
    return result.tobytes()


def reference(text: str) -> str:
    """The folding of each character, if it is a single one of as many bytes."""
    characters = [(character, character.casefold()) for character in text]
    return "".join(f if len(f) == 1 and len(f.encode()) == len(c.encode()) else c for c, f in characters)


def tokens(raw: bytes) -> list[list[int]]:
    data, offsets = np.frombuffer(raw, np.uint8), np.array([0, len(raw)], np.int64)
    _, starts, lengths = token_runs(*token_marks(data, offsets), offsets, 0)
    return [starts.tolist(), lengths.tolist()]


def test_every_code_point_folds_or_is_known_to_be_left() -> None:
    left = []
    for code_point in (*range(0xD800), *range(0xE000, 0x110000)):
        character = chr(code_point)
        if character.casefold() == character or token_kind(code_point) == 0:
            continue
        raw = folded(character.encode()).decode()
        assert raw == reference(character)
        if raw == character:
            left.append(code_point)
    ranges = [[int(number, 16) for number in text.split("-")] for text in LEFT.split()]
    listed = {code_point for each in ranges for code_point in range(each[0], each[-1] + 1)}
    with_iota = {c for c in left if unicodedata.name(chr(c)).startswith("GREEK") and len(chr(c).casefold()) > 1}
    assert set(left) - with_iota == listed


def test_a_folding_is_the_same_kind_of_token_and_does_not_fold_again() -> None:
    for code_point, folding in foldings().items():
        assert token_kind(code_point) == token_kind(folding) > 0
        assert folding not in foldings()


@pytest.mark.parametrize(
    "text", ["ΟΔΟΣ Οδος οδός", "МОСКВА Москва", "ÀÉÎÕÜ Šž Łódź", "ԵՐԵՎԱՆ", "ＡＢＣ１", "𐐀𐐨", "漢字Ａx", "“É”"]
)
def test_words_of_any_case_are_equal(text: str) -> None:
    variants = {folded(each.encode()) for each in (text, text.upper(), text.lower())}
    assert variants == {reference(text).encode()}


@given(st.lists(st.text(max_size=50), max_size=5), st.integers(0, 70))
@example(["É"], 63)  # across a border of 64 bytes
def test_tokens_stay_at_their_bytes(drawn: list[str], shift: int) -> None:
    text = "x" * shift + " ".join(drawn)
    raw = text.encode("utf-8", "replace")
    assert folded(raw) == reference(raw.decode()).encode()
    assert tokens(folded(raw)) == tokens(raw)


@given(st.binary(max_size=200))
def test_bytes_that_are_not_utf8_do_no_harm(raw: bytes) -> None:
    assert len(folded(raw)) == len(raw)
    assert tokens(folded(raw)) == tokens(raw)
