"""Which ranking and which scorer helps: bits per byte of held-out items on ../shared/data, compared with random documents.

    python benchmarks/benefit.py OUTPUT [--half all|tuning|reporting]
        [--part target-ranking|scorers|variants|curve|sanity] [--sample 10000] [--draws 1]

Holds out a third of every benchmark's rows (for gsm8k its test file) as items, and embeds all documents and the remaining rows
once with the package's `rank` (OUTPUT keeps the vectors). Then one part runs in this process. `target-ranking` orders all
documents by each granularity and aggregate. `scorers` trains scorers on a sample that is ranked alone, as `rank` and `train`
do, and scores all documents. `variants` and `curve` train linear models of other settings and scorers of growing samples.
`sanity` measures selections whose result is known. All parts except `sanity` and `variants` also print how well the orders
agree with the target ranking. Models and intervals are those of `betr-spark evaluate`. The two halves have different
benchmarks and sources: a setting that is chosen on one half is reported on the other half.
"""

import argparse
import hashlib
import itertools
import json
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
import yaml
from deltalake import DeltaTable
from numpy.typing import NDArray
from scorers import SHARED, TARGETS, command

from betr_spark.config.ranking import EncoderConfig
from betr_spark.config.scorers import BetrScorer, ClassifierScorer, FastTextTraining
from betr_spark.config.targets import TargetConfig
from betr_spark.errors import ArtifactError
from betr_spark.evaluate.benefit import ALL_TARGETS, GENERAL, TARGET, Change, Items, changes
from betr_spark.evaluate.byte_pairs import encode, train_tokenizer
from betr_spark.evaluate.kneser_ney import KneserNey
from betr_spark.kernels.text_preparation import as_buffers, prepare
from betr_spark.ranking.best_rank import TopCosines, best_ranks
from betr_spark.ranking.encoder import embed
from betr_spark.ranking.query_vectors import query_vectors
from betr_spark.scoring.dsir import LogRatioTable, bucket_counts
from betr_spark.scoring.ngram_table import Table
from betr_spark.targets.choice import balanced
from betr_spark.targets.examples import examples_of
from betr_spark.training.agreement import positions
from betr_spark.training.fasttext import DCLM_RECIPE, train
from betr_spark.training.linear import (
    EXAMPLES_WEIGHT,
    RIDGE,
    LinearModel,
    RankedDocument,
    normal_scores,
    train_on_order,
)
from betr_spark.training.records import Labelled
from betr_spark.training.validation import score_texts

HALVES = {
    "tuning": (
        ("webquestions", "humaneval"),
        ("python-stdlib", "foldoc", "abc-news", "movie-reviews", "openstax-economics", "postgresql-docs"),
    ),
    "reporting": (
        ("gsm8k", "strategyqa", "qasc"),
        ("gcide", "openstax-physics", "openstax-biology", "python-docs", "speeches", "anarchist-faq"),
    ),
}
AGGREGATES = ("best_rank", "mean_log_rank", "mean_reciprocal_rank")
BUDGETS = (0.03, 0.1, 0.3)
N_GENERAL, VOCABULARY = 500, 8_192
DRAW = ", draw "
POSITIVE_FRACTION = 0.10
TARGET_RANKING = "target ranking, all documents"
TRAIN = partial(KneserNey, order=4, n_vocabulary=VOCABULARY)


class World(NamedTuple):
    """Documents (texts, tokens, vectors [n, d]), examples (benchmarks, texts, vectors), and held-out items."""

    texts: list[str]
    tokens: list[NDArray[np.uint16]]
    vectors: NDArray[np.float32]
    benchmarks: list[str]
    examples: list[str]
    example_vectors: NDArray[np.float32]
    sets: list[Items]


def held_out(line: str) -> bool:
    """Whether a row is an item: true for a third of the rows, by a hash."""
    return hashlib.sha256(line.encode()).digest()[0] % 3 == 0


def prepared(output: Path, documents: Path, targets: Path, pool: int) -> dict[str, tuple[Path, Path, str]]:
    """Split the benchmarks' files and embed; return the train file, items file, and template of each benchmark."""
    files = split(output, targets)
    settings = {
        "input": {"path": str(documents), "id": "id", "source": "domain"},
        "output": str(output / "out"),
        "targets": {name: {"path": str(path), "template": template} for name, (path, _, template) in files.items()},
        "sample": {"documents": pool},
        "selections": {},
    }
    config = output / "conf.yaml"
    config.write_text(yaml.safe_dump(settings), encoding="utf-8")
    command(config, "rank")
    return files


