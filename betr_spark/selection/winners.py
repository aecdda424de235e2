"""The text of the winners: read once for all selections, and checked to be the text that was scored."""

import math
from collections.abc import Sequence
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from betr_spark.config import Config
from betr_spark.corpus.content_hash import with_content_hash
from betr_spark.corpus.documents import quoted
from betr_spark.corpus.listing import files_of
from betr_spark.pipeline.stage import RunContext
from betr_spark.schemas import (
    CONTENT_HASH,
    DOC_ID,
    INPUT_FILE,
    LOGIT,
    N_TOKENS,
    OPTIONAL_COLUMNS,
    RANK,
    REASON,
    SCORE,
    SOURCE,
    TEXT,
)
from betr_spark.scoring.logit import score_of
from betr_spark.selection.copies import one_copy
from betr_spark.selection.ranking import Ranking

_FILE_BYTES = 256 * 2**20
CARRIED = "carried"
_SCORED = "scored_content_hash"
_ID_SHOWN = 80


def texts_of_winners(rankings: Sequence[DataFrame], context: RunContext) -> DataFrame:
    """Read the documents that any of the rankings keeps: doc_id, text, content_hash, carried (a struct); one row a document.

    Args:
        rankings: doc_id, source, input_file, and others.
        context: of the run.
    """
    source = context.config.input
    columns = [F.col(quoted(name)) for name in source.columns]
    carried = [F.struct(*columns).alias(CARRIED)] if columns else []
    kept = reduce(DataFrame.unionByName, [rows.select(DOC_ID, SOURCE, INPUT_FILE) for rows in rankings])
    winners = kept.select(DOC_ID, SOURCE).distinct()
    files = None if source.id is None else files_of(kept, source)  # a copy of a text may be in any file
    documents = context.scored_input().documents(carried=True, only_files=files, leave_utf8=True)
    documents = documents.where(F.col(REASON).isNull()).select(DOC_ID, TEXT, SOURCE, *carried)
    names = [TEXT, *([CARRIED] if carried else [])]
    if source.id is None:
        return with_content_hash(one_copy(documents, winners, names))
    found = with_content_hash(documents.join(winners, on=DOC_ID, how="left_semi").select(DOC_ID, *names))
    return found.where(F.is_valid_utf8(TEXT))  # the row of another document in quarantine may have the same id


def selected_rows(ranking: Ranking, documents: DataFrame, config: Config) -> DataFrame:
    """Rows of `selected/NAME`, in files of about 256 MB in the order of rank.

    A document without text, or with another text than the one that was scored, fails the write with a message that names it.

    Args:
        ranking: the kept documents.
        documents: as `texts_of_winners` returns them.
        config: for the carried columns and messages.
    """
    carried = [F.col(CARRIED).getField(name).alias(name) for name in config.input.columns]
    optional = [name for name in OPTIONAL_COLUMNS if name in ranking.rows.columns]
    scored = F.col(CONTENT_HASH).alias(_SCORED)
    winners = ranking.rows.select(DOC_ID, RANK, SOURCE, LOGIT, N_TOKENS, scored, *optional)
    joined = winners.join(documents, on=DOC_ID, how="left")
    failure = F.concat(
        F.lit(f"input.path: {config.input.path}: the text of document '"), F.substring(DOC_ID, 1, _ID_SHOWN),
        F.lit("' changed since it was scored, or is gone; run `betr-spark features`"),
    )  # fmt: skip
    is_scored = F.col(CONTENT_HASH).eqNullSafe(F.col(_SCORED))
    text = F.when(is_scored, F.col(TEXT)).otherwise(F.raise_error(failure).cast("string"))
    parts = max(1, math.ceil(ranking.kept_bytes / _FILE_BYTES))
    part = F.floor((F.col(RANK) - 1) * parts / max(1, ranking.n_kept)).cast("int")
    columns: list[str | Column] = [
        RANK, DOC_ID, text.alias(TEXT), SOURCE, *carried, score_of(F.col(LOGIT)).alias(SCORE), LOGIT, N_TOKENS, *optional,
    ]  # fmt: skip
    return joined.repartitionById(parts, part).sortWithinPartitions(RANK).select(*columns)
