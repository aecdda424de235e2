"""The documents of `features` and what became of them, for all sections and selections, without a join of all documents."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from betr_spark import schemas
from betr_spark.config import Config
from betr_spark.contamination.detection import contamination_rows
from betr_spark.features.token_unit import counted_if_configured
from betr_spark.schemas import DOC_ID, LOGIT, N_TOKENS, N_WORDS, PHASE, REPEAT_COUNT, SOURCE
from betr_spark.scoring.combination import with_combined_logits
from betr_spark.scoring.logit import logit_of
from betr_spark.selection.tally import ALL, DROPPED, KEPT, Part, Populations
from betr_spark.storage import delta

HAS_TEXT, REMOVED, TIMES = "has_text", "removed", "times"


class Outcomes(NamedTuple):
    """Every document, and what became of it.

    A sum over the survivors is the one over all documents minus that over the dropped ones, and one over what a selection does
    not have is the rest after its own, so a section reads columns of the tables and no join of them.

    Attributes:
        documents: doc_id, source, n_tokens, has_text, and the logits.
        populations: of each finished selection whose scorer is in `logits`: the survivors that have a logit, and its own.
        dropped: those of the documents that no selection ranks, with the same columns and `removed`: whether it is a duplicate,
            not only a document with a test item. Persisted; None if there are none.
        kept: the documents of each finished selection, each once: doc_id, source, n_tokens, the logit that it ranks by (null if
            `documents` does not have it), and times, how often the selection has it.
        unit: what tokens are.
        logits: columns of `documents`, by scorer; without the scorers that `features` does not have.
    """

    documents: DataFrame
    populations: Populations
    dropped: DataFrame | None
    kept: Mapping[str, DataFrame]
    unit: str
    logits: Mapping[str, str]

    @property
    def selections(self) -> tuple[str, ...]:
        """Names of the finished selections."""
        return tuple(self.kept)


@contextmanager
def outcomes(
    spark: SparkSession, config: Config, selections: Sequence[str], *, in_memory: bool = False
) -> Iterator[Outcomes]:
    """Read what became of the documents; no text is read.

    Args:
        spark: the session.
        config: of the output; `features` exists.
        selections: names of finished selections.
        in_memory: as in `Populations`.
    """
    features = delta.read(spark, config.table(schemas.FEATURES_TABLE))
    scorers = list(dict.fromkeys(config.selections[name].scorer for name in selections))
    known = [name for name in scorers if _has_logit(features, config, name)]
    features = with_combined_logits(features, config, known)  # before n_tokens changes: percentiles are of words
    features, unit = counted_if_configured(features, config)
    logits = {name: f"logit_{number}" for number, name in enumerate(known)}
    documents = features.select(
        DOC_ID, SOURCE, F.col(N_TOKENS).cast("bigint").alias(N_TOKENS), (F.col(N_WORDS) > 0).alias(HAS_TEXT),
        *[logit_of(config, name).cast("double").alias(logits[name]) for name in known],
    )  # fmt: skip
    kept = {name: _kept(spark, config, name, documents, logits) for name in selections}
    dropped = _dropped(spark, config, documents)
    dropped = None if dropped is None else dropped.persist()
    try:
        with Populations(_parts(config, documents, dropped, kept, logits), in_memory=in_memory) as populations:
            yield Outcomes(documents, populations, dropped, kept, unit, logits)
    finally:
        if dropped is not None:
            dropped.unpersist()


def _parts(
    config: Config, documents: DataFrame, dropped: DataFrame | None, kept: Mapping[str, DataFrame], logits: Mapping[str, str]
) -> list[Part]:  # fmt: skip
    columns = {name: column for name in kept if (column := logits.get(config.selections[name].scorer))}
    scores = [(ALL, documents), *([] if dropped is None else [(DROPPED, dropped)])]
    parts = [Part(role, rows.select(N_TOKENS, *logits.values()), columns) for role, rows in scores]
    return [
        *parts,
        *(
            Part(KEPT, kept[name].select(N_TOKENS, F.col(LOGIT).alias(own)), {name: own})
            for name, own in columns.items()
        ),
    ]


def _has_logit(features: DataFrame, config: Config, scorer: str) -> bool:
    parts = config.combinations().get(scorer, (scorer,))
    return all(schemas.logit_column(part) in features.columns for part in parts if part in config.scored())


def _dropped(spark: SparkSession, config: Config, documents: DataFrame) -> DataFrame | None:
    removed = left_out = None
    if delta.exists(spark, config.table(schemas.DUPLICATES_TABLE)):
        duplicates = delta.read(spark, config.table(schemas.DUPLICATES_TABLE))
        removed = documents.join(duplicates.select(DOC_ID), on=DOC_ID, how="left_semi").withColumn(REMOVED, F.lit(True))
    if config.drops_contaminated() and delta.exists(spark, config.table(schemas.CONTAMINATION_TABLE)):
        left_out = documents.join(contamination_rows(spark, config).select(DOC_ID), on=DOC_ID, how="left_semi")
        left_out = left_out.withColumn(REMOVED, F.lit(False))
    if removed is None or left_out is None:
        return removed if left_out is None else left_out
    return removed.unionByName(left_out.join(duplicates.select(DOC_ID), on=DOC_ID, how="left_anti"))


def _kept(spark: SparkSession, config: Config, name: str, documents: DataFrame, logits: Mapping[str, str]) -> DataFrame:
    rows, selection = delta.read(spark, config.table(f"selected/{name}")), config.selections[name]
    times = (F.col(REPEAT_COUNT) if REPEAT_COUNT in rows.columns else F.lit(1)).cast("bigint")
    n_tokens, logit = F.col(N_TOKENS).cast("bigint"), F.col(LOGIT).cast("double")
    if PHASE in rows.columns:
        rows = rows.groupBy(DOC_ID).agg(
            F.min(SOURCE).alias(SOURCE),
            F.max(n_tokens).alias(N_TOKENS),
            F.max(logit).alias(LOGIT),
            F.sum(times).alias(TIMES),
        )
    else:
        rows = rows.select(DOC_ID, SOURCE, n_tokens.alias(N_TOKENS), logit.alias(LOGIT), times.alias(TIMES))
    own = logits.get(selection.scorer)
    if selection.balance is not None and own is not None:  # its logits are those of benchmark scorers
        rows = documents.select(DOC_ID, F.col(own).alias(LOGIT)).join(rows.drop(LOGIT), on=DOC_ID)
    return rows if own is not None else rows.withColumn(LOGIT, F.lit(None).cast("double"))