def split(output: Path, targets: Path) -> dict[str, tuple[Path, Path, str]]:
    """Split the benchmarks' files; return the train file, items file, and template of each benchmark."""
    files = {}
    (output / "targets").mkdir(parents=True, exist_ok=True)
    for name, (file, template) in TARGETS.items():
        lines = (targets / file).read_text(encoding="utf-8").splitlines()
        test = targets / "gsm8k.test.jsonl"
        items = test.read_text(encoding="utf-8").splitlines() if name == "gsm8k" else [r for r in lines if held_out(r)]
        parts = output / f"targets/{name}.train.jsonl", output / f"targets/{name}.items.jsonl"
        examples = lines if name == "gsm8k" else [row for row in lines if not held_out(row)]
        for part, rows in zip(parts, (examples, items), strict=True):
            part.write_text("\n".join(rows) + "\n", encoding="utf-8")
        files[name] = (*parts, template)
    return files


def world(output: Path, documents: Path, targets: Path, half: str, pool: int) -> World:
    """Read the documents, examples and items of one half."""
    files = prepared(output, documents, targets, pool)
    names, sources = HALVES.get(half, (tuple(TARGETS), None))
    rows = pq.read_table(documents, columns=["id", "domain", "text"]).to_pylist()
    rows = [row for row in rows if sources is None or row["domain"] in sources]
    chosen = set(DeltaTable(str(output / "out/_sample")).to_pyarrow_table(columns=["doc_id"]).column(0).to_pylist())
    packed = DeltaTable(str(output / "out/_embeddings")).to_pyarrow_table(columns=["doc_id", "embedding"]).to_pydict()
    vector = dict(zip(packed["doc_id"], packed["embedding"], strict=True))
    rows = sorted(
        (row for row in rows if row["id"] in chosen), key=lambda row: hashlib.sha256(row["id"].encode()).digest()
    )
    texts = [row["text"] for row in rows]
    read = {}
    sets = []
    tokenizer = train_tokenizer(texts[: N_GENERAL + 5_000], n_vocabulary=VOCABULARY)
    for name in names:
        train_file, items, template = files[name]
        target = TargetConfig(path=str(train_file), template=template)
        read[name] = examples_of(name, target, train_file.read_bytes())
        held = [item.text for item in examples_of(name, target, items.read_bytes())]
        sets.append(Items(name, TARGET, encode(tokenizer, held), sizes(held)))
    tokens = encode(tokenizer, texts)
    sets.append(Items(GENERAL, GENERAL, tokens[:N_GENERAL], sizes(texts[:N_GENERAL])))
    examples = balanced(read, dict.fromkeys(names))
    example_texts = [example.text for example in examples]
    example_vectors = np.concatenate(embed(example_texts, settings=EncoderConfig(), prompt=""))
    vectors = np.stack([np.frombuffer(vector[row["id"]], np.float32) for row in rows[N_GENERAL:]])
    benchmarks = [example.benchmark for example in examples]
    return World(texts[N_GENERAL:], tokens[N_GENERAL:], vectors, benchmarks, example_texts, example_vectors, sets)


def sizes(texts: list[str]) -> NDArray[np.int64]:
    """UTF-8 bytes of each text."""
    return np.array([len(text.encode()) for text in texts], np.int64)


def ranked(
    here: World, chosen: NDArray[np.int64], *, granularity: str = "example", aggregate: str = "best_rank"
) -> tuple[NDArray[np.int64], dict[str, NDArray[np.float64]]]:
    """Chosen documents, the best first, and for each benchmark the keys of its order (score, cosine), [n, 2], in that order."""
    rows = list(range(len(here.benchmarks)))
    queries = query_vectors(here.benchmarks, rows, here.example_vectors, granularity=granularity, clusters=10)
    highest = TopCosines(queries.vectors, depth=len(chosen))
    highest.add(here.vectors[chosen])
    groups = queries.groups()
    ranks = best_ranks(
        queries.vectors, here.vectors[chosen], top=highest.lists(), aggregate=aggregate, groups=list(groups.values())
    )
    order = np.argsort(positions(ranks.score, ranks.cosine))
    keys = {
        name: np.stack([ranks.group_scores[order, g], ranks.group_cosines[order, g]], axis=1)
        for g, name in enumerate(groups)
    }
    return chosen[order], keys


