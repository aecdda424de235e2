"""FastText on labelled texts: settings by size, training, folding, figures on the validation split.

With one thread fastText 0.9.3 initialises the first tenth of its input matrix and leaves the rest as the allocator returns it:
zeroes if the matrix is above glibc's largest mmap threshold (32 MB), any values below it. The 2,000,000 buckets alone exceed
that from dim 8 on, so the configuration refuses a smaller dim: two trainings on the same lines would differ.
"""

import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from betr_spark.config.scorers import FastTextTraining
from betr_spark.errors import ArtifactError, DataError
from betr_spark.kernels.text_preparation import prepare
from betr_spark.training.agreement import area_under_curve
from betr_spark.training.fold import fold
from betr_spark.training.records import FitMetrics, Fitted, HyperParameters, Labelled
from betr_spark.training.validation import best_of, check_validation, score_texts, validated

POSITIVE, NEGATIVE = "__label__1", "__label__0"
PAPER: dict[str, int | str] = {"ws": 10, "minCount": 5, "wordNgrams": 2, "bucket": 2_000_000, "loss": "softmax"}
DCLM: dict[str, int | str] = {**PAPER, "ws": 5, "minCount": 1}
LARGE_SAMPLE = 500_000
SMALL_SAMPLE_GRID = (HyperParameters(0.5, 25), HyperParameters(1.0, 50))
_MIN_COUNT_DOCUMENTS = 200


class Recipe(NamedTuple):
    """Published settings: those that are chosen for large samples, and those that are fixed."""

    large: HyperParameters
    fixed: Mapping[str, int | str]


PAPER_RECIPE = Recipe(HyperParameters(0.03, 5), PAPER)
DCLM_RECIPE = Recipe(HyperParameters(0.1, 5), DCLM)


def candidates(scorer: FastTextTraining, *, n_documents: int, recipe: Recipe = PAPER_RECIPE) -> list[HyperParameters]:
    """Hyper-parameters to try: the configured ones; for `auto` the published ones from 500,000 documents on, else a grid."""
    grid = [recipe.large] if n_documents >= LARGE_SAMPLE else list(SMALL_SAMPLE_GRID)
    pairs = [
        HyperParameters(lr if scorer.lr == "auto" else scorer.lr, epochs if scorer.epochs == "auto" else scorer.epochs)
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


def train(
    scorer: FastTextTraining,
    rows: Iterable[tuple[str, int]],
    validation: Labelled,
    *,
    name: str,
    recipe: Recipe = PAPER_RECIPE,
) -> Fitted:
    """Train each candidate, and return the one with the highest validation AUC that passes (AUC >= 0.6, sd of P >= 0.01).

    Args:
        scorer: hyper-parameters.
        rows: (text, label) in an order that repeats; they go to a file, so only one is in memory at a time.
        validation: texts that are held out.
        name: of the scorer, for messages.
        recipe: the paper's settings or DCLM's.

    Raises:
        DataError: a class is missing from either split.
        ArtifactError: no candidate passes; gives the figures.
    """
    check_validation(validation, name)
    with tempfile.TemporaryDirectory(prefix="betr-spark-train-") as folder:
        lines = Path(folder) / "train.txt"
        counts = write_lines(lines, ((text, (POSITIVE if label else NEGATIVE,)) for text, label in rows))
        if not counts:
            raise DataError(f"scorers.{name}: no training document has a word; increase sample.documents")
        if len(counts) < 2:
            raise DataError(f"scorers.{name}: all training documents have one label; increase sample.documents")
        tried = [
            _train_candidate(scorer, lines, validation, chosen, counts=counts, recipe=recipe, name=name)
            for chosen in candidates(scorer, n_documents=counts.total(), recipe=recipe)
        ]
    return best_of(tried, name=name)


def _train_candidate(
    scorer: FastTextTraining,
    lines: Path,
    validation: Labelled,
    chosen: HyperParameters,
    *,
    counts: Counter[str],
    recipe: Recipe,
    name: str,
) -> Fitted:
    model, settings = _fit(scorer, lines, chosen, n_documents=counts.total(), fixed=recipe.fixed, name=name)
    table = fold(model, positive=POSITIVE)
    return Fitted(
        table,
        settings,
        validated(table, validation, n_training=counts.total(), n_positive=counts[POSITIVE]),
        chosen,
    )


def _fit(
    scorer: FastTextTraining,
    lines: Path,
    chosen: HyperParameters,
    *,
    n_documents: int,
    fixed: Mapping[str, int | str],
    name: str,
) -> tuple[Any, dict[str, float | int | str]]:
    import fasttext  # noqa: PLC0415 - only the driver needs it

    fixed = {**fixed, "minCount": 1} if n_documents < _MIN_COUNT_DOCUMENTS else dict(fixed)
    configured = {"lr": chosen.lr, "dim": scorer.dim, "seed": scorer.seed}
    try:
        model = fasttext.train_supervised(
            input=str(lines), epoch=chosen.epochs, thread=scorer.threads, verbose=0, **configured, **fixed
        )
    except (RuntimeError, ValueError) as error:  # NaN with a large lr; no word is frequent enough
        raise ArtifactError(f"scorers.{name}.lr: fastText with {chosen}: {error}") from None
    return model, {**fixed, **configured, "epochs": chosen.epochs, "threads": scorer.threads}


def train_benchmark_scorers(
    scorer: FastTextTraining,
    benchmarks: Sequence[str],
    rows: Iterable[tuple[str, Sequence[int]]],
    validation: Sequence[tuple[str, Sequence[int]]],
    *,
    chosen: HyperParameters,
    name: str,
) -> list[Fitted]:
    """Train one model with a label for each benchmark, one against all, and fold it into one table for each benchmark.

    Args:
        scorer: hyper-parameters.
        benchmarks: their names.
        rows: (text, indices of the benchmarks that it is positive for, none for a negative) in an order that repeats.
        validation: the same, held out.
        chosen: the hyper-parameters of the scorer that the benchmark scorers belong to.
        name: of that scorer, for messages.

    Raises:
        DataError: a benchmark has no positive document.
    """
    with tempfile.TemporaryDirectory(prefix="betr-spark-train-") as folder:
        lines = Path(folder) / "train.txt"
        counts = write_lines(lines, ((text, [_label(i) for i in indices] or [NEGATIVE]) for text, indices in rows))
        if missing := [benchmark for index, benchmark in enumerate(benchmarks) if not counts[_label(index)]]:
            raise DataError(
                f"scorers.{name}.per_benchmark: no training document for benchmark {missing[0]}; increase sample.documents"
            )
        fixed = {**PAPER, "loss": "ova"}
        model, settings = _fit(scorer, lines, chosen, n_documents=counts.total(), fixed=fixed, name=name)
    fitted = []
    texts = [text for text, _ in validation]
    for index in range(len(benchmarks)):
        table = fold(model, positive=_label(index))
        labels = np.array([index in indices for _, indices in validation], np.int8)
        auc = None
        if 0 < labels.sum() < len(labels):
            auc = area_under_curve(np.nan_to_num(score_texts(texts, table), nan=0.0), labels)
        metrics = FitMetrics(validation_auc=auc, n_validation=len(labels), n_positive=counts[_label(index)])
        fitted.append(Fitted(table, settings, metrics, chosen))
    return fitted


def _label(index: int) -> str:
    return f"__label__benchmark{index}"
