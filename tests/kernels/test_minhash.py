"""MinHash and bands against true Jaccard similarity, counted on shingles by a plain Python reference."""

import random

import numpy as np
import pytest
from datasketch import MinHash
from hypothesis import given
from hypothesis import strategies as st
from planted import shingle_set, shingle_tokens

from betr_spark.kernels.minhash import (
    MinHasher,
    MinHashes,
    band_keys,
    equal_probability,
    equal_values,
    low_bytes,
    similarity_at,
)

HASHER = MinHasher(ngram=5, bands=14, rows=8, seed=1)


def estimated_similarity(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return equal_values(left, right) / left.shape[1]


def jaccard(left: str, right: str, ngram: int = 5) -> float:
    a, b = shingle_set(left, ngram), shingle_set(right, ngram)
    return len(a & b) / len(a | b)


def sketch(texts: list[str], hasher: MinHasher = HASHER) -> MinHashes:
    encoded = [text.encode() for text in texts]
    return hasher(np.frombuffer(b"".join(encoded), np.uint8), np.cumsum([0, *map(len, encoded)]).astype(np.int64))


def edited_pairs(count: int, words: int, seed: int) -> list[tuple[str, str]]:
    pick = random.Random(seed)
    pairs = []
    for _ in range(count):
        left = [f"w{pick.randrange(10_000)}" for _ in range(words)]
        right = list(left)
        for _ in range(pick.randint(0, max(1, words // 12))):
            right[pick.randrange(words)] = f"x{pick.randrange(10_000)}"
        pairs.append((" ".join(left), " ".join(right)))
    return pairs


def mix(x: int) -> int:
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        x = (x ^ (x >> 33)) * factor % 2**64
    return x ^ (x >> 33)


def plain_signature(text: str, hasher: MinHasher) -> list[int] | None:
    """Fast similarity sketching, value by value, in Python's unbounded integers."""
    step, hashes = 0x9E3779B97F4A7C15, []
    for token in shingle_tokens(text):
        eights = [int.from_bytes(token.encode()[i : i + 8], "little") for i in range(0, len(token.encode()), 8)]
        value = mix(eights[0])
        for eight in eights[1:]:
            value = mix((value + step) % 2**64 ^ eight)
        hashes.append(value)
    distinct = {
        mix(
            sum(h * step**k for k, h in enumerate(hashes[s : s + hasher.ngram])) % 2**64
            ^ mix(hasher.seed * step % 2**64 + 1)
        )
        for s in range(len(hashes) - hasher.ngram + 1)
    }
    n_positions = hasher.n_permutations
    signature: dict[int, int] = {}
    for r in range(2 * n_positions if distinct else 0):
        thrown: dict[int, int] = {}
        for shingle in distinct:
            value = (
                shingle
                if r == 0
                else (shingle << 32 | shingle >> 32) % 2**64
                if r == 1
                else mix(shingle ^ mix(step * r % 2**64))
            )
            position = ((value >> 32) * n_positions) >> 32 if r < n_positions else r - n_positions
            thrown[position] = min(thrown.get(position, 2**32), value % 2**32)
        signature = {**thrown, **signature}
    return [signature[position] for position in range(n_positions)] if distinct else None


@given(
    st.lists(st.text(alphabet=st.sampled_from("aB1 .-\né漢かไ\u200b\u00a0—"), max_size=70), max_size=4),
    st.integers(1, 5),
    st.integers(0, 3),
)
def test_signatures_are_those_of_a_plain_reference(texts: list[str], ngram: int, seed: int) -> None:
    hasher = MinHasher(ngram=ngram, bands=3, rows=2, seed=seed)
    sketches = sketch([*texts, "Some longwordsthataremorethansixteen " * 9], hasher)
    for index, text in enumerate([*texts, "some longwordsthataremorethansixteen " * 9]):
        expected = plain_signature(text, hasher)
        assert (sketches.n_shingles[index] == 0) == (expected is None)
        if expected is not None:
            assert sketches.signatures[index].tolist() == expected


@pytest.mark.parametrize("words", [30, 100, 400])
def test_estimates_lie_within_the_binomial_error(words: int) -> None:
    pairs = edited_pairs(400, words, words)
    true = np.array([jaccard(*pair) for pair in pairs])
    left, right = (sketch([pair[side] for pair in pairs]).signatures for side in (0, 1))
    error = estimated_similarity(left, right) - true
    expected = np.sqrt((true * (1 - true) / (14 * 8)).mean())
    assert abs(error.mean()) < 4 * expected / np.sqrt(len(pairs))
    assert np.sqrt((error**2).mean()) < 1.1 * expected  # on short texts the sketch does better than P permutations


def test_bands_collide_as_often_as_the_formula_says() -> None:
    pairs = edited_pairs(1500, 60, 5)
    true = np.array([jaccard(*pair) for pair in pairs])
    left, right = (band_keys(low_bytes(sketch([pair[side] for pair in pairs]).signatures), 14) for side in (0, 1))
    collides = (left == right).any(axis=1)
    expected = 1 - (1 - equal_probability(true) ** 8) ** 14
    spread = np.sqrt((expected * (1 - expected)).sum())
    assert abs(collides.sum() - expected.sum()) < 4 * spread
    assert 0.2 < collides.mean() < 0.98


def test_datasketch_estimates_the_same_pairs_alike() -> None:
    pairs = edited_pairs(100, 100, 9)
    left, right = (sketch([pair[side] for pair in pairs]).signatures for side in (0, 1))
    ours = estimated_similarity(left, right)

    def independent(text: str) -> MinHash:
        independent_hash = MinHash(num_perm=112)
        for shingle in shingle_set(text, 5):
            independent_hash.update("\x1f".join(shingle).encode())
        return independent_hash

    theirs = np.array([independent(left).jaccard(independent(right)) for left, right in pairs])
    assert np.abs(ours - theirs).max() < 0.25
    assert abs((ours - theirs).mean()) < 0.02


@given(
    st.text(alphabet=st.sampled_from("aB1 .,-\n_é漢字かなไทยລ\u1780\u1000\u200b×“"), max_size=60),
    st.integers(1, 4),
    st.integers(0, 70),
    st.integers(1, 4),
)
def test_the_number_of_shingles_is_that_of_the_reference(text: str, ngram: int, shift: int, times: int) -> None:
    n_shingles = sketch(["x" * shift, text * times], MinHasher(ngram=ngram, bands=2, rows=2, seed=1)).n_shingles[1]
    assert n_shingles == max(0, len(shingle_tokens(text * times)) - ngram + 1)


def test_the_bias_over_many_pairs_is_small() -> None:
    pairs = edited_pairs(1500, 60, 17)
    true = np.array([jaccard(*pair) for pair in pairs])
    left, right = (sketch([pair[side] for pair in pairs]).signatures for side in (0, 1))
    assert abs((estimated_similarity(left, right) - true).mean()) < 0.003


def test_repetition_changes_no_sketch() -> None:
    """Also if there are so many shingles that the kernel first computes the distinct ones."""
    text = "one two three four five six seven "
    sketches = sketch([text * 3, text * 400])
    assert sketches.n_shingles[1] > 8 * HASHER.n_permutations
    assert np.array_equal(sketches.signatures[0], sketches.signatures[1])


def test_documents_may_begin_inside_the_buffer() -> None:
    text = b"skip me one two three four five six and the rest"
    sketches = HASHER(np.frombuffer(text, np.uint8), np.array([8, 35], np.int64))
    alone = sketch([text[8:35].decode()])
    assert sketches.n_shingles.tolist() == alone.n_shingles.tolist() == [2]
    assert np.array_equal(sketches.signatures, alone.signatures)


def test_signatures_depend_on_the_seed_and_band_keys_on_the_band() -> None:
    text = "one two three four five"  # one shingle
    sketches = sketch([text], MinHasher(ngram=5, bands=3, rows=2, seed=1))
    assert not np.array_equal(
        sketches.signatures, sketch([text], MinHasher(ngram=5, bands=3, rows=2, seed=2)).signatures
    )
    same = band_keys(np.zeros((1, 6), np.uint8), 3)
    assert len(set(same[0].tolist())) == 3  # equal rows in different bands do not meet


@given(st.integers(1, 4), st.integers(1, 20), st.data())
def test_bands_have_equal_keys_where_all_their_bytes_are_equal(bands: int, rows: int, data: st.DataObject) -> None:
    size = bands * rows
    first = np.frombuffer(data.draw(st.binary(min_size=size, max_size=size)), np.uint8)
    second = first.copy()
    for position in data.draw(st.sets(st.integers(0, size - 1), max_size=3)):
        second[position] ^= data.draw(st.integers(1, 255))
    left, right = band_keys(np.stack([first, second]), bands)
    assert (left == right).tolist() == (first == second).reshape(bands, rows).all(axis=1).tolist()


def test_case_and_ascii_punctuation_do_not_matter_but_words_do() -> None:
    texts = ["one two three four five six", "One, TWO three-four.five  six!", "one two three four five seven"]
    signatures = sketch(texts).signatures
    assert np.array_equal(signatures[0], signatures[1])
    assert not np.array_equal(signatures[0], signatures[2])


def test_text_without_spaces_has_shingles_and_short_text_none() -> None:
    text = "今日は天気がとても良いので散歩に行きました"
    sketches = sketch([text, text[:-3] + "ません", "only four words here", ""])
    assert (sketches.n_shingles > 0).tolist() == [True, True, False, False]
    assert estimated_similarity(sketches.signatures[:1], sketches.signatures[1:2])[0] > 0.5


@given(st.lists(st.text(max_size=50), min_size=1, max_size=5), st.data())
def test_a_sketch_does_not_depend_on_the_documents_around_it(texts: list[str], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(texts) - 1))
    together, alone = sketch(texts), sketch([texts[index]])
    assert np.array_equal(together.signatures[index], alone.signatures[0])


def test_many_documents_and_long_ones_are_sketched_as_each_alone() -> None:
    """The kernel processes slices of the batch; their borders must not change the result."""
    texts = ["one TWO 漢字 four, five " * n for n in (0, 9_000, 1, *(k % 40 for k in range(600)), 9_000)]
    together = sketch(texts)
    for index in [*range(0, len(texts), 7), 1, len(texts) - 1]:
        alone = sketch([texts[index]])
        assert together.n_shingles[index] == alone.n_shingles[0]
        assert np.array_equal(together.signatures[index], alone.signatures[0])


@given(st.binary(max_size=40))
def test_any_bytes_are_sketched_within_bounds(raw: bytes) -> None:
    sketches = HASHER(np.frombuffer(raw, np.uint8), np.array([0, len(raw)], np.int64))
    assert 0 <= sketches.n_shingles[0] <= len(raw)


def test_bytes_estimate_without_bias_and_about_as_exactly_as_32_bits() -> None:
    pick = random.Random(9)
    similar = [pick.randrange(40, 100) / 100 for _ in range(150)]
    pairs = []
    for share in similar:
        words = [f"w{pick.randrange(10**6)}" for _ in range(200)]
        changed = [word if pick.random() < share**0.2 else f"x{pick.randrange(10**6)}" for word in words]
        pairs += [" ".join(words), " ".join(changed)]
    true = np.array([jaccard(pairs[i], pairs[i + 1]) for i in range(0, len(pairs), 2)])
    errors: dict[str, list[np.ndarray]] = {"values": [], "bytes": []}
    for seed in range(20):
        values = sketch(pairs, MinHasher(5, 14, 8, seed)).signatures
        stored = low_bytes(values)
        assert (stored.dtype, stored.shape) == (np.uint8, values.shape)
        errors["values"].append(equal_values(values[0::2], values[1::2]) / 112 - true)
        errors["bytes"].append(similarity_at(equal_values(stored[0::2], stored[1::2]) / 112) - true)
    rmse = {name: float(np.sqrt((np.stack(each) ** 2).mean())) for name, each in errors.items()}
    assert abs(np.stack(errors["bytes"]).mean()) < 0.002
    assert rmse["bytes"] < 1.05 * rmse["values"]


def test_bytes_of_dissimilar_documents_are_equal_as_often_as_by_chance() -> None:
    texts = [" ".join(f"w{document}-{word}" for word in range(300)) for document in range(2_000)]
    stored = low_bytes(sketch(texts).signatures)
    share = equal_values(stored[0::2], stored[1::2]).mean() / 112
    assert share == pytest.approx(equal_probability(0.0), rel=0.1)  # 5 standard errors
    assert (equal_probability(1.0), similarity_at(1.0)) == (1.0, 1.0)
    assert similarity_at(equal_probability(0.3)) == pytest.approx(0.3)
