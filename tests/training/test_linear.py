"""The linear model: its features are the kernel's, its fit is ridge regression, its logits are calibrated."""

import random
from pathlib import Path

import numpy as np
import pytest
from scipy.special import ndtri

from betr_spark.errors import ArtifactError, DataError
from betr_spark.kernels.text_preparation import prepare
from betr_spark.scoring import artifact
from betr_spark.scoring.contributions import SHIFT
from betr_spark.scoring.ngram_table import NgramTable
from betr_spark.training.linear import (
    LinearModel,
    RankedDocument,
    calibration,
    normal_scores,
    on_line,
    train_on_order,
)
from betr_spark.training.records import Labelled
from betr_spark.training.validation import score_texts

ODD = ["", "one", "a\tb\u2028c </s> __label__1", "é" * 30, "x " * 400]


def ordered(n: int, seed: int) -> list[tuple[str, float]]:
    """Texts with a number each: the share of good words; the best first."""
    pick, texts = random.Random(seed), []
    for _ in range(n):
        share = pick.random()
        words = [f"g{pick.randrange(30)}" if pick.random() < share else f"b{pick.randrange(30)}" for _ in range(40)]
        texts.append((" ".join(words), share))
    return sorted(texts, key=lambda row: -row[1])


def write(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(f"{prepare(text)}\n" for text in texts), encoding="utf-8", newline="\n")
    return path


def test_the_fit_is_ridge_regression_on_what_the_kernel_computes(tmp_path: Path) -> None:
    texts = [*[text for text, _ in ordered(60, 1)], *ODD]
    model = LinearModel(write(tmp_path / "lines", texts))
    ranks = np.random.default_rng(0).permutation(len(texts))
    weight = np.random.default_rng(1).random(len(texts)) + 0.5
    table = model.fit(normal_scores(ranks), weight, ridge=0.05)
    features = model._features.toarray()
    scores = ndtri(1 - (ranks + 0.5) / len(texts))
    penalty = 0.05 * weight.sum() * np.eye(features.shape[1])
    weights = np.linalg.solve((features.T * weight) @ features + penalty, features.T @ (weight * scores))
    np.testing.assert_allclose(np.mean(np.square(features).sum(axis=1)), 1)
    logits = score_texts(texts, table)
    known = ~np.isnan(logits)
    np.testing.assert_allclose(logits[known], (features @ weights)[known], atol=1e-3)
    assert known.sum() == len(texts) - 1  # the empty one


def test_orders_are_learnt_and_repeat_to_the_last_bit() -> None:
    rows = ordered(500, 2)
    held = ordered(100, 3)
    labels = np.array([share > 0.7 for _, share in held], np.int8)
    ranked = [RankedDocument(text, i < 50, [(1 - share, 0.0)]) for i, (text, share) in enumerate(rows)]
    validation = Labelled([text for text, _ in held], labels)
    first, second = (train_on_order(iter(ranked), [[]], validation, [1 - labels], name="s") for _ in range(2))
    assert [artifact.sha256(fitted.table) for fitted in first] == [artifact.sha256(fitted.table) for fitted in second]
    scorer, benchmark_scorer = first
    assert scorer.metrics.validation_auc is not None
    assert scorer.metrics.validation_auc > 0.95
    assert scorer.metrics.n_positive == 50
    assert benchmark_scorer.metrics.validation_auc is not None
    assert benchmark_scorer.metrics.validation_auc > 0.95
    logits = [score_texts(validation.texts, fitted.table) for fitted in first]
    assert np.corrcoef(*logits)[0, 1] < -0.9  # the order of the benchmark is reversed
    assert scorer.settings["model"] == "linear"


