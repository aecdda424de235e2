"""Texts of a few documents, read from the input once for a whole page."""

from collections.abc import Collection

from pyspark.sql import functions as F

from betr_spark import schemas
from betr_spark.pipeline.stage import RunContext
from betr_spark.schemas import DOC_ID, INPUT_FILE, REASON, TEXT
from betr_spark.storage import delta

MAX_TEXTS = 10_000
MAX_CHARACTERS = 1_000_000


def texts_of(
    context: RunContext, ids: Collection[str], *, max_characters: int = MAX_CHARACTERS
) -> dict[str, str]:  # fmt: skip
    """Read the texts of some documents, as they were scored.

    One scan of the ids of `features`, and one of those files of the input that have such a document (of a Delta input, the
    whole table): gather all ids of a page before the call.

    Args:
        context: for the input.
        ids: at most 10,000.
        max_characters: longer texts are cut.

    Returns:
        Texts by id; documents that `features` does not have are left out.

    Raises:
        ValueError: too many ids; the driver holds the texts.
        DataError: a scored file changed or is gone.
    """
    if len(ids) > MAX_TEXTS:
        raise ValueError(f"ids: at most {MAX_TEXTS} are possible, found {len(ids)}")
    if not ids:
        return {}
    spark, config = context.spark, context.config
    features = delta.read(spark, config.table(schemas.FEATURES_TABLE)).where(F.col(DOC_ID).isin(*ids))
    located = {row[0]: row[1] for row in features.select(DOC_ID, INPUT_FILE).collect()}  # at most MAX_TEXTS rows
    if not located:
        return {}
    files = None if config.input.format == "delta" else sorted(set(located.values()))
    documents = context.scored_input().documents(only_files=files)
    rows = documents.where(F.col(DOC_ID).isin(*located) & F.col(REASON).isNull())
    # without `input.id`, the copies of a text have one id
    return {row[0]: row[1] for row in rows.select(DOC_ID, F.substring(TEXT, 1, max_characters)).collect()}
