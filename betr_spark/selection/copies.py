"""Rows of the input that have the same id: without a column of ids, all copies of a text."""

from collections.abc import Sequence

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from betr_spark.schemas import DOC_ID, SOURCE, TEXT

_SOURCE_IN_FEATURES, _ROW = "source_in_features", "copy"
_JSON = {"timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX", "timestampNTZFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSS"}


def one_copy(documents: DataFrame, features: DataFrame, names: Sequence[str]) -> DataFrame:
    """Of rows with the same id, take the columns of one: of the source in `features`, the same row for any partitioning.

    Args:
        documents: doc_id, source, and the columns; rows of the input.
        features: doc_id, source; one row for each document, others are left out.
        names: of the columns.

    Returns:
        doc_id and the columns; one row for each document.
    """
    sources = features.select(DOC_ID, F.col(SOURCE).alias(_SOURCE_IN_FEATURES))
    joined = documents.join(sources, on=DOC_ID, how="inner")
    differs = ~F.col(SOURCE).eqNullSafe(F.col(_SOURCE_IN_FEATURES))
    others = [name for name in names if name != TEXT]  # the text of all copies is the same
    order = F.struct(differs, *([F.to_json(F.struct(*others), _JSON)] if others else []))
    rows = joined.groupBy(DOC_ID).agg(F.min_by(F.struct(*names), order).alias(_ROW))
    return rows.select(DOC_ID, f"{_ROW}.*")
