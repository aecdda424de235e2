"""fastText on labelled texts: settings by size (method 3), training, folding, figures on the validation split.

With one thread fastText 0.9.3 initialises the first tenth of its input matrix and leaves the rest as the allocator gave
it: zeroes where the matrix is above glibc's largest mmap threshold (32 MB), anything below. The 2,000,000 buckets alone
exceed that from dim 8 on, so the configuration refuses less: two trainings on the same lines would differ.
"""

import logging
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from betr_spark.config.scorers import ClassifierScorer, FastTextTraining
from betr_spark.errors import ArtifactError, DataError
from betr_spark.kernels.text_preparation import as_buffers, prepare
from betr_spark.scoring.ngram_table import Table, stack
from betr_spark.scoring.score import score
from betr_spark.training.agreement import area_under_curve, in_words
from betr_spark.training.fold import fold

POSITIVE, NEGATIVE = "__label__1", "__label__0"
PAPER: dict[str, int | str] = {"ws": 10, "minCount": 5, "wordNgrams": 2, "bucket": 2_000_000, "loss": "softmax"}
DCLM: dict[str, int | str] = {**PAPER, "ws": 5, "minCount": 1}
PAPER_SETTINGS, DCLM_SETTINGS = (0.03, 5), (0.1, 5)
LARGE_SAMPLE = 500_000
SMALL_SAMPLE_GRID = ((0.5, 25), (1.0, 50))
LEAST_AUC, LEAST_SD = 0.6, 0.01
_LEAST_MIN_COUNT_DOCUMENTS = 200
_logger = logging.getLogger(__name__)


class Trained(NamedTuple):
    """A folded model, the settings it was trained with, and its figures on the validation split."""

    table: Table
    settings: dict[str, float | int | str]
    metrics: dict[str, float]


class Labelled(NamedTuple):
    """Texts held out, with their labels (1 positive, 0 negative)."""

    texts: Sequence[str]
    labels: NDArray[np.int8]


def candidates(scorer: FastTextTraining, *, n_documents: int) -> list[tuple[float, int]]:
    """Pairs (lr, epochs) to try: the configured ones; for `auto` the published ones from 500,000 documents on, else a grid."""
    published = DCLM_SETTINGS if isinstance(scorer, ClassifierScorer) else PAPER_SETTINGS
    grid = [published] if n_documents >= LARGE_SAMPLE else list(SMALL_SAMPLE_GRID)
    pairs = [
        (lr if scorer.lr == "auto" else scorer.lr, epochs if scorer.epochs == "auto" else scorer.epochs)
        for lr, epochs in grid
    ]
    return list(dict.fromkeys(pairs))


def write_lines(path: Path, rows: Iterable[tuple[str, Sequence[str]]]) -> Counter[str]:
    """Write training lines of (text, labels), the text prepared, skipping texts without a word; returns lines by label."""
    counts: Counter[str] = Counter()
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for text, labels in rows:
            prepared = prepare(text)
            if prepared.strip(" "):
                file.write(f"{' '.join(labels)} {prepared}\n")
                counts.update(labels)
    return counts


def train(scorer: FastTextTraining, rows: Iterable[tuple[str, int]], validation: Labelled, *, name: str) -> Trained:
    """Train, choosing by validation AUC among the candidates that trained (AUC >= 0.6 and sd of P >= 0.01).

    Args:
        scorer: hyper-parameters; a classifier has DCLM's, others the paper's.
        rows: (text, label) in an order that repeats; they go to a file, so only one is held at a time.
        validation: texts held out.
        name: of the scorer, for messages.

    Raises:
        DataError: a class is missing from either split.
        ArtifactError: no candidate trained; gives the figures.
    """
    check_validation(validation, name)
    with tempfile.TemporaryDirectory(prefix="betr-spark-train-") as folder:
        lines = Path(folder) / "train.txt"
        counts = write_lines(lines, ((text, (POSITIVE if label else NEGATIVE,)) for text, label in rows))
        n_documents, n_positive = counts.total(), counts[POSITIVE]
        if not n_documents:
            raise DataError(f"scorers.{name}: no document to train on has a word; raise sample.documents")
        tried = [
            _train_once(
                scorer,
                lines,
                validation,
                lr=lr,
                epochs=epochs,
                n_documents=n_documents,
                n_positive=n_positive,
                name=name,
            )
            for lr, epochs in candidates(scorer, n_documents=n_documents)
        ]
    return best_of(tried, name=name)


def check_validation(validation: Labelled, name: str) -> None:
    """Raise DataError unless both classes are there."""
    if len(set(validation.labels.tolist())) < 2:
        raise DataError(
            f"scorers.{name}: {len(validation.labels)} validation documents of one class; raise sample.documents"
        )


def best_of(tried: Sequence[Trained], *, name: str) -> Trained:
    """The one with the highest validation AUC of those that trained.

    Raises:
        ArtifactError: none did; gives the figures.
    """
    for one in tried:
        _logger.info("scorers.%s: %s: %s", name, in_words(one.settings), in_words(one.metrics))
    fit = [t for t in tried if t.metrics["validation_auc"] >= LEAST_AUC and t.metrics["validation_sd"] >= LEAST_SD]
    if not fit:
        figures = "; ".join(
            f"{_named(t)}: AUC {t.metrics['validation_auc']:.3f}, sd of P {t.metrics['validation_sd']:.2g}"
            for t in tried
        )
        raise ArtifactError(
            f"scorers.{name}: did not train on {tried[0].metrics['n_training']:.0f} documents ({figures}; wanted "
            f"AUC >= {LEAST_AUC} and sd >= {LEAST_SD}); raise sample.documents"
        )
    best = max(fit, key=lambda one: one.metrics["validation_auc"])
    if len(tried) > 1:
        _logger.info("scorers.%s: taken: %s", name, _named(best))
    return best


