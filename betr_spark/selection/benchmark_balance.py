"""A ranking in which each benchmark gets the first documents of its own ranking."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from betr_spark import schemas
from betr_spark.config import Config
from betr_spark.schemas import CHOSEN_FOR, LOGIT
from betr_spark.scoring.combination import logit_of_score, positions_of


def with_balanced_logit(rows: DataFrame, population: DataFrame, config: Config, scorer: str) -> DataFrame:
    """Rank documents by their best position over the benchmark scorers, and name the benchmark of this position.

    A prefix of this ranking is the union of prefixes of all benchmarks' rankings down to the same position. The position is the
    share of the population's tokens that have a higher score. A document in several prefixes counts once, for the benchmark
    where its position is best (the first one of equals).

    A greedy rule that gives the next document to the benchmark with the fewest tokens differs. It makes the shares of
    `chosen_for` equal, so a benchmark whose documents no other benchmark chooses gets a shorter prefix than the others.

    Args:
        rows: with the logits of the benchmark scorers.
        population: the documents that may be kept, with n_tokens; read once, here.
        config: of the run.
        scorer: has benchmark scorers.

    Returns:
        `rows` with logit (double, of the score 1 - position) and chosen_for.
    """
    logits = {
        benchmark: F.col(schemas.logit_column(name)) for benchmark, name in config.benchmark_scorers(scorer).items()
    }
    positions = positions_of(population, logits)
    names = {benchmark: f"_position_{i}" for i, benchmark in enumerate(positions)}
    rows = rows.withColumns({names[benchmark]: position for benchmark, position in positions.items()})
    best = F.array_min(F.array(*names.values()))
    chosen = [F.when(F.col(name) == best, F.lit(benchmark)) for benchmark, name in names.items()]
    columns = {LOGIT: logit_of_score(1 - best), CHOSEN_FOR: F.coalesce(*chosen)}
    return rows.withColumns(columns).drop(*names.values())