def rankings(here: World) -> dict[str, NDArray[np.int64]]:
    """All documents by every granularity and aggregate, and by their highest cosine."""
    every = np.arange(len(here.texts))
    orders = {}
    for granularity, aggregate in itertools.product(("example", "kmeans", "benchmark"), AGGREGATES):
        orders[f"{granularity}, {aggregate}"] = ranked(here, every, granularity=granularity, aggregate=aggregate)[0]
    orders["global"] = ranked(here, every, granularity="global")[0]  # one vector: all aggregates are the same
    cosine = np.max(here.vectors @ here.example_vectors.T, axis=1)
    orders["example, highest cosine"] = np.argsort(-cosine, kind="stable")
    return orders


def show_agreement(here: World, orders: dict[str, NDArray[np.int64]], n_seen: int = 0) -> None:
    """Print how well each order agrees with the target ranking, and its recall of the top of each benchmark's ranking.

    For several draws of a sample size it prints the means. If the samples were the first `n_seen` documents, it also prints the
    rank correlation on the remaining documents.
    """
    size = np.array([len(document) for document in here.tokens])

    def top(order: NDArray[np.int64], budget: float) -> NDArray[np.bool_]:
        chosen = np.zeros(len(order), bool)
        chosen[order[np.cumsum(size[order]) <= budget * size.sum()]] = True
        return chosen

    target, keys = ranked(here, np.arange(len(size)))
    by_benchmark = {name: target[np.argsort(positions(key[:, 0], key[:, 1]))] for name, key in keys.items()}
    budgets = " / ".join(f"{budget:.0%}" for budget in BUDGETS)
    unseen = f" | of the {len(size) - n_seen} in no sample" if 0 < n_seen < len(size) else ""
    print(f"\n| order | Spearman with the target ranking{unseen} | of its top {budgets} of tokens | top 10%:", end="")
    print(f" {' | '.join(by_benchmark)} |\n|---|---|---{'|---' * (len(by_benchmark) + bool(unseen))}|")
    rows: dict[str, list[list[float]]] = {}
    starts = (0, n_seen) if unseen else (0,)
    for name, order in orders.items():
        pairs = [[np.argsort(np.argsort(np.argsort(each)[start:])) for each in (order, target)] for start in starts]
        spearman = [np.corrcoef(x, y)[0, 1] for x, y in pairs]
        same = [top(order, budget)[top(target, budget)].mean() for budget in BUDGETS]
        recall = [top(order, 0.1)[top(ranking, 0.1)].mean() for ranking in by_benchmark.values()]
        rows.setdefault(name.partition(DRAW)[0], []).append([*spearman, *same, *recall])
    for name, figures in rows.items():
        means = np.mean(figures, axis=0)
        correlations = " | ".join(f"{mean:.3f}" for mean in means[: len(starts)])
        cells = [f"{mean:.2f}" for mean in means[len(starts) :]]
        print(f"| {name} | {correlations} | {' / '.join(cells[: len(BUDGETS)])} |", end="")
        print(f" {' | '.join(cells[len(BUDGETS) :])} |", flush=True)


class Sample(NamedTuple):
    """A ranked sample: training texts, the best first, with the keys of each benchmark's order; held-out texts with labels."""

    texts: list[str]
    benchmark_keys: dict[str, NDArray[np.float64]]
    n_positive: int
    validation: Labelled
    benchmark_labels: list[NDArray[np.int8]]


def drawn(here: World, n: int, *, draw: int = 0, aggregate: str = "best_rank") -> Sample:
    """Rank n documents (for the first draw the first n, whose order is that of a hash) alone; a fifth is held out."""
    order, keys = ranked(here, np.arange(draw * n, (draw + 1) * n), aggregate=aggregate)
    held = np.random.default_rng(1).random(n) < 0.2
    n_positive = round(POSITIVE_FRACTION * n)
    positive = np.arange(n) < n_positive
    negative = np.zeros(n, bool)
    negative[np.random.default_rng(2).choice(np.flatnonzero(~positive), n_positive, replace=False)] = True
    chosen = np.flatnonzero(held & (positive | negative))
    labels = []
    for key in keys.values():
        rank = positions(key[:, 0], key[:, 1])
        labels.append((rank[chosen] < n_positive / len(keys)).astype(np.int8))
    validation = Labelled([here.texts[order[i]] for i in chosen], positive[chosen].astype(np.int8))
    texts = [here.texts[document] for document in order[~held]]
    kept = {name: key[~held] for name, key in keys.items()}
    return Sample(texts, kept, int((positive & ~held).sum()), validation, labels)


