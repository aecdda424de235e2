"""Folded scores compared with fastText's probabilities."""

import random
from pathlib import Path
from typing import Any

import fasttext
import numpy as np
import pyarrow.parquet as pq
import pytest

from betr_spark.errors import ArtifactError
from betr_spark.kernels.text_preparation import prepare
from betr_spark.scoring.ngram_table import NgramTable, stack
from betr_spark.scoring.score import score
from betr_spark.training.fasttext import score_texts
from betr_spark.training.fold import fold

DOCUMENTS = Path(__file__).parents[2].parent / "shared/data/corpus/documents.parquet"
# Below about 32 MB of input matrix, fastText 0.9.3 with one thread may train on uninitialised memory (training/fasttext.py).
LARGE_ENOUGH = {"dim": 16, "bucket": 700_000}
ODD = [
    "one", " lead and trail ", "a\tb\rc\vd\fe\0f", "x\u2028y\u2029z\u0085w\u00a0v\u3000u\u2003t", "\x1c\x1d\x1e\x1fq",
    "__label__1 __label__0 __label__", "a __label__x b", "tail </s>", "</s> head", "mid </s> dle </s>x x</s>",
    "naïve café Ω 漢字 カナ ไทย 😀 ", "same same same", "w" * 5000, "\u200b", "a\u0301", "</s>", "____label__1", "_ < __ </",
]  # fmt: skip


def train(folder: Path, texts: list[str], **options: Any) -> Any:
    path = folder / "train.txt"
    lines = [f"__label__{int('w7' in text or 'function' in text)} {prepare(text)}" for text in texts]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    settings = {"loss": "softmax", "wordNgrams": 2, "lr": 1.0, "epoch": 20, "minCount": 2, **LARGE_ENOUGH, **options}
    return fasttext.train_supervised(input=str(path), thread=1, verbose=0, **settings)


def fasttext_probability(model: Any, text: str) -> float:
    probabilities = {label: p for p, label in model.f.predict(prepare(text) + "\n", 2, 0.0, "strict")}
    return float(probabilities["__label__1"])


def folded_probability(table: NgramTable, texts: list[str]) -> np.ndarray:
    return 1 / (1 + np.exp(-score_texts(texts, table).astype(np.float64)))


def synthetic_texts(count: int, seed: int) -> list[str]:
    pick = random.Random(seed)
    words = [f"w{i}" for i in range(300)] + ["café", "漢字", "naïve", "</s>", "__label__9", "😀"]
    spaces = [" ", "  ", "\n", "\t", "\u2028", "\u00a0", "\0"]
    return [
        "".join(pick.choice(words) + pick.choice(spaces) for _ in range(pick.randint(1, 120))) for _ in range(count)
    ]


@pytest.mark.parametrize("ngrams", [2, 3])
def test_synthetic_and_odd_texts_score_as_fasttext_does(tmp_path: Path, ngrams: int) -> None:
    model = train(tmp_path, synthetic_texts(400, 1) + ODD, wordNgrams=ngrams)
    texts = synthetic_texts(500, 2) + ODD
    expected = np.array([fasttext_probability(model, text) for text in texts])
    folded = folded_probability(fold(model, positive="__label__1"), texts)
    assert np.abs(expected - folded).max() <= 1e-4
    assert expected.std() > 0.05  # the model says something


@pytest.mark.skipif(not DOCUMENTS.exists(), reason="needs shared/data")
def test_ten_thousand_real_documents_score_as_fasttext_does(tmp_path: Path) -> None:
    texts = pq.read_table(DOCUMENTS, columns=["text"]).column("text").to_pylist()
    model = train(tmp_path, texts[:1500])
    texts = texts[1000:11_000]
    expected = np.array([fasttext_probability(model, text) for text in texts])
    folded = folded_probability(fold(model, positive="__label__1"), texts)
    assert np.abs(expected - folded).max() <= 1e-4
    assert expected.std() > 0.05


def test_the_second_label_as_positive_changes_the_sign(tmp_path: Path) -> None:
    model = train(tmp_path, synthetic_texts(100, 3))
    texts = synthetic_texts(20, 4)
    positive = score_texts(texts, fold(model, positive="__label__1"))
    negative = score_texts(texts, fold(model, positive="__label__0"))
    np.testing.assert_allclose(positive, -negative, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"loss": "hs"}, "hierarchical softmax; a softmax of two"), ({"minn": 2, "maxn": 3}, "n-grams up to 3")],
)
def test_an_unsupported_model_is_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    model = train(tmp_path, synthetic_texts(100, 5), **options)
    with pytest.raises(ArtifactError, match=message):
        fold(model, positive="__label__1")


