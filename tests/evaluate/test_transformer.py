"""The small transformer: learns what it is trained on, repeats, and reads long documents in windows."""

import numpy as np
import pytest
import torch

from betr_spark.config.evaluate import TransformerConfig
from betr_spark.errors import DataError
from betr_spark.evaluate.transformer import Transformer

SMALL = TransformerConfig(layers=1, width=32, heads=2, context=16, batch_size=8, epochs=3, lr=1e-2)
N_VOCABULARY = 40


def counting(draw: np.random.Generator, n: int) -> list[np.ndarray]:
    """Documents in which each token is the previous token plus 1."""
    return [((draw.integers(0, 20) + np.arange(draw.integers(5, 60))) % 20 + 1).astype(np.uint16) for _ in range(n)]


@pytest.fixture(scope="module")
def model() -> Transformer:
    torch.set_num_threads(1)
    return Transformer(counting(np.random.default_rng(0), 150), settings=SMALL, n_vocabulary=N_VOCABULARY)


def test_it_learns_what_it_was_trained_on_and_repeats(model: Transformer) -> None:
    documents = counting(np.random.default_rng(1), 20)
    logarithms = model.log2_probabilities(documents)
    assert [len(values) for values in logarithms] == [len(document) for document in documents]
    assert all((values <= 0).all() for values in logarithms)
    assert np.mean(np.concatenate([values[1:] for values in logarithms])) > -0.5  # log2(40) = 5.3 without learning
    mixed = [np.random.default_rng(2).permutation(document) for document in documents]
    assert np.mean(np.concatenate(model.log2_probabilities(mixed))) < -3
    again = Transformer(counting(np.random.default_rng(0), 150), settings=SMALL, n_vocabulary=N_VOCABULARY)
    for before, after in zip(logarithms, again.log2_probabilities(documents), strict=True):
        np.testing.assert_array_equal(before, after)


def test_a_long_document_is_read_in_windows_that_overlap(model: Transformer) -> None:
    document = counting(np.random.default_rng(3), 1)[0][:0]
    assert model.log2_probabilities([document])[0].shape == (0,)
    long = np.concatenate(counting(np.random.default_rng(4), 3))[:41].astype(np.uint16)
    (logarithms,) = model.log2_probabilities([long])
    whole = np.concatenate([[0], long]).astype(np.int64)
    for position in range(len(long)):
        # The window of a position starts at the last multiple of 8 that leaves 8 tokens of context, or at 0.
        start = max(0, (position // 8 - 1) * 8)
        with torch.inference_mode():
            logits = model._model(input_ids=torch.tensor(whole[None, start : position + 1])).logits[0, -1]
        expected = torch.log_softmax(logits, dim=-1)[whole[position + 1]].item() / np.log(2)
        assert logarithms[position] == pytest.approx(expected, abs=1e-4)


def test_one_step_trains_and_too_large_ones_are_named() -> None:
    one_epoch = SMALL.model_copy(update={"epochs": 1})
    texts = [counting(np.random.default_rng(seed), 2) for seed in (7, 8)]
    models = [Transformer(text, settings=one_epoch, n_vocabulary=N_VOCABULARY) for text in texts]
    first, second = (model.log2_probabilities(texts[0])[0] for model in models)
    assert not np.array_equal(first, second)
    with pytest.raises(DataError, match=r"evaluate\.transformer\.lr: 1e\+30: training diverged; set a lower value"):
        Transformer(
            counting(np.random.default_rng(0), 50), settings=SMALL.model_copy(update={"lr": 1e30}), n_vocabulary=40
        )


def test_the_rest_of_a_batch_changes_nothing(model: Transformer) -> None:
    documents = counting(np.random.default_rng(5), 9)
    alone = [model.log2_probabilities([document])[0] for document in documents]
    for single, batched in zip(alone, model.log2_probabilities(documents), strict=True):
        np.testing.assert_allclose(single, batched, atol=1e-4)