def by_score(here: World, table: Table) -> NDArray[np.int64]:
    """All documents by a table's logit."""
    return np.argsort(-np.nan_to_num(score_texts(here.texts, table), nan=-np.inf), kind="stable")


def linear(here: World, sample: Sample) -> NDArray[np.int64]:
    """All documents by the default scorer."""
    rows = [RankedDocument(text, i < sample.n_positive, ()) for i, text in enumerate(sample.texts)]
    return by_score(here, train_on_order(rows, [here.examples], sample.validation, [], name="linear")[0].table)


def linear_by_benchmark(here: World, sample: Sample) -> dict[str, NDArray[np.int64]]:
    """The linear model, and its benchmark scorers by the best position over them and by the highest calibrated logit."""
    columns = list(zip(*(key.tolist() for key in sample.benchmark_keys.values()), strict=True))
    rows = [
        RankedDocument(text, i < sample.n_positive, keys)
        for i, (text, keys) in enumerate(zip(sample.texts, columns, strict=True))
    ]
    labelled = list(zip(here.examples, here.benchmarks, strict=True))
    examples = [[text for text, benchmark in labelled if benchmark == name] for name in sample.benchmark_keys]
    whole, *scorers = train_on_order(rows, examples, sample.validation, sample.benchmark_labels, name="linear")
    logits = np.stack([score_texts(here.texts, scorer.table) for scorer in scorers])
    best = np.min([positions(logit) for logit in logits], axis=0)
    return {
        "linear": by_score(here, whole.table),
        "linear, best position over benchmarks": np.argsort(best, kind="stable"),
        "linear, highest benchmark scorer": np.argsort(-logits.max(axis=0), kind="stable"),
    }


def linear_variants(here: World, n: int, draw: int) -> dict[str, NDArray[np.int64]]:
    """All documents by linear models of other penalties and weights of the examples; the first is the default."""
    sample = drawn(here, n, draw=draw)
    n, m = len(sample.texts), len(here.examples)
    with tempfile.TemporaryDirectory() as folder:
        lines = Path(folder) / "lines"
        texts = [*sample.texts, *here.examples]
        lines.write_text("".join(f"{prepare(text)}\n" for text in texts), encoding="utf-8", newline="\n")
        model = LinearModel(lines)
    scores = normal_scores(np.arange(n))
    scores = np.append(scores, np.full(m, scores.max()))
    orders = {}
    ridges, shares = (RIDGE, 3e-6, 3e-5, 1e-4, 1e-3), (0, 0.01, 0.3, 1)
    for ridge, share in [*((ridge, EXAMPLES_WEIGHT) for ridge in ridges), *((RIDGE, share) for share in shares)]:
        table = model.fit(scores, np.append(np.ones(n), np.full(m, share * n / m)), ridge=ridge)
        orders[f"linear, penalty {ridge:g}, examples {share:g}"] = by_score(here, table)
    return orders


def fasttext(here: World, sample: Sample, scorer: FastTextTraining) -> NDArray[np.int64] | None:
    """FastText on the best of the sample against as many of the rest; None if training fails."""
    n = sample.n_positive
    rest = n + np.random.default_rng(3).permutation(len(sample.texts) - n)[:n]
    rows = [
        (sample.texts[i], int(i < n))
        for i in np.random.default_rng(4).permutation(np.append(np.arange(n), rest)).tolist()
    ]
    try:
        return by_score(here, train(scorer, rows, sample.validation, name="fasttext").table)
    except ArtifactError as error:
        print(error, flush=True)
        return None


def classifier(here: World, sample: Sample) -> NDArray[np.int64]:
    """The examples against as many documents of the sample."""
    negatives = [here.texts[i] for i in np.random.default_rng(5).permutation(len(sample.texts))[: len(here.examples)]]
    texts = [*here.examples, *negatives]
    rows = [(texts[i], int(i < len(here.examples))) for i in np.random.default_rng(6).permutation(len(texts)).tolist()]
    held = len(rows) // 5
    validation = Labelled([text for text, _ in rows[:held]], np.array([label for _, label in rows[:held]], np.int8))
    scorer = ClassifierScorer(kind="classifier")
    return by_score(here, train(scorer, rows[held:], validation, recipe=DCLM_RECIPE, name="classifier").table)


