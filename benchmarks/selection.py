"""Cost of an exact cut and of quotas, as ratios to one aggregation over the same table.

    python benchmarks/selection.py --rows 20000000

The table is made up and cached, as `select` caches its survivors: doc_id, logit, n_tokens, a group of 100, its number, and the
order. In each round the queries run one after the other; ratios are taken within a round, and the median of the rounds is
printed. Two queries like those that quotas make are also timed alone: a histogram of each group, and a scan for the rows of one
bin.
"""

import argparse
import statistics
import time
from collections.abc import Callable

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from betr_spark.config import KeepConfig
from betr_spark.ordering import GROUP, ORDER_HASH, ORDER_KEY
from betr_spark.schemas import DOC_ID, LOGIT, N_TOKENS
from betr_spark.selection.budget import (
    Budget,
    with_group_numbers,
    with_order,
    within_budget,
    within_maximum,
    within_shares,
)
from betr_spark.spark.session import build_session

GROUPS, ROUNDS, UNCOUNTED = 100, 5, 1
NAME, NUMBER = "name", "number"


def kept(rows: DataFrame) -> None:
    """Find the cut and throw the rows away: what a selection does before it ranks what it keeps."""
    rows.limit(0).count()


def main() -> None:
    """Print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000_000)
    n_rows = parser.parse_args().rows
    spark = build_session("selection")
    ids = spark.range(n_rows)
    table = ids.select(
        F.col("id").cast("string").alias(DOC_ID),
        F.randn(seed=1).cast("float").alias(LOGIT),
        (F.pmod(F.xxhash64("id"), F.lit(1_000)) + 20).cast("int").alias(N_TOKENS),
        F.concat(F.lit("g"), F.pmod(F.xxhash64(F.lit(1), "id"), F.lit(GROUPS))).alias(GROUP),
    )
    shares = {f"g{number}": 0.5 / GROUPS for number in range(GROUPS)}
    numbered = with_group_numbers(table.withColumn(NAME, F.col(GROUP)), shares)
    both = with_order(numbered.withColumnsRenamed({GROUP: NUMBER, NAME: GROUP})).persist()
    ordered, by_number = both.drop(NUMBER), both.drop(GROUP).withColumnRenamed(NUMBER, GROUP)
    start = time.perf_counter()
    n_tokens = int((ordered.agg(F.sum(N_TOKENS)).first() or (0,))[0])
    print(
        f"{n_rows} rows, {n_tokens} tokens; making and caching the table: {time.perf_counter() - start:.1f} s",
        flush=True,
    )
    budget = Budget.of(KeepConfig(token_fraction=0.1), n_tokens=n_tokens)
    bits = F.shiftrightunsigned(F.col(ORDER_KEY), 48)
    bins = by_number.groupBy(GROUP, bits).agg(F.sum(N_TOKENS), F.count("*"))
    one_bin = ordered.where(bits == F.lit(49_152)).select(GROUP, ORDER_KEY, ORDER_HASH, N_TOKENS)
    queries: dict[str, Callable[[], object]] = {
        "aggregation": lambda: ordered.groupBy(GROUP).agg(F.sum(N_TOKENS), F.count("*")).collect(),  # one row a group
        "cut": lambda: kept(within_budget(ordered, budget, n_rows=n_rows)),
        "histogram of 100 groups": lambda: bins.write.format("noop").mode("overwrite").save(),
        "scan for a bin": lambda: one_bin.write.format("noop").mode("overwrite").save(),
        "quotas of 100 groups": lambda: kept(within_shares(by_number, budget, shares, n_rows=n_rows, where="quota")),
        "maximum of 100 groups": lambda: kept(within_maximum(ordered, budget, 0.005, n_rows=n_rows)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in queries}
    for number in range(-UNCOUNTED, ROUNDS):
        for name, query in queries.items():
            start = time.perf_counter()
            query()
            if number >= 0:
                seconds[name].append(time.perf_counter() - start)
    for name, times in seconds.items():
        ratio = statistics.median(own / one for own, one in zip(times, seconds["aggregation"], strict=True))
        print(f"{name}: {statistics.median(times):.2f} s, {ratio:.2f} times the aggregation", flush=True)
    spark.stop()


if __name__ == "__main__":
    main()
