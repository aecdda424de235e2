"""A small decoder (Llama blocks of `transformers`) trained from scratch on a selection; same interface as the n-gram model.

The same seed gives the same model on the same machine with the same number of threads.
"""

import logging
import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import LlamaConfig, LlamaForCausalLM

from betr_spark.config.evaluate import TransformerConfig
from betr_spark.errors import DataError, SetupError
from betr_spark.evaluate.kneser_ney import BOUNDARY

_WARM_UP = 0.05  # fraction of the steps
_MAX_GRADIENT_NORM = 1.0
_MIN_STEPS = 100
_logger = logging.getLogger(__name__)


class Transformer:
    """The decoder; `log2_probabilities` evaluates documents with it."""

    def __init__(
        self, documents: Sequence[NDArray[np.uint16]], *, settings: TransformerConfig, n_vocabulary: int
    ) -> None:
        """Train on windows of `context` tokens of the documents, BOUNDARY before each, in an order drawn by the seed.

        Args:
            documents: token ids of each, without BOUNDARY, all below n_vocabulary.
            settings: shape and training.
            n_vocabulary: number of token ids, BOUNDARY included.

        Raises:
            SetupError: `device: cuda` without a GPU.
            DataError: the training diverged.
        """
        self._settings, device = settings, settings.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if device == "cuda" and not torch.cuda.is_available():
            raise SetupError("evaluate.transformer.device: cuda: torch finds no GPU; set `device: cpu`")
        with torch.random.fork_rng():
            torch.manual_seed(settings.seed)
            shape = LlamaConfig(
                vocab_size=n_vocabulary, hidden_size=settings.width, intermediate_size=4 * settings.width,
                num_hidden_layers=settings.layers, num_attention_heads=settings.heads,
                max_position_embeddings=settings.context, tie_word_embeddings=True, use_cache=False,
                bos_token_id=BOUNDARY, eos_token_id=BOUNDARY,
            )  # fmt: skip
            self._model = LlamaForCausalLM(shape).to(device)
        self._train(documents)

    def _train(self, documents: Sequence[NDArray[np.uint16]]) -> None:
        settings, edge = self._settings, np.full(1, BOUNDARY, np.uint16)
        stream = np.concatenate([edge, *(part for document in documents for part in (document, edge))]).astype(np.int64)
        starts = np.arange(0, len(stream) - 1, settings.context)
        steps = settings.epochs * -(-len(starts) // settings.batch_size)
        optimizer = torch.optim.AdamW(self._model.parameters(), lr=settings.lr, betas=(0.9, 0.95), weight_decay=0.1)
        if steps < _MIN_STEPS:
            _logger.warning(
                "evaluate: %d steps of training, below %d: the transformer learns little", steps, _MIN_STEPS
            )
        warm_up = math.ceil(_WARM_UP * steps)
        schedule = torch.optim.lr_scheduler.LambdaLR(  # a cosine; every step has a rate above 0
            optimizer, lambda step: min(1.0, (step + 1) / warm_up) * (1 + math.cos(math.pi * step / steps)) / 2
        )
        draw = np.random.default_rng(settings.seed)
        self._model.train()
        for _ in range(settings.epochs):
            order = draw.permutation(starts)
            for first in range(0, len(order), settings.batch_size):
                windows = [
                    stream[start : start + settings.context + 1] for start in order[first : first + settings.batch_size]
                ]
                loss = -self._log_probabilities(windows).sum() / sum(len(window) - 1 for window in windows)
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(self._model.parameters(), _MAX_GRADIENT_NORM)
                optimizer.step()
                schedule.step()
        self._model.eval()
        if not all(bool(torch.isfinite(weights).all()) for weights in self._model.parameters()):
            raise DataError(f"evaluate.transformer.lr: {settings.lr:g}: training diverged; set a lower value")

    def _log_probabilities(self, windows: Sequence[NDArray[np.int64]]) -> torch.Tensor:
        """Natural logarithms for each window's tokens except the first, [windows, longest - 1]; 0 after a window's end."""
        longest = max(map(len, windows))
        packed = np.stack([np.pad(window, (0, longest - len(window)), constant_values=BOUNDARY) for window in windows])
        tokens = torch.from_numpy(packed).to(self._model.device)
        logits = self._model(input_ids=tokens[:, :-1]).logits.float()  # causal: padding does not change earlier tokens
        log_probabilities = torch.log_softmax(logits, dim=-1).gather(-1, tokens[:, 1:, None])[..., 0]
        inside = np.arange(1, longest) < np.array([len(window) for window in windows])[:, None]
        return log_probabilities * torch.from_numpy(inside).to(log_probabilities)

    def log2_probabilities(self, documents: Sequence[NDArray[np.uint16]]) -> list[NDArray[np.float64]]:
        """Base-2 logarithms of the probability of each document's tokens; each is predicted from at least half a window."""
        context, edge = self._settings.context, np.full(1, BOUNDARY, np.int64)
        logarithms = [np.zeros(len(document)) for document in documents]
        windows: list[tuple[int, int, int, NDArray[np.int64]]] = []  # document, its first token, tokens of context, ids
        for number, document in enumerate(documents):
            whole = np.concatenate([edge, document.astype(np.int64)])
            for start in range(0, len(document), context // 2):
                known = context - context // 2 if start else 0
                if start + known < len(document):
                    windows.append((number, start, known, whole[start : start + context + 1]))
        windows.sort(key=lambda row: len(row[3]))
        with torch.inference_mode():
            for first in range(0, len(windows), self._settings.batch_size):
                batch = windows[first : first + self._settings.batch_size]
                rows = self._log_probabilities([ids for *_, ids in batch]).cpu().numpy().astype(np.float64)
                for (number, start, known, ids), row in zip(batch, rows, strict=True):
                    end = start + len(ids) - 1
                    logarithms[number][start + known : end] = row[known : len(ids) - 1] / np.log(2)
        return logarithms