def dsir(here: World, sample: Sample, *, per_feature: bool) -> NDArray[np.int64]:
    """Log-ratio of the examples against the sample."""
    counts = [bucket_counts(*as_buffers(part), n_buckets=10_000) for part in (here.examples, sample.texts)]
    return by_score(here, LogRatioTable.fit(*counts, per_feature=per_feature))


def scorers(here: World, n: int) -> dict[str, NDArray[np.int64]]:
    """All documents by every scorer of a sample of n."""
    sample = drawn(here, n)
    orders = {TARGET_RANKING: ranked(here, np.arange(len(here.texts)))[0], **linear_by_benchmark(here, sample)}
    orders["linear, of mean 1 / rank"] = linear(here, drawn(here, n, aggregate="mean_reciprocal_rank"))
    makes: dict[str, Callable[[], NDArray[np.int64] | None]] = {
        "fastText, auto": lambda: fasttext(here, sample, BetrScorer(lr=1.0, epochs=50)),
        "fastText, the paper's": lambda: fasttext(here, sample, BetrScorer(lr=0.03, epochs=5)),
        "DCLM-style": lambda: classifier(here, sample),
        "DSIR, sum": lambda: dsir(here, sample, per_feature=False),
        "DSIR, mean": lambda: dsir(here, sample, per_feature=True),
    }
    orders |= {name: order for name, make in makes.items() if (order := make()) is not None}
    return orders | {"random": np.random.default_rng(99).permutation(len(here.texts))}


def sanity(here: World) -> tuple[dict[str, NDArray[np.int64]], list[NDArray[np.uint16]]]:
    """Selections whose result is known, and the documents that they contain in addition to the pool.

    The target ranking; the same documents with their tokens shuffled; the ranking by the examples of each benchmark alone; the
    items themselves followed by the target ranking; a random one.
    """
    target, keys = ranked(here, np.arange(len(here.texts)))
    draw, n = np.random.default_rng(7), len(here.texts)
    shuffled = [draw.permutation(document) for document in here.tokens]
    items = [item for items in here.sets if items.kind == TARGET for item in items.tokens]
    orders = {"target ranking": target, "target ranking, tokens shuffled": n + target}
    for name, key in keys.items():
        orders[f"ranking of {name} alone"] = target[np.argsort(positions(key[:, 0], key[:, 1]))]
    orders["test items, then target ranking"] = np.concatenate([2 * n + np.arange(len(items)), target])
    orders["random"] = np.random.default_rng(99).permutation(n)
    return orders, [*shuffled, *items]


def show(
    here: World,
    selections: dict[str, NDArray[np.int64]],
    output: Path,
    title: str,
    more: Sequence[NDArray[np.uint16]] = (),
    at_budget: Callable[[float], dict[str, NDArray[np.int64]]] = lambda _: {},
) -> list[Change]:
    """Print changes by budget, and write them as JSON.

    `more` are documents that selections name after those of the pool; `at_budget` gives orders that differ between budgets.
    """
    tokens = [*here.tokens, *more]
    controls = {f"random-{seed}": np.random.default_rng(seed).permutation(len(here.texts)) for seed in range(8)}
    rows_of_all: list[Change] = []
    for budget in BUDGETS:
        share = budget * sum(map(len, here.tokens)) / sum(map(len, tokens))
        rows_of_all += [
            row._replace(budget=budget)
            for row in changes(tokens, selections | at_budget(budget), controls, here.sets, budget=share, train=TRAIN)
        ]
    (output / f"{title}.json").write_text(json.dumps([row._asdict() for row in rows_of_all]), encoding="utf-8")
    names = [items.name for items in here.sets]
    print(f"\n{title}: {len(here.texts)} documents; bits per byte against random, %, with 95 % intervals over items\n")
    for budget in BUDGETS:
        rows = {(row.name, row.items): row for row in rows_of_all if row.budget == budget}
        spread = next(row.spread for row in rows.values() if row.items == ALL_TARGETS)
        print(f"| {budget:.0%} of the tokens (random within {spread:.2%}) | all targets | {' | '.join(names)} |")
        print("|---" * (2 + len(names)) + "|")
        for name in [*selections, *at_budget(budget)]:
            whole = rows[name, ALL_TARGETS]
            each = " | ".join(f"{100 * rows[name, items].change:+.2f}" for items in names)
            print(f"| {name} | {100 * whole.change:+.2f} [{100 * whole.low:+.2f}, {100 * whole.high:+.2f}] | {each} |")
        print(flush=True)
    return rows_of_all


