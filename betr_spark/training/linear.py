"""A linear model on fastText's features, fitted to the whole target ranking of a small sample rather than to two labels.

Features are a document's words and hashed pairs of words, as in fastText and the kernel: counts divided by their number. The
model is a ridge regression on the normal scores of the documents' positions: it uses the whole sample, low ranks have little
weight, and the result is exactly a table that scores the corpus. The examples themselves have the score of the best document,
and a tenth of the documents' weight (docs/benefit.md). The fit repeats to the last bit for any number of threads.
"""

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse.linalg import lsqr
from scipy.special import expit, ndtri
from threadpoolctl import threadpool_limits

from betr_spark.errors import DataError
from betr_spark.kernels.text_preparation import as_buffers, prepare
from betr_spark.scoring.contributions import SHIFT
from betr_spark.scoring.lookup import look_up, max_tokens
from betr_spark.scoring.ngram_table import END_OF_LINE, NgramTable, SharedTable, stack
from betr_spark.training.agreement import positions
from betr_spark.training.records import Fitted, Labelled
from betr_spark.training.validation import best_of, check_validation, score_texts, validated

BUCKETS = 2_000_000
MIN_COUNT = 2
RIDGE = 1e-5
EXAMPLES_WEIGHT = 0.1  # of all examples together, relative to all documents
MAX_DOCUMENTS = 50_000  # of a sample: the driver holds its features, about 10 kB for each document
_STEPS = 200
_LINES_AT_ONCE = 500


class LinearModel:
    """The features of training documents, and tables fitted to orders of them."""

    def __init__(self, lines: Path) -> None:
        """Read the documents, one prepared text on each line; twice, to count the words before they get their numbers."""
        counts: Counter[str] = Counter()
        with lines.open(encoding="utf-8", newline="\n") as file:
            for line in file:
                counts.update(line.rstrip("\n").split(" "))
        words = sorted(word for word, count in counts.items() if count >= MIN_COUNT and word not in ("", END_OF_LINE))
        self._words = [END_OF_LINE, *words]
        empty = np.zeros(len(self._words), np.float32), np.zeros(BUCKETS, np.float32)
        shared_table = stack([NgramTable.build(self._words, *empty, word_ngrams=2)])[0]
        assert isinstance(shared_table, SharedTable)
        self._vocabulary = shared_table.vocabulary
        with lines.open(encoding="utf-8", newline="\n") as file:
            counted = sp.vstack([self._counted(texts) for texts in _slices(file)], format="csr")
        used, numbers = np.unique(counted.indices, return_inverse=True)
        counted.indices = numbers.astype(np.int32)
        counted.resize(counted.shape[0], len(used))
        documents = np.bincount(counted.indices, minlength=len(used))
        rarity = np.log((1 + counted.shape[0]) / (1 + documents)) + 1
        shares = sp.diags_array(1 / np.maximum(1, counted.sum(axis=1))) @ counted @ sp.diags_array(rarity)
        size = np.sqrt(shares.multiply(shares).sum() / shares.shape[0])  # makes `RIDGE` independent of lengths
        self._used, self._scale, self._features = used, rarity / size, (shares / size).tocsr()

    def fit(self, scores: NDArray[np.float64], weight: NDArray[np.float64], *, ridge: float = RIDGE) -> NgramTable:
        """Fit a table.

        Args:
            scores: target value of each document, [n].
            weight: of each document, [n].
            ridge: penalty on the squared weights, for features of mean size 1.
        """
        root = np.sqrt(weight)
        with threadpool_limits(1, "blas"):
            rows, damp = sp.diags_array(root) @ self._features, float(np.sqrt(ridge * weight.sum()))
            solution = lsqr(rows, root * scores, damp=damp, iter_lim=_STEPS)[0]
        weights = np.zeros(len(self._words) + BUCKETS, np.float32)
        weights[self._used] = solution * self._scale
        return NgramTable.build(self._words, weights[: len(self._words)], weights[len(self._words) :], word_ngrams=2)

    def _counted(self, texts: Sequence[str]) -> sp.csr_array:
        """Counts of the words and pairs of n documents, [n, words + BUCKETS]."""
        data, offsets = as_buffers(texts)
        words, buckets = (np.empty(shape, np.int32) for shape in (max_tokens(offsets), (1, max_tokens(offsets))))
        first = look_up(data, offsets, self._vocabulary, BUCKETS, words, buckets)
        n_tokens = int(first[-1])
        document = np.repeat(np.arange(len(texts)), np.diff(first))
        known = np.flatnonzero(words[:n_tokens])
        paired = np.ones(n_tokens, bool)
        paired[first[1:] - 1] = False
        columns = np.concatenate([words[known].astype(np.int64) - 1, len(self._words) + buckets[0, :n_tokens][paired]])
        rows = np.concatenate([document[known], document[paired]])
        shape = len(texts), len(self._words) + BUCKETS
        return sp.coo_array((np.ones(len(rows)), (rows, columns)), shape=shape).tocsr()


