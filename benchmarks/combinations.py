"""Combinations of scorers and `balance: benchmarks` against single scorers, on the two halves of `benefit.py`.

    python benchmarks/combinations.py OUTPUT [--sample 3000] [--half tuning|reporting|all]

For each half, or for all benchmarks and sources together (`--half all`), runs the stages up to `dedup` on its sources, with two
thirds of the examples of its benchmarks; the others are items. Then orders the survivors by each scorer, by each combination,
and by `betr` with `balance: benchmarks`, and prints bits per byte of the items against random documents, as `benefit.py` does.
A combination that is chosen by the table of the tuning half is reported by that of the other half.
"""

import argparse
import hashlib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from benefit import BUDGETS, HALVES, N_GENERAL, VOCABULARY, World, show, sizes, split
from numpy.typing import NDArray
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from scorers import SHARED, TARGETS

from betr_spark import schemas
from betr_spark.config import Config
from betr_spark.evaluate.benefit import ALL_TARGETS, GENERAL, TARGET, Change, Items
from betr_spark.evaluate.byte_pairs import encode, train_tokenizer
from betr_spark.pipeline.run import run_all
from betr_spark.schemas import DOC_ID
from betr_spark.scoring.combination import with_combined_logits
from betr_spark.scoring.logit import logit_of
from betr_spark.selection.equal_recall import equal_recall_weights, value
from betr_spark.spark.session import build_session
from betr_spark.storage import delta
from betr_spark.targets.examples import examples_of

SINGLE = {
    "betr": {"kind": "betr", "per_benchmark": True},
    "dsir": {"kind": "dsir", "normalize": "mean"},
    "classifier": {"kind": "classifier"},
}
WEIGHTS = (
    {"betr": 2, "dsir": 1},
    {"betr": 2, "classifier": 1},
    {"betr": 1, "classifier": 1},
    {"betr": 2, "dsir": 1, "classifier": 1},
    {"betr": 8, "dsir": 1},
    {"betr": 8, "classifier": 1},
)
COMBINED = {
    f"{by}_{'_'.join(f'{scorer}{weight}' for scorer, weight in weights.items())}": {
        "kind": "combine", "of": weights, "by": by,
    }
    for by, some in (("rank", WEIGHTS), ("product", WEIGHTS[:2]), ("best_rank", (*WEIGHTS[:2], *WEIGHTS[4:])))
    for weights in some
}  # fmt: skip
BALANCED = "betr, balance: benchmarks"


def half_config(output: Path, half: str, targets: Path, n_sample: int) -> Config:
    """The configuration of a half, whose files are written."""
    names, sources = HALVES.get(half, (tuple(TARGETS), None))
    filters = None if sources is None else [("domain", "in", sources)]
    documents = pq.read_table(SHARED / "corpus/documents.parquet", filters=filters)
    (output / half).mkdir(parents=True, exist_ok=True)
    pq.write_table(documents, output / half / "documents.parquet")
    files = {name: parts for name, parts in split(output / half, targets).items() if name in names}
    return Config.model_validate({
        "input": {"path": str(output / half / "documents.parquet"), "id": "id", "source": "domain"},
        "output": str(output / half / "out"),
        "targets": {name: {"path": str(path), "template": template} for name, (path, _, template) in files.items()},
        "sample": {"documents": n_sample},
        "scorers": {**SINGLE, **COMBINED},
        "selections": {},
    })  # fmt: skip


def survivors(spark: SparkSession, config: Config) -> tuple[World, dict[str, NDArray[np.float64]]]:
    """The survivors but for the general slice, in the order of a hash of their ids, and their logit by each scorer."""
    names = [*config.folded(), *config.combinations()]
    features = with_combined_logits(delta.read(spark, config.table(schemas.FEATURES_TABLE)), config, names)
    removed = delta.read(spark, config.table(schemas.DUPLICATES_TABLE)).select(DOC_ID)
    kept = features.where(F.col(schemas.N_WORDS) > 0).join(removed, on=DOC_ID, how="left_anti")
    logits = kept.select(DOC_ID, *[logit_of(config, name).cast("double").alias(name) for name in names]).toArrow()
    texts = dict(zip(*pq.read_table(config.input.path, columns=["id", "text"]).to_pydict().values(), strict=True))
    ids = logits.column(DOC_ID).to_pylist()
    order = sorted(range(len(ids)), key=lambda row: hashlib.sha256(ids[row].encode()).digest())
    in_order = [texts[ids[row]] for row in order]
    tokenizer = train_tokenizer(in_order[: N_GENERAL + 5_000], n_vocabulary=VOCABULARY)
    tokens, nothing = encode(tokenizer, in_order), np.empty((0, 0), np.float32)
    sets = [Items(GENERAL, GENERAL, tokens[:N_GENERAL], sizes(in_order[:N_GENERAL]))]
    here = World(in_order[N_GENERAL:], tokens[N_GENERAL:], nothing, [], [], nothing, sets)
    by_scorer = {name: logits.column(name).to_numpy()[order[N_GENERAL:]] for name in names}
    for name, target in config.targets.items():
        held = Path(target.path.replace(".train.", ".items."))
        items = [item.text for item in examples_of(name, target, held.read_bytes())]
        sets.insert(-1, Items(name, TARGET, encode(tokenizer, items), sizes(items)))
    return here, by_scorer


def balanced(here: World, logits: list[NDArray[np.float64]], budget: float) -> NDArray[np.int64]:
    """The order of `balance: benchmarks` at a budget, from the logits of the benchmark scorers."""
    n_tokens = np.array([len(document) for document in here.tokens], np.int64)
    positions = np.empty((len(n_tokens), len(logits)))
    for column, logit in enumerate(logits):
        order = np.argsort(-logit, kind="stable")
        positions[order, column] = (np.cumsum(n_tokens[order]) - n_tokens[order]) / n_tokens.sum()
    weights = equal_recall_weights(positions, n_tokens, fraction=budget)
    return np.argsort(-(value(positions / budget) @ weights), kind="stable")


def show_choice(rows: list[Change]) -> None:
    """Print the combinations that are at least as good as the best single scorer, at each budget."""
    mean = {(row.name, row.budget): row.change for row in rows if row.items == ALL_TARGETS}
    best = {budget: min(mean[name, budget] for name in SINGLE) for budget in BUDGETS}
    for name in COMBINED:
        better = [f"{budget:.0%}" for budget in BUDGETS if mean[name, budget] <= best[budget]]
        print(f"{name}: at least as good as the best single scorer at {', '.join(better) or 'no budget'}")


def main() -> None:
    """Print a table for each half and budget."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--targets", type=Path, default=SHARED / "targets")
    parser.add_argument("--sample", type=int, default=3_000)
    parser.add_argument("--half", choices=(*HALVES, "all"), nargs="+", default=list(HALVES))
    arguments = parser.parse_args()
    spark = build_session("combinations")
    for half in arguments.half:
        config = half_config(arguments.output, half, arguments.targets, arguments.sample)
        run_all(spark, config)
        here, logits = survivors(spark, config)
        orders = {
            name: np.argsort(-np.nan_to_num(logits[name], nan=-np.inf), kind="stable") for name in (*SINGLE, *COMBINED)
        }
        of_benchmarks = [logits[name] for name in config.benchmark_scorers("betr").values()]
        rows = show(
            here, orders, arguments.output, f"combinations-{half}",
            at_budget=lambda budget, here=here, own=of_benchmarks: {BALANCED: balanced(here, own, budget)},  # type: ignore[misc]
        )  # fmt: skip
        show_choice(rows)
    spark.stop()


if __name__ == "__main__":
    main()