def test_logits_are_log_odds_with_equal_weight_of_both_classes() -> None:
    draw = np.random.default_rng(5)
    labels = (draw.random(20_000) < 0.2).astype(np.int8)
    logits = (draw.normal(size=len(labels)) + 1.5 * labels).astype(np.float32)  # log-odds 1.5 x - 1.125
    np.testing.assert_allclose(calibration(logits, labels), (1.5, -1.125), atol=0.1)
    assert calibration(-logits, labels)[0] == 0
    table = NgramTable.build(["a", "b"], np.array([1, -2], np.float32), np.array([3, 4], np.float32), word_ngrams=2)
    texts = ["a b a", "b", "c a"]
    line = (2.0, -0.5)
    np.testing.assert_allclose(score_texts(texts, on_line(table, line)), 2 * score_texts(texts, table) - 0.5, rtol=1e-6)


def test_a_random_order_stops_with_the_figures() -> None:
    rows = [
        RankedDocument(text, i < 20, []) for i, (text, _) in enumerate(random.Random(1).sample(ordered(200, 6), 200))
    ]
    validation = Labelled([text for text, _ in ordered(80, 7)], np.arange(80, dtype=np.int8) % 2)
    with pytest.raises(ArtifactError, match=r"scorers.s: training failed on 200 documents \(linear model: AUC 0\.\d+"):
        train_on_order(rows, [], validation, [], name="s")
    with pytest.raises(DataError, match=r"scorers.s: 80 validation documents of one class"):
        train_on_order(rows, [], validation._replace(labels=np.zeros(80, np.int8)), [], name="s")


def test_examples_raise_their_words_in_the_scorer_and_only_in_their_benchmark_scorer() -> None:
    rows = [RankedDocument(text, i < 50, [(1 - i, 0.0)] * 2) for i, (text, _) in enumerate(ordered(500, 2))]
    held = ordered(100, 3)
    labels = np.array([share > 0.7 for _, share in held], np.int8)
    validation = Labelled([text for text, _ in held], labels)
    examples = [["anchor tide anchor tide", "\n"], ["oven flour oven flour"] * 2]
    without = train_on_order(rows, [[], []], validation, [labels, labels], name="s")
    fitted = train_on_order(rows, examples, validation, [labels, labels], name="s")
    texts, unknown = ["anchor tide", "oven flour"], ["nothing"] * 2  # a word that no document has
    gains = [score_texts(texts, scorer.table) - score_texts(unknown, scorer.table) for scorer in fitted]
    assert (gains[0] > 0).all()
    assert gains[1][0] > 0.1 > gains[1][1]
    assert gains[2][1] > 0.1 > gains[2][0]
    assert {**without[0].settings, SHIFT: 0} == {**fitted[0].settings, SHIFT: 0}
    assert fitted[0].metrics.n_training == 500


def test_separable_classes_have_a_finite_line() -> None:
    slope, shift = calibration(np.array([9, 8, 0, -7, -8], np.float32), np.array([1, 1, 0, 0, 0], np.int8))
    assert 0 < slope < 10
    assert np.isfinite(shift)


def test_benchmark_scorers_share_one_line_so_that_few_examples_do_not_raise_a_logit() -> None:
    rows, held = ordered(400, 8), ordered(120, 9)
    labels = np.array([share > 0.7 for _, share in held], np.int8)
    few = np.where(np.cumsum(labels) <= 2, labels, 0).astype(np.int8)
    ranked = [RankedDocument(text, i < 40, [(1 / (1 + i), 0.0)] * 3) for i, (text, _) in enumerate(rows)]
    validation = Labelled([text for text, _ in held] + ["\n\t"], np.append(labels, 0).astype(np.int8))
    benchmark_labels = [np.append(part, 0).astype(np.int8) for part in (labels, few, np.zeros_like(labels))]
    scorers = train_on_order(ranked, [[], [], []], validation, benchmark_labels, name="s")[1:]
    for scorer in scorers[1:]:
        np.testing.assert_array_equal(scorer.table.word_weights, scorers[0].table.word_weights)
    assert scorers[0].metrics.validation_sd is not None
    assert scorers[0].metrics.validation_sd > 0.1
    assert scorers[2].metrics.validation_auc is None
    with pytest.raises(DataError, match=r"scorers\.s: no training document has a word"):
        train_on_order([RankedDocument("\n", True, [])], [["an example"]], validation, [], name="s")
