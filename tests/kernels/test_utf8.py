"""UTF-8 validation against Python's decoder, across the borders of 64 bytes."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from betr_spark.kernels.utf8 import valid_utf8

mixed_texts = st.text(st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from("aé漢😀")), max_size=60)


def is_decodable(document: bytes) -> bool:
    try:
        document.decode()
    except UnicodeDecodeError:
        return False
    return True


def check(documents: list[bytes]) -> None:
    offsets = np.cumsum([0, *map(len, documents)], dtype=np.int64)
    valid = valid_utf8(np.frombuffer(b"".join(documents), np.uint8), offsets)
    assert valid.tolist() == [is_decodable(document) for document in documents]


@given(
    st.lists(st.one_of(st.binary(max_size=90), st.text(max_size=40).map(lambda t: t.encode("utf-8", "surrogatepass"))))
)
def test_valid_utf8_is_what_python_decodes(documents: list[bytes]) -> None:
    check(documents)


def test_every_lead_and_second_byte() -> None:
    for lead in range(0x80, 0x100):
        check([bytes([lead, second, *rest]) for second in range(256) for rest in ([], [0x80], [0x80, 0xBF], [0x7F])])


@given(mixed_texts, st.integers(0, 70), st.data())
def test_one_wrong_byte_is_detected_wherever_it_is(text: str, shift: int, data: st.DataObject) -> None:
    raw = b"x" * shift + text.encode() + b"y"
    position = data.draw(st.integers(0, len(raw) - 1))
    changed = raw[:position] + data.draw(st.binary(max_size=1)) + raw[position + 1 :]
    check([raw, changed, raw[:position], raw[position:], raw])


def test_a_wrong_sequence_is_detected_at_every_distance_from_the_border() -> None:
    sequences = [b"\xc3", b"\xe4\xb8", b"\xf0\x9f\x98", b"\xe0\x9f\xbf", b"\xed\xa0\x80", b"\xf0\x8f\xbf\xbf"]
    sequences += [b"\xf4\x90\x80\x80", b"\xc3\xa9\xa9", "é漢😀".encode(), b"\xc1\xbf", b"\xf5\x80\x80\x80"]
    check([b"x" * n + sequence + b"x" * rest for sequence in sequences for n in range(130) for rest in (0, 1, 70)])