def test_more_buckets_than_the_kernel_counts_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = train(tmp_path, synthetic_texts(100, 5))
    monkeypatch.setattr("betr_spark.training.fold.MAX_BUCKETS", model.f.getArgs().bucket)
    with pytest.raises(ArtifactError, match="buckets; fewer than"):
        fold(model, positive="__label__1")


def test_a_quantised_model_is_refused(tmp_path: Path) -> None:
    model = train(tmp_path, synthetic_texts(100, 5))
    model.quantize(cutoff=300)
    with pytest.raises(ArtifactError, match="quantised"):
        fold(model, positive="__label__1")


def test_a_model_with_different_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no label '__label__7'; it has __label__"):
        fold(train(tmp_path, synthetic_texts(100, 5)), positive="__label__7")
    path = tmp_path / "three.txt"
    path.write_text("".join(f"__label__{i % 3} w{i} w{i + 1}\n" for i in range(60)), encoding="utf-8")
    three = fasttext.train_supervised(input=str(path), thread=1, verbose=0, epoch=1, wordNgrams=2, **LARGE_ENOUGH)
    with pytest.raises(ArtifactError, match="softmax of 3 labels .*; two labels or one-vs-all are required"):
        fold(three, positive="__label__1")


@pytest.mark.parametrize("loss", ["ova", "ns"])
def test_each_label_of_many_with_its_own_sigmoid_is_folded(tmp_path: Path, loss: str) -> None:
    path, texts = tmp_path / "many.txt", synthetic_texts(300, 9)
    lines = [f"__label__{sum(word.startswith('w1') for word in text.split()) % 4} {prepare(text)}" for text in texts]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    many = fasttext.train_supervised(
        input=str(path), thread=1, verbose=0, epoch=20, lr=0.5, wordNgrams=2, loss=loss, **LARGE_ENOUGH
    )
    for label in many.get_labels():
        predictions = [many.f.predict(prepare(text) + "\n", -1, 0.0, "strict") for text in texts]
        expected = np.array([{name: p for p, name in pairs}[label] for pairs in predictions])
        logits = score_texts(texts, fold(many, positive=label)).astype(np.float64)
        step = (
            np.floor((logits + 8) * 32) / 32 - 8
        )  # fastText looks its sigmoid up in a table of 512 steps from -8 to 8
        looked_up = np.where(logits < -8, 0.0, np.where(logits > 8, 1.0, 1 / (1 + np.exp(-step))))
        assert np.mean(np.abs(looked_up - expected) <= 1e-4) > 0.99  # the rest is at the end of a step
        assert np.abs(1 / (1 + np.exp(-logits)) - expected).max() < 1 / 32 / 4 + 1e-4


def test_a_document_without_a_word_has_no_logit_and_no_words() -> None:
    table = NgramTable.build(["a"], np.ones(1, np.float32), np.zeros(8, np.float32), word_ngrams=2)
    texts = ["", " \n\t\0 ", "\u3000\u2028", "a"]
    assert np.isnan(score_texts(texts, table)).tolist() == [True, True, True, False]


def test_an_unknown_word_with_a_known_hash_is_not_mistaken() -> None:
    known, unknown = "costarring", "liquid"  # both have FNV-1a hash 0x5e4daa9d
    table = NgramTable.build([known], np.ones(1, np.float32), np.zeros(8, np.float32), word_ngrams=1)
    data = np.frombuffer(f"{known}{unknown}".encode(), np.uint8)
    offsets = np.array([0, len(known), len(known) + len(unknown)], np.int64)
    words, logits = score(data, offsets, stack([table]))
    assert words.tolist() == [1, 1]
    assert logits[:, 0].tolist() == [1.0, 0.0]


def test_several_tables_score_as_each_alone(tmp_path: Path) -> None:
    tables = [fold(train(tmp_path, synthetic_texts(100, seed)), positive="__label__1") for seed in (6, 7)]
    texts = [text.encode() for text in synthetic_texts(30, 8)]
    data = np.frombuffer(b"".join(texts), np.uint8)
    offsets = np.cumsum([0, *map(len, texts)]).astype(np.int64)
    _, both = score(data, offsets, stack(tables))
    alone = np.column_stack([score(data, offsets, stack([table]))[1][:, 0] for table in tables])
    np.testing.assert_array_equal(both, alone)
    assert score(data, offsets, [])[1].shape == (30, 0)