def normal_scores(ranks: NDArray[np.int64]) -> NDArray[np.float64]:
    """Quantiles of the normal distribution for positions in an order, 0 the best, [n]."""
    scores: NDArray[np.float64] = ndtri(1 - (ranks + 0.5) / len(ranks))
    return scores


class RankedDocument(NamedTuple):
    """A document of the target ranking.

    text: its text. positive: whether its label is 1. benchmark_keys: for each benchmark scorer (score, cosine), the higher the
    better.
    """

    text: str
    positive: bool
    benchmark_keys: Sequence[tuple[float, float]]


def train_on_order(
    rows: Iterable[RankedDocument],
    examples: Sequence[Sequence[str]],
    validation: Labelled,
    benchmark_labels: Sequence[NDArray[np.int8]],
    *,
    name: str,
) -> list[Fitted]:
    """Fit the scorer's table to the target ranking, and a table for each benchmark scorer to the order of its benchmark.

    Args:
        rows: documents in the order of the target ranking, the best first; they go to a file, so only features are in memory.
        examples: of each benchmark; in the order of the benchmark scorers if there are any.
        validation: documents that are held out; the logits are calibrated on them.
        benchmark_labels: for each benchmark scorer, the labels of the validation documents.
        name: of the scorer, for messages.

    Returns:
        The scorer, then the benchmark scorers.

    Raises:
        DataError: the validation documents have one class.
        ArtifactError: the scorer does not separate the validation documents.
    """
    check_validation(validation, name)
    n_positive, keys = 0, []
    with tempfile.TemporaryDirectory(prefix="betr-spark-train-") as folder:
        lines = Path(folder) / "train.txt"
        with lines.open("w", encoding="utf-8", newline="\n") as file:
            for row in rows:
                if (prepared := prepare(row.text)).strip(" "):
                    file.write(f"{prepared}\n")
                    keys.append(np.array(row.benchmark_keys, np.float64).reshape(-1, 2))
                    n_positive += row.positive
            n_examples = np.array([_write(file, texts) for texts in examples], np.int64)
        if not keys:
            raise DataError(f"scorers.{name}: no training document has a word; increase sample.documents")
        model = LinearModel(lines)
    by_benchmark = np.stack(keys)
    tables = [_fit_order(model, np.arange(len(keys)), n_examples)]
    for index in range(len(benchmark_labels)):
        ranks = positions(by_benchmark[:, index, 0], by_benchmark[:, index, 1])
        tables.append(_fit_order(model, ranks, n_examples, benchmark=index))
    logits = [np.nan_to_num(score_texts(validation.texts, table)) for table in tables]
    line = calibration(logits[0], validation.labels)
    benchmark_line = line  # all benchmark scorers are fitted to the same scores, so they share a line
    if benchmark_labels and 0 < (pooled := np.concatenate(benchmark_labels)).sum() < len(pooled):
        benchmark_line = calibration(np.concatenate(logits[1:]), pooled)
    scaled = [on_line(tables[0], line), *(on_line(table, benchmark_line) for table in tables[1:])]
    settings: dict[str, float | int | str] = {
        "model": "linear", "ridge": RIDGE, "examples_weight": EXAMPLES_WEIGHT, "minCount": MIN_COUNT, "bucket": BUCKETS,
    }  # fmt: skip
    metrics = validated(scaled[0], validation, n_training=len(keys), n_positive=n_positive)
    fitted = [best_of([Fitted(scaled[0], {**settings, SHIFT: line[1]}, metrics)], name=name)]
    for table, labels in zip(scaled[1:], benchmark_labels, strict=True):
        metrics = validated(table, validation._replace(labels=labels), n_training=len(keys))
        fitted.append(Fitted(table, {**settings, SHIFT: benchmark_line[1]}, metrics))
    return fitted