def _named(one: Trained) -> str:
    return f"lr {one.settings['lr']} x {one.settings['epochs']} epochs" if "lr" in one.settings else "linear model"


def score_texts(texts: Sequence[str], table: Table) -> NDArray[np.float32]:
    """Logits of texts, NaN where there is no word; through the kernel that scores the corpus."""
    words, logits = score(*as_buffers(texts), stack([table]))
    return np.where(words > 0, logits[:, 0], np.float32(np.nan))


def _train_once(
    scorer: FastTextTraining,
    lines: Path,
    validation: Labelled,
    *,
    lr: float,
    epochs: int,
    n_documents: int,
    n_positive: int,
    name: str,
) -> Trained:
    model, settings = _fit(scorer, lines, lr=lr, epochs=epochs, n_documents=n_documents, name=name)
    if set(model.get_labels()) != {POSITIVE, NEGATIVE}:
        raise DataError(
            f"training documents of one class only ({', '.join(model.get_labels())}); raise sample.documents"
        )
    table = fold(model, positive=POSITIVE)
    counts = {"n_training": float(n_documents), "n_positive": float(n_positive)}
    return Trained(table, settings, {**validated(table, validation), **counts})


def validated(table: Table, validation: Labelled) -> dict[str, float]:
    """Figures on documents held out."""
    logits = np.nan_to_num(score_texts(validation.texts, table), nan=0.0)
    return {
        "validation_auc": area_under_curve(logits, validation.labels),
        "validation_accuracy": float(np.mean((logits > 0) == (validation.labels == 1))),
        "validation_sd": float(expit(logits.astype(np.float64)).std()),
        "n_validation": float(len(validation.labels)),
    }


def _fit(
    scorer: FastTextTraining, lines: Path, *, n_documents: int, lr: float, epochs: int, name: str, **changed: str
) -> tuple[Any, dict[str, float | int | str]]:
    import fasttext  # noqa: PLC0415 - the driver alone needs it

    fixed = {**(DCLM if isinstance(scorer, ClassifierScorer) else PAPER), **changed}
    if n_documents < _LEAST_MIN_COUNT_DOCUMENTS:
        fixed["minCount"] = 1
    own = {"lr": lr, "dim": scorer.dim, "seed": scorer.seed}
    try:
        model = fasttext.train_supervised(
            input=str(lines), epoch=epochs, thread=scorer.threads, verbose=0, **own, **fixed
        )  # fmt: skip
    except (RuntimeError, ValueError) as error:  # NaN with a large lr; no word often enough
        raise ArtifactError(f"scorers.{name}.lr: fastText with lr {lr} x {epochs} epochs: {error}") from None
    return model, {**fixed, **own, "epochs": epochs, "threads": scorer.threads}


def train_heads(
    scorer: FastTextTraining,
    benchmarks: Sequence[str],
    rows: Iterable[tuple[str, Sequence[int]]],
    validation: Sequence[tuple[str, Sequence[int]]],
    *,
    settings: Mapping[str, float | int | str],
    name: str,
) -> list[Trained]:
    """Train one model with a head a benchmark, each against all the other documents.

    Args:
        scorer: hyper-parameters.
        benchmarks: their names.
        rows: (text, numbers of the benchmarks that it is positive for, none for a negative one) in an order that repeats.
        validation: the same, held out.
        settings: `lr` and `epochs` of the scorer's own model.
        name: of the scorer, for messages.

    Raises:
        DataError: a benchmark without a positive document.
    """
    with tempfile.TemporaryDirectory(prefix="betr-spark-train-") as folder:
        lines = Path(folder) / "train.txt"
        counts = write_lines(lines, ((text, [_head(n) for n in own] or [NEGATIVE]) for text, own in rows))
        if lacking := [benchmark for number, benchmark in enumerate(benchmarks) if not counts[_head(number)]]:
            raise DataError(
                f"scorers.{name}.per_benchmark: no document to train on for {lacking[0]}; raise sample.documents"
            )
        chosen = {"lr": float(settings["lr"]), "epochs": int(settings["epochs"])}
        model, settings = _fit(scorer, lines, n_documents=counts.total(), loss="ova", name=name, **chosen)  # type: ignore[arg-type]
    found = []
    for number in range(len(benchmarks)):
        table = fold(model, positive=_head(number))
        logits = np.nan_to_num(score_texts([text for text, _ in validation], table), nan=0.0)
        labels = np.array([number in own for _, own in validation], np.int8)
        metrics = {"n_positive": float(counts[_head(number)]), "n_validation": float(len(labels))}
        if 0 < labels.sum() < len(labels):
            metrics["validation_auc"] = area_under_curve(logits, labels)
        found.append(Trained(table, dict(settings), metrics))
    return found


def _head(number: int) -> str:
    return f"__label__benchmark{number}"
