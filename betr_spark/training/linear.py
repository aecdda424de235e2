"""A linear model on fastText's features, fitted to the whole order of a small sample rather than to two labels.

Features are a document's words and hashed pairs of words, just as fastText and the kernel have them: counts over their number.
Ridge regression on the normal scores of the documents' places; so all of the sample is used, ranks far down weigh little,
and the result folds without rest into the table that scores the corpus. The examples themselves are wanted as high as the best
document, and weigh a tenth of all (docs/benefit.md). It repeats to the last bit, whatever the threads.
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
from betr_spark.scoring.lookup import look_up, max_tokens
from betr_spark.scoring.ngram_table import END_OF_LINE, NgramTable, SharedTable, stack
from betr_spark.training.fasttext import Labelled, Trained, best_of, check_validation, score_texts, validated

BUCKETS = 2_000_000
LEAST_COUNT = 2
RIDGE = 1e-5
EXAMPLES_WEIGHT = 0.1  # of all examples together, that of all documents being 1
MOST_DOCUMENTS = 50_000  # of a sample: its features are held on the driver, some 10 kB a document
_STEPS = 200
_LINES_AT_ONCE = 500


class LinearModel:
    """The features of training documents, and tables fitted to orders of them."""

    def __init__(self, lines: Path) -> None:
        """Read the documents, one a line of prepared text; twice, so that words are counted before they are numbered."""
        counts: Counter[str] = Counter()
        with lines.open(encoding="utf-8", newline="\n") as file:
            for line in file:
                counts.update(line.rstrip("\n").split(" "))
        own = ("", END_OF_LINE)
        words = sorted(word for word, count in counts.items() if count >= LEAST_COUNT and word not in own)
        self._words = [END_OF_LINE, *words]
        empty = np.zeros(len(self._words), np.float32), np.zeros(BUCKETS, np.float32)
        shared_table = stack([NgramTable.build(self._words, *empty, word_ngrams=2)])[0]
        assert isinstance(shared_table, SharedTable)
        self._vocabulary = shared_table.vocabulary
        with lines.open(encoding="utf-8", newline="\n") as file:
            counted = sp.vstack([self._counted(some) for some in _slices(file)], format="csr")
        used, numbers = np.unique(counted.indices, return_inverse=True)
        counted.indices = numbers.astype(np.int32)
        counted.resize(counted.shape[0], len(used))
        documents = np.bincount(counted.indices, minlength=len(used))
        rarity = np.log((1 + counted.shape[0]) / (1 + documents)) + 1
        shares = sp.diags_array(1 / np.maximum(1, counted.sum(axis=1))) @ counted @ sp.diags_array(rarity)
        size = np.sqrt(
            shares.multiply(shares).sum() / shares.shape[0]
        )  # so that `RIDGE` means the same for any lengths
        self._used, self._scale, self._features = used, rarity / size, (shares / size).tocsr()

    def fit(self, scores: NDArray[np.float64], weight: NDArray[np.float64], *, ridge: float = RIDGE) -> NgramTable:
        """Fit a table.

        Args:
            scores: what each document should come to, [n].
            weight: of each document, [n].
            ridge: penalty on the squares of the weights of features of mean size 1.
        """
        root = np.sqrt(weight)
        with threadpool_limits(1, "blas"):
            rows, damp = sp.diags_array(root) @ self._features, float(np.sqrt(ridge * weight.sum()))
            found = lsqr(rows, root * scores, damp=damp, iter_lim=_STEPS)[0]
        weights = np.zeros(len(self._words) + BUCKETS, np.float32)
        weights[self._used] = found * self._scale
        return NgramTable.build(self._words, weights[: len(self._words)], weights[len(self._words) :], word_ngrams=2)

    def _counted(self, texts: Sequence[str]) -> sp.csr_array:
        """Counts of the words and pairs of some documents, [n, words + BUCKETS]."""
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


def normal_scores(places: NDArray[np.int64]) -> NDArray[np.float64]:
    """Quantiles of the normal distribution for places in an order, 0 the best, [n]."""
    found: NDArray[np.float64] = ndtri(1 - (places + 0.5) / len(places))
    return found


class Placed(NamedTuple):
    """A document in the teacher's order: its text, whether it is positive, and for each head what orders it (score, cosine)."""

    text: str
    positive: bool
    heads: Sequence[tuple[float, float]]