def _fit_order(
    model: LinearModel, ranks: NDArray[np.int64], n_examples: NDArray[np.int64], benchmark: int | None = None
) -> NgramTable:
    """Fit to the normal scores of positions; the examples of the benchmark have the best score.

    Args:
        model: features of the documents, then of the examples of each benchmark.
        ranks: position of each document, [n].
        n_examples: number of examples of each benchmark.
        benchmark: index of the benchmark whose examples count; all examples without it.
    """
    counted = n_examples if benchmark is None else np.where(np.arange(len(n_examples)) == benchmark, n_examples, 0)
    weight = np.repeat((counted > 0) * EXAMPLES_WEIGHT * len(ranks) / max(1, counted.sum()), n_examples)
    scores = normal_scores(ranks)
    return model.fit(np.append(scores, np.full(len(weight), scores.max())), np.append(np.ones(len(ranks)), weight))


def _write(file: TextIO, texts: Iterable[str]) -> int:
    """Write prepared texts that have a word, one on each line; returns how many."""
    lines = [f"{prepared}\n" for text in texts if (prepared := prepare(text)).strip(" ")]
    file.writelines(lines)
    return len(lines)


def _slices(lines: Iterator[str]) -> Iterator[list[str]]:
    while texts := [line.rstrip("\n") for line in islice(lines, _LINES_AT_ONCE)]:
        yield texts


def calibration(logits: NDArray[np.float32], labels: NDArray[np.int8]) -> tuple[float, float]:
    """Slope (not below 0) and shift that turn logits into log-odds of the positive class, with equal weight for both classes.

    The targets are Platt's (1999), so the line is finite if the classes are separable.

    Args:
        logits: of documents that the table was not fitted to, [n].
        labels: their classes, 1 and 0; both occur.
    """
    n_positive, n_negative = int((labels == 1).sum()), int((labels == 0).sum())
    weight = np.where(labels == 1, 0.5 / n_positive, 0.5 / n_negative)
    target = np.where(labels == 1, (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2))
    wide = logits.astype(np.float64)

    def loss(line: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        odds = line[0] * wide + line[1]
        rest = weight * (expit(odds) - target)
        return float(weight @ (np.logaddexp(0, odds) - target * odds)), np.array([rest @ wide, rest.sum()])

    slope, shift = minimize(loss, np.array([1.0, 0.0]), jac=True, method="BFGS").x
    return max(float(slope), 0.0), float(shift)


def on_line(table: NgramTable, line: tuple[float, float]) -> NgramTable:
    """Scale and shift a table's logits; exact, since they are means of weights."""
    slope, shift = (np.float32(value) for value in line)
    return NgramTable(
        table.words, table.word_offsets, table.word_weights * slope + shift, table.bucket_weights * slope + shift,
        table.word_ngrams,
    )  # fmt: skip
