"""The embedding stage: documents and tokens per second of one thread, by backend, precision and order, and their effect.

    python benchmarks/embedding.py [--documents FILE.parquet] [--targets FOLDER] [--model minilm] [--count 2000] [--rounds 3]

Embeds documents (their text; by default the corpus next to the checkout) with the encoder as the package runs it, and with each
variant that is installed: torch in float32, bfloat16 and int8 (dynamically quantised linear layers), ONNX Runtime and OpenVINO,
and torch with batches in the order of the documents rather than by length. The variants alternate over parts of the documents;
a ratio is the median over the parts. Then the documents are ranked by the examples of five benchmarks with the vectors of every
variant: rank correlation and overlap of the top 10 % with float32. On a machine with a GPU use `--device cuda`.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scorers import SHARED, TARGETS

from betr_spark.config.ranking import EncoderConfig
from betr_spark.config.targets import TargetConfig
from betr_spark.errors import SetupError
from betr_spark.kernels.text_preparation import prepare
from betr_spark.ranking.best_rank import TopCosines, best_ranks, on_grid
from betr_spark.ranking.encoder import _load
from betr_spark.targets.choice import balanced
from betr_spark.targets.examples import examples_of
from betr_spark.training.agreement import positions

Encode = Callable[[list[str]], NDArray[np.float32]]
FIRST = "torch float32"


def variants(settings: EncoderConfig) -> dict[str, Encode]:
    """Variants that run on this machine."""

    def loaded(**changed: str) -> Any:
        _load.cache_clear()
        return _load(settings.model_copy(update=changed))

    def encoding(model: Any, *, sort: bool = True) -> Encode:
        size = settings.batch_size

        def encode(texts: list[str]) -> NDArray[np.float32]:
            parts = [texts] if sort else [texts[i : i + size] for i in range(0, len(texts), size)]
            return np.concatenate([model.encode(part, batch_size=size, show_progress_bar=False) for part in parts])

        return encode

    def quantised() -> Any:
        import torch  # noqa: PLC0415

        model, linear = loaded(device="cpu"), {torch.nn.Linear}
        return torch.ao.quantization.quantize_dynamic(model, linear, dtype=torch.qint8)

    first = loaded()
    encoders = {FIRST: encoding(first), "torch float32, in the documents' order": encoding(first, sort=False)}
    for name, make in {
        "torch bfloat16": lambda: loaded(dtype="bfloat16"),
        "torch float16": lambda: loaded(dtype="float16"),
        "torch int8, on the CPU": quantised,
        "onnx float32": lambda: loaded(backend="onnx"),
        "openvino float32": lambda: loaded(backend="openvino"),
    }.items():
        try:
            encode = encoding(make())  # type: ignore[no-untyped-call]
            encode(["a word"])
        except (SetupError, ImportError, OSError, RuntimeError, ValueError) as error:
            print(f"{name}: not available ({str(error).splitlines()[0][:120]})", flush=True)
            continue
        encoders[name] = encode
    return encoders


def order(documents: NDArray[np.float32], examples: NDArray[np.float32]) -> NDArray[np.int64]:
    """Position of each document in the target ranking."""
    vectors, queries = on_grid(documents.astype(np.float32)), on_grid(examples.astype(np.float32))
    highest = TopCosines(queries, depth=len(vectors))
    highest.add(vectors)
    ranks = best_ranks(queries, vectors, top=highest.lists())
    return positions(ranks.score, ranks.cosine)


def main() -> None:
    """Measure every variant and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=Path, default=SHARED / "corpus/documents.parquet")
    parser.add_argument("--targets", type=Path, default=SHARED / "targets")
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=4)
    arguments = parser.parse_args()
    settings = EncoderConfig(model=arguments.model, max_tokens=arguments.max_tokens, device=arguments.device)
    column = pq.read_table(arguments.documents, columns=["text"]).column("text")
    picked = np.random.default_rng(0).permutation(len(column))[: arguments.count]
    texts = [prepare(text) for text in column.take(picked).to_pylist()]
    targets = {n: TargetConfig(path=str(arguments.targets / f), template=t) for n, (f, t) in TARGETS.items()}
    read = {name: examples_of(name, target, Path(target.path).read_bytes()) for name, target in targets.items()}
    examples = [example.text for example in balanced(read, dict.fromkeys(targets, 100))]
    encoders = variants(settings)
    model = _load(settings)
    n_tokens = [
        len(ids) for ids in model.tokenizer(texts, truncation=True, max_length=model.max_seq_length)["input_ids"]
    ]
    seconds: dict[str, list[float]] = {name: [] for name in encoders}
    vectors: dict[str, list[NDArray[np.float32]]] = {name: [] for name in encoders}
    for part in np.array_split(np.arange(len(texts)), arguments.rounds):
        for name, encode in encoders.items():
            start = time.perf_counter()
            vectors[name].append(encode([texts[i] for i in part]))
            seconds[name].append(time.perf_counter() - start)
    print(f"\n{len(texts)} documents, {sum(n_tokens)} tokens, {len(examples)} examples, {model.device}, one thread\n")
    print("| variant | documents/s | tokens/s | against torch float32 | Spearman of the order | the same top 10 % |")
    print("|---|---|---|---|---|---|")
    reference = order(np.concatenate(vectors[FIRST]), encoders[FIRST](examples))
    top = len(texts) // 10
    for name, encode in encoders.items():
        ranks = order(np.concatenate(vectors[name]), encode(examples))
        ratio = float(np.median(np.array(seconds[FIRST]) / np.array(seconds[name])))
        total, spearman = sum(seconds[name]), np.corrcoef(ranks, reference)[0, 1]
        same = float(np.mean(ranks[reference < top] < top))
        print(
            f"| {name} | {len(texts) / total:.1f} | {sum(n_tokens) / total:.0f} | {ratio:.2f} | {spearman:.4f} | {same:.1%} |"
        )


if __name__ == "__main__":
    main()