def train_on_order(
    rows: Iterable[Placed],
    examples: Sequence[Sequence[str]],
    validation: Labelled,
    head_labels: Sequence[NDArray[np.int8]],
    *,
    name: str,
) -> list[Trained]:
    """Fit the scorer's table, and one to the order of each head.

    Args:
        rows: documents in the teacher's order, the best first; they go to a file, so that only features are held.
        examples: of each benchmark; with heads, in their order.
        validation: documents held out, which the logits are calibrated on.
        head_labels: for each head, which of them are its own.
        name: of the scorer, for messages.

    Raises:
        DataError: validation documents of one class.
        ArtifactError: the scorer says nothing of the validation documents.
    """
    check_validation(validation, name)
    n_positive, orders = 0, []
    with tempfile.TemporaryDirectory(prefix="betr-spark-train-") as folder:
        lines = Path(folder) / "train.txt"
        with lines.open("w", encoding="utf-8", newline="\n") as file:
            for row in rows:
                if (prepared := prepare(row.text)).strip(" "):
                    file.write(f"{prepared}\n")
                    orders.append(np.array(row.heads, np.float64).reshape(-1, 2))
                    n_positive += row.positive
            n_examples = [_write(file, own) for own in examples]
        if not orders:
            raise DataError(f"scorers.{name}: no document to train on has a word; raise sample.documents")
        model = LinearModel(lines)
    n, keys = len(orders), np.stack(orders)
    tables: list[NgramTable] = []
    found: list[Trained] = []
    settings: dict[str, float | int | str] = {
        "model": "linear",
        "ridge": RIDGE,
        "examples_weight": EXAMPLES_WEIGHT,
        "minCount": LEAST_COUNT,
        "bucket": BUCKETS,
    }
    for head in range(1 + len(head_labels)):
        order = np.arange(n) if not head else np.lexsort((-keys[:, head - 1, 1], -keys[:, head - 1, 0]))
        places = np.empty(n, np.int64)
        places[order] = np.arange(n)
        count = np.array([m * (not head or number == head - 1) for number, m in enumerate(n_examples)])
        weight = np.repeat((count > 0) * EXAMPLES_WEIGHT * n / max(1, count.sum()), n_examples)
        scores = normal_scores(places)
        tables.append(model.fit(np.append(scores, np.full(len(weight), scores.max())), np.append(np.ones(n), weight)))
    logits = [np.nan_to_num(score_texts(validation.texts, table)) for table in tables]
    line = calibration(logits[0], validation.labels)
    lines_of_heads = line  # all heads are fitted to the same scores, so one line serves them, whatever is known of each
    if head_labels and 0 < (pooled := np.concatenate(head_labels)).sum() < len(pooled):
        lines_of_heads = calibration(np.concatenate(logits[1:]), pooled)
    for head, (table, labels) in enumerate(zip(tables, [validation.labels, *head_labels], strict=True)):
        scaled = on_line(table, lines_of_heads if head else line)
        counts = {"n_training": float(n)} if head else {"n_training": float(n), "n_positive": float(n_positive)}
        metrics = validated(scaled, validation._replace(labels=labels)) if 0 < labels.sum() < len(labels) else {}
        found.append(Trained(scaled, settings, {**metrics, **counts}))
    return [best_of(found[:1], name=name), *found[1:]]


def _write(file: TextIO, texts: Iterable[str]) -> int:
    """Write prepared texts that have a word, one a line; how many."""
    lines = [f"{prepared}\n" for text in texts if (prepared := prepare(text)).strip(" ")]
    file.writelines(lines)
    return len(lines)


def _slices(lines: Iterator[str]) -> Iterator[list[str]]:
    while some := [line.rstrip("\n") for line in islice(lines, _LINES_AT_ONCE)]:
        yield some


def calibration(logits: NDArray[np.float32], labels: NDArray[np.int8]) -> tuple[float, float]:
    """Slope (not below 0) and shift that make log-odds of the positive class of logits, both classes weighing the same.

    With Platt's targets (1999), which are finite where the classes are separate.

    Args:
        logits: of documents that the table was not fitted to, [n].
        labels: their classes, 1 and 0; both are there.
    """
    n_positive, n_negative = int((labels == 1).sum()), int((labels == 0).sum())
    weight = np.where(labels == 1, 0.5 / n_positive, 0.5 / n_negative)
    wanted = np.where(labels == 1, (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2))
    wide = logits.astype(np.float64)

    def loss(line: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        odds = line[0] * wide + line[1]
        rest = weight * (expit(odds) - wanted)
        return float(weight @ (np.logaddexp(0, odds) - wanted * odds)), np.array([rest @ wide, rest.sum()])

    slope, shift = minimize(loss, np.array([1.0, 0.0]), jac=True, method="BFGS").x
    return max(float(slope), 0.0), float(shift)


def on_line(table: NgramTable, line: tuple[float, float]) -> NgramTable:
    """Scale and shift a table's logits; exact, since they are means of weights."""
    slope, shift = (np.float32(value) for value in line)
    return NgramTable(
        table.words, table.word_offsets, table.word_weights * slope + shift, table.bucket_weights * slope + shift,
        table.word_ngrams,
    )  # fmt: skip
