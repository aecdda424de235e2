"""A byte-pair vocabulary for the evaluation's models. It is trained on a sample; all models share it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_TEXTS_AT_ONCE = 1_000


def train_tokenizer(texts: Sequence[str], *, n_vocabulary: int) -> "Tokenizer":
    """Train n_vocabulary - 1 byte-level tokens; `encode` reserves token 0 for the boundary of documents."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers  # noqa: PLC0415 - only the driver needs it

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=n_vocabulary - 1, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer, length=len(texts))
    return tokenizer


def encode(tokenizer: "Tokenizer", texts: Sequence[str]) -> list[NDArray[np.uint16]]:
    """Token ids of each text, uint16, starting at 1."""
    token_ids = []
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        batch = [text.encode("utf-8", "replace").decode() for text in texts[start : start + _TEXTS_AT_ONCE]]
        token_ids += [
            np.array(encoding.ids, np.uint16) + np.uint16(1) for encoding in tokenizer.encode_batch_fast(batch)
        ]
    return token_ids
