"""How much of each benchmark's own top tenth a selection keeps, with and without `balance: benchmarks`.

    python benchmarks/balance.py --config conf/shared-data.yaml --output out/balance

Runs the configuration with benchmark scorers and two selections of 10 % of the tokens that differ in `balance` alone (a second
call skips what is up to date). The top tenth of a benchmark are the first documents of its benchmark scorer's ranking, up to
a tenth of the tokens; recall is the part of its tokens that the selection has. `chosen for` is the benchmark's part of the
balanced selection's tokens.
"""

import argparse

from pyspark.sql import functions as F

from betr_spark import schemas
from betr_spark.config import KeepConfig, load_config
from betr_spark.pipeline.run import run_all
from betr_spark.schemas import CHOSEN_FOR, DOC_ID, LOGIT, N_TOKENS
from betr_spark.selection.budget import Budget, with_order, within_budget
from betr_spark.selection.population import scored_survivors
from betr_spark.spark.session import build_session
from betr_spark.storage import delta

FRACTION = 0.10


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="conf/shared-data.yaml")
    parser.add_argument("--output", default="out/balance")
    arguments = parser.parse_args()
    keep = f"{{scorer: betr, keep: {{token_fraction: {FRACTION}}}"
    selections = f"{{plain: {keep}}}, balanced: {keep}, balance: benchmarks}}}}"
    config = load_config(
        arguments.config,
        (f"output={arguments.output}", "scorers={betr: {per_benchmark: true}}", f"selections={selections}"),
    )
    spark = build_session("balance")
    run_all(spark, config)
    features = delta.read(spark, config.table(schemas.FEATURES_TABLE))
    duplicates = delta.read(spark, config.table(schemas.DUPLICATES_TABLE))
    kept = {name: delta.read(spark, config.table(f"selected/{name}")) for name in ("plain", "balanced")}
    by_benchmark = kept["balanced"].groupBy(CHOSEN_FOR).agg(F.sum(N_TOKENS)).collect()  # one row a benchmark
    chosen = {row[0]: int(row[1]) for row in by_benchmark}
    print(f"{'recall of the top tenth of':26} {'plain':>7} {'balanced':>9} {'chosen for':>11}")
    recalls = []
    for benchmark, scorer in config.benchmark_scorers("betr").items():
        survivors = scored_survivors(features, duplicates, config, scorer).select(DOC_ID, N_TOKENS, LOGIT)
        ordered = with_order(survivors).persist()
        total = int((ordered.agg(F.sum(N_TOKENS)).first() or (0,))[0])
        top = within_budget(ordered, Budget.of(KeepConfig(token_fraction=FRACTION), n_tokens=total)).persist()
        n_top = int((top.agg(F.sum(N_TOKENS)).first() or (0,))[0])
        both = [top.join(rows.select(DOC_ID), on=DOC_ID, how="left_semi") for rows in kept.values()]
        recalls.append(
            [int((rows.agg(F.coalesce(F.sum(N_TOKENS), F.lit(0))).first() or (0,))[0]) / n_top for rows in both]
        )
        share = chosen.get(benchmark, 0) / sum(chosen.values())
        print(f"{benchmark:26} {recalls[-1][0]:7.1%} {recalls[-1][1]:9.1%} {share:11.1%}", flush=True)
        top.unpersist()
        ordered.unpersist()
    means = [sum(column) / len(recalls) for column in zip(*recalls, strict=True)]
    print(f"{'mean':26} {means[0]:7.1%} {means[1]:9.1%}")
    spark.stop()


if __name__ == "__main__":
    main()