def show_means(rows: list[Change]) -> None:
    """Print the means over the draws of a sample size, and the range of the draws."""
    print(f"| mean over the draws [lowest, highest] (general) | {' | '.join(f'{b:.0%}' for b in BUDGETS)} |")
    print("|---" * (1 + len(BUDGETS)) + "|")
    by: dict[tuple[str, float, str], list[float]] = {}
    for row in (row for row in rows if not row.control):
        by.setdefault((row.name.partition(DRAW)[0], row.budget, row.items), []).append(100 * row.change)
    for name in dict.fromkeys(name for name, _, _ in by):
        cells = []
        for budget in BUDGETS:
            targets, general = by[name, budget, ALL_TARGETS], by[name, budget, GENERAL]
            cells.append(
                f"{np.mean(targets):+.2f} [{min(targets):+.2f}, {max(targets):+.2f}] ({np.mean(general):+.1f})"
            )
        print(f"| {name} ({len(targets)}) | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Measure one part and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--documents", type=Path, default=SHARED / "corpus/documents.parquet")
    parser.add_argument("--targets", type=Path, default=SHARED / "targets")
    parser.add_argument("--pool", type=int, default=1_000_000, help="maximum number of embedded documents")
    parser.add_argument("--half", choices=("all", *HALVES), default="all")
    parser.add_argument(
        "--part", choices=("target-ranking", "scorers", "variants", "curve", "sanity"), default="scorers"
    )
    parser.add_argument("--sample", type=int, nargs="+", default=[10_000])
    parser.add_argument(
        "--draws", type=int, default=1, help="number of samples of each size, of different documents (curve, variants)"
    )
    arguments = parser.parse_args()
    here = world(arguments.output, arguments.documents, arguments.targets, arguments.half, arguments.pool)
    if arguments.part == "target-ranking":
        orders_of_all = rankings(here)
        show_agreement(here, orders_of_all)
        show(here, orders_of_all, arguments.output, f"ranking-{arguments.half}")
        return
    if arguments.part == "sanity":
        selections, more = sanity(here)
        show(here, selections, arguments.output, f"sanity-{arguments.half}", more)
        return
    draws = [
        (n, draw) for n in arguments.sample for draw in range(arguments.draws) if (draw + 1) * n <= len(here.texts)
    ]
    if arguments.part == "variants":
        variants = {TARGET_RANKING: ranked(here, np.arange(len(here.texts)))[0]}
        for n, draw in draws:
            suffix = f"{DRAW}{draw}" if draw else ""
            for name, order in linear_variants(here, n, draw).items():
                variants[f"{n} documents: {name}{suffix}"] = order
        show_means(show(here, variants, arguments.output, f"variants-{arguments.half}"))
        return
    if arguments.part == "curve":
        orders: dict[str, NDArray[np.int64] | None] = {}
        for n, draw in draws:
            sample, name = drawn(here, n, draw=draw), f"{n} documents" + (f"{DRAW}{draw}" if draw else "")
            try:
                orders[f"linear, {name}"] = linear(here, sample)
            except ArtifactError as error:
                print(error, flush=True)
            orders[f"fastText, {name}"] = fasttext(here, sample, BetrScorer(lr=1.0, epochs=50))
        kept = {name: order for name, order in orders.items() if order is not None}
        kept[TARGET_RANKING] = ranked(here, np.arange(len(here.texts)))[0]
        show_agreement(here, kept, max((draw + 1) * n for n, draw in draws))
        show_means(show(here, kept, arguments.output, f"curve-{arguments.half}"))
        return
    for n in arguments.sample:
        of_scorers = scorers(here, n)
        show_agreement(here, of_scorers)
        show(here, of_scorers, arguments.output, f"scorers-{arguments.half}-{n}")


if __name__ == "__main__":
    main()
