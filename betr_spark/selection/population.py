"""The documents that a selection ranks: those that are no duplicates and have a score."""

from collections.abc import Iterable
from typing import NamedTuple, Self

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from betr_spark import schemas
from betr_spark.config import Config
from betr_spark.contamination.detection import without_contaminated
from betr_spark.contamination.stage import require_current
from betr_spark.features.token_unit import check_unit, counted
from betr_spark.ordering import GROUP
from betr_spark.pipeline.stage import RunContext
from betr_spark.schemas import (
    BEST_BENCHMARK,
    CONTENT_HASH,
    DOC_ID,
    INPUT_FILE,
    LOGIT,
    N_BYTES,
    N_TOKENS,
    OPTIONAL_COLUMNS,
    SOURCE,
)
from betr_spark.scoring.combination import with_combined_logits
from betr_spark.scoring.logit import check_logits, logit_of
from betr_spark.selection.benchmark_balance import with_balanced_logit
from betr_spark.selection.budget import with_group_numbers
from betr_spark.selection.conditions import IS_ELIGIBLE, Conditions
from betr_spark.selection.reference import source_key
from betr_spark.storage import delta


class RankedTables(NamedTuple):
    """The tables that selections rank, with n_tokens in the unit of budgets.

    Attributes:
        documents: all rows of `features`.
        features: those that may be kept: the same frame, unless `decontaminate` drops documents.
        duplicates: rows of `duplicates`.
    """

    documents: DataFrame
    features: DataFrame
    duplicates: DataFrame

    @classmethod
    def of(cls, context: RunContext, scorers: Iterable[str]) -> Self:
        """Read the tables of the output, and add the logits of scorers that are combinations.

        Raises:
            DataError: `features` has no logit of a scorer, or its tokens are not those of the configuration.
        """
        scorers = list(scorers)
        check_unit(context)
        config, names = context.config, (schemas.FEATURES_TABLE, schemas.DUPLICATES_TABLE)
        features, duplicates = (delta.read(context.spark, config.table(name)) for name in names)
        check_logits(features, config, scorers)
        features = counted(with_combined_logits(features, config, scorers), config).features
        require_current(context)
        return cls(features, without_contaminated(features, config), duplicates)


def scored_survivors(features: DataFrame, duplicates: DataFrame, config: Config, scorer: str) -> DataFrame:
    """Documents that were not removed and have a score, with the logit, and the columns of `features`.

    With benchmark scorers also best_benchmark, that of the highest one (the first of equals).
    """
    survivors = features.join(duplicates.select(DOC_ID), on=DOC_ID, how="left_anti")
    logits = {name: F.col(schemas.logit_column(own)) for name, own in config.benchmark_scorers(scorer).items()}
    highest = F.array_max(F.array(*logits.values()))
    best = F.coalesce(*[F.when(logit == highest, F.lit(name)) for name, logit in logits.items()])
    columns = {LOGIT: logit_of(config, scorer), **({BEST_BENCHMARK: best} if logits else {})}
    return survivors.withColumns(columns).where(F.col(LOGIT).isNotNull())


def marked_survivors(tables: RankedTables, conditions: Conditions, *, sources: Iterable[str] = ()) -> DataFrame:
    """Survivors with the logit by which the selection ranks them, `is_eligible`, and `group`, what shares the budget.

    Args:
        tables: features and duplicates.
        conditions: the selection, and what its settings refer to.
        sources: with `stratified`, those of the reference.
    """
    config, selection = conditions.context.config, conditions.selection
    marked = conditions.marked(tables.features, conditions.context.scored_input)
    survivors = scored_survivors(marked, tables.duplicates, config, selection.scorer)
    if selection.balance:
        population = survivors.where(IS_ELIGIBLE)
        survivors = with_balanced_logit(survivors, population, config, selection.scorer, selection.keep)
    survivors = survivors.withColumn(GROUP, source_key()) if selection.stratified else survivors
    named = sources if selection.stratified else next(iter(selection.quota.values()), None)
    if named is not None:
        survivors = with_group_numbers(survivors, named)
    names = [DOC_ID, SOURCE, N_BYTES, N_TOKENS, CONTENT_HASH, INPUT_FILE, LOGIT, IS_ELIGIBLE, GROUP]
    return survivors.select(*names, *[name for name in OPTIONAL_COLUMNS if name in survivors.columns])
