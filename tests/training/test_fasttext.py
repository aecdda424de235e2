"""Settings by size, the choice among candidates, and refusal of a scorer that separates nothing."""

import random
from pathlib import Path

import numpy as np
import pytest

from betr_spark.config.scorers import BetrScorer
from betr_spark.errors import ArtifactError, DataError
from betr_spark.scoring import artifact
from betr_spark.scoring.ngram_table import NgramTable
from betr_spark.training import fasttext as train
from betr_spark.training.agreement import area_under_curve
from betr_spark.training.fasttext import DCLM_RECIPE, candidates, write_lines
from betr_spark.training.records import FitMetrics, Fitted, HyperParameters, Labelled

SMALL = BetrScorer(dim=16)


def rows(count: int, seed: int, *, signal: bool = True) -> list[tuple[str, int]]:
    pick = random.Random(seed)
    common = [f"c{i}" for i in range(40)]
    texts = []
    for index in range(count):
        words = [f"{'p' if index % 2 and signal else 'n'}{pick.randrange(20)}" for _ in range(6)]
        texts.append((" ".join(pick.sample([*words, *pick.choices(common, k=30)], 36)), index % 2))
    return texts


def held_out(seed: int, *, signal: bool = True) -> Labelled:
    texts, labels = zip(*rows(100, seed, signal=signal), strict=True)
    return Labelled(texts, np.array(labels, np.int8))


def test_auto_takes_the_paper_s_values_for_large_samples_and_a_grid_below() -> None:
    assert candidates(SMALL, n_documents=500_000) == [(0.03, 5)]
    assert candidates(SMALL, n_documents=500_000, recipe=DCLM_RECIPE) == [(0.1, 5)]
    assert candidates(SMALL, n_documents=499_999) == [(0.5, 25), (1.0, 50)]
    assert candidates(BetrScorer(lr=0.1), n_documents=9) == [(0.1, 25), (0.1, 50)]
    assert candidates(BetrScorer(lr=0.1, epochs=3), n_documents=9) == [(0.1, 3)]


def test_training_repeats_to_the_last_bit_and_separates_the_classes() -> None:
    first, second = (train.train(SMALL, iter(rows(300, 1)), held_out(2), name="s") for _ in range(2))
    assert first.metrics.validation_auc is not None
    assert first.metrics.validation_auc > 0.9
    assert (first.metrics.n_training, first.metrics.n_positive, first.metrics.n_validation) == (300, 150, 100)
    assert artifact.sha256(first.table) == artifact.sha256(second.table)


def test_labels_without_a_signal_stop_with_the_figures() -> None:
    noise = [(text, random.Random(text).randrange(2)) for text, _ in rows(60, 3, signal=False)]
    with pytest.raises(ArtifactError, match=r"scorers.s: training failed on 60 documents \(lr 1e-05 x 1 epochs: AUC"):
        train.train(BetrScorer(dim=16, lr=1e-5, epochs=1), iter(noise), held_out(4, signal=False), name="s")


def test_a_candidate_that_passes_is_chosen_even_if_another_has_a_higher_auc(monkeypatch: pytest.MonkeyPatch) -> None:
    table = NgramTable.build(["a"], np.ones(1, np.float32), np.zeros(8, np.float32), word_ngrams=2)

    def train_candidate(_: object, __: object, ___: object, chosen: HyperParameters, **____: object) -> Fitted:
        auc, sd = {0.5: (0.78, 0.001), 1.0: (0.65, 0.3)}[chosen.lr]
        return Fitted(table, {"lr": chosen.lr}, FitMetrics(validation_auc=auc, validation_sd=sd), chosen)

    monkeypatch.setattr(train, "_train_candidate", train_candidate)
    assert train.train(SMALL, iter(rows(10, 1)), held_out(2), name="s").chosen == (1.0, 50)


def test_a_single_class_is_refused() -> None:
    with pytest.raises(DataError, match="validation documents of one class"):
        train.train(SMALL, iter([]), Labelled(["a"], np.array([1], np.int8)), name="s")
    with pytest.raises(DataError, match=r"scorers\.s: all training documents have one label"):
        train.train(SMALL, iter([("a b", 1), ("c d", 1)]), held_out(2), name="s")


def test_area_under_the_curve_counts_ties_half() -> None:
    logits = np.array([3, 1, 1, 0], np.float32)
    assert area_under_curve(logits, np.array([1, 1, 0, 0], np.int8)) == pytest.approx(3.5 / 4)


def test_each_document_has_one_line_and_labels_in_the_text_do_not_count(tmp_path: Path) -> None:
    count = write_lines(
        tmp_path / "t",
        [("a\nb __label__0 </s>", ["__label__1"]), (" \u3000\n", ["x"]), ("c", ["__label__0", "__label__b"])],
    )
    assert count == {"__label__0": 1, "__label__1": 1, "__label__b": 1}
    assert (tmp_path / "t").read_text(encoding="utf-8") == "__label__1 a b label__0 s>\n__label__0 __label__b c\n"


def test_what_fasttext_refuses_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"scorers\.s\.lr: fastText with lr 1000\.0 x 5 epochs: .*NaN"):
        train.train(BetrScorer(dim=16, lr=1000, epochs=5), iter(rows(300, 1)), held_out(2), name="s")
    with pytest.raises(DataError, match=r"scorers\.s: no training document has a word"):
        train.train(SMALL, iter([("\n", 1), ("\u3000", 0)]), held_out(2), name="s")
