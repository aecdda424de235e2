"""Ranking and training on samples of growing size: time, and what the driver receives.

    python benchmarks/sample_scale.py [--documents 10000 30000 60000 100000 200000] [--spark "--conf key=value"]

Generates documents of synthetic words (about 60 each; a fifth of the documents has words of the examples) and runs `rank` and
`train` on a sample of all documents, in a separate process for each size. The encoder is a table of random word vectors of
width 384, so everything except the encoder is measured; `embedding.py` measures encoders. Prints the time of each stage, how
much Spark's tasks sent to the driver next to the size of the labels' text, and the peak memory of the driver's Python after
each stage. `train` holds the features of a linear model there, or above 50,000 documents the matrix of fastText (1 GB).
"""

import argparse
import json
import resource
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from dedup_scale import measured

WORDS_A_TEXT = 60
TOPIC = 200  # words of the examples, the first of VOCABULARY
VOCABULARY = 20_000


def spelt() -> list[str]:
    """Every word, of four letters."""
    letters = [chr(ord("a") + i) for i in range(26)]
    return ["".join(letters[(word // 26**power) % 26] for power in range(4)) for word in range(VOCABULARY)]


def save_encoder(folder: Path) -> Path:
    """A sentence-transformers model that gives a text the mean of its words' vectors."""
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding  # noqa: PLC0415
    from tokenizers import Tokenizer, models, pre_tokenizers  # noqa: PLC0415

    words = {word: i for i, word in enumerate(["[UNK]", *spelt()])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    vectors = np.random.default_rng(0).normal(size=(len(words), 384)).astype(np.float32)
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_weights=vectors)], device="cpu").save(str(folder))
    return folder


def synthetic_texts(n: int, *, seed: int, topical: float) -> list[str]:
    """Texts of random words; a share of the texts has mostly words of the topic."""
    draw = np.random.default_rng(seed)
    words = (draw.zipf(1.3, size=(n, WORDS_A_TEXT)) + TOPIC) % VOCABULARY
    of_topic = (draw.random(n) < topical)[:, None] & (draw.random(words.shape) < 0.6)
    words = np.where(of_topic, draw.integers(0, TOPIC, words.shape), words)
    names = spelt()
    return [" ".join(names[word] for word in row) for row in words.tolist()]


def measure(n: int, folder: str) -> None:
    """Rank and train on n documents; prints JSON."""
    from betr_spark.config import Config  # noqa: PLC0415
    from betr_spark.pipeline.run import run_all  # noqa: PLC0415
    from betr_spark.spark.session import build_session  # noqa: PLC0415

    root = Path(folder)
    (root / "docs").mkdir(parents=True)
    for part in range(max(1, n // 10_000)):
        count = min(n, 10_000)
        texts = synthetic_texts(count, seed=part, topical=0.2)
        ids = [f"{part}-{i}" for i in range(count)]
        pq.write_table(pa.table({"id": ids, "text": texts}), root / f"docs/{part}.parquet")
    lines = [json.dumps({"text": text}) for text in synthetic_texts(500, seed=2**31, topical=1.0)]
    (root / "examples.jsonl").write_text("\n".join(lines), encoding="utf-8")
    config = Config.model_validate(
        {
            "input": {"path": str(root / "docs"), "id": "id"},
            "output": str(root / "out"),
            "targets": {"topic": {"path": str(root / "examples.jsonl"), "template": "{text}"}},
            "sample": {"documents": n},
            "encoder": {"model": str(save_encoder(root / "encoder"))},
        }
    )
    spark = build_session("sample scale")
    start = time.perf_counter()
    run_all(spark, config, "rank")
    ranked = time.perf_counter()
    peak_of_rank = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    metrics = run_all(spark, config, "train")[0].metrics
    done = time.perf_counter()
    labels = n // 5 * WORDS_A_TEXT * 5
    spark.stop()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seconds = {"rank": ranked - start, "train": done - ranked}
    print(json.dumps({"n": n, **seconds, "peak_of_rank": peak_of_rank, "peak": peak, "labels": labels, **metrics}))


def main() -> None:
    """Measure every size and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, nargs="+", default=[10_000, 30_000, 60_000, 100_000, 200_000])
    parser.add_argument("--spark", default="")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        measure(int(arguments.one[0]), arguments.one[1])
        return
    print(
        "| sample | rank s | train s | text of the labels MiB | sent to the driver MiB | most by one job MiB |",
        end="",
    )
    print(" Python after rank, after train MiB | validation AUC |\n|---|---|---|---|---|---|---|---|")
    for n in arguments.documents:
        folder = Path(tempfile.mkdtemp(prefix="betr-spark-sample-"))
        try:
            row = measured(Path(__file__), n, folder, arguments.spark)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        mib = " | ".join(f"{row[name] / 2**20:.1f}" for name in ("labels", "sent", "most"))
        print(
            f"| {n} | {row['rank']:.0f} | {row['train']:.0f} | {mib} | {row['peak_of_rank']:.0f}, "
            f"{row['peak']:.0f} | {row['validation_auc']:.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
