"""Rows of the tables for a few documents, found by their ids, and their texts."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from betr_spark import schemas
from betr_spark.corpus.content_hash import with_content_hash
from betr_spark.errors import BetrSparkError, DataError, quoted
from betr_spark.pipeline.stage import RunContext
from betr_spark.schemas import BANDS, CONTENT_HASH, DOC_ID, INPUT_FILE, REASON, SIGNATURE, TEXT
from betr_spark.storage import delta

MAX_DOCUMENTS = 50  # of a command: their texts are on the driver
ORDER_HASH = "order_hash"
Row = dict[str, Any]


def table(context: RunContext, name: str) -> DataFrame | None:
    """Read a table of the output; None if it does not exist."""
    path = context.config.table(name)
    return delta.read(context.spark, path) if delta.exists(context.spark, path) else None


def rows_of(rows: DataFrame | None, ids: Collection[str], key: str = DOC_ID) -> list[Row]:
    """The rows whose `key` is one of a few ids; none of a table that does not exist."""
    if rows is None or not ids:
        return []
    return [row.asDict(recursive=True) for row in rows.where(F.col(key).isin(*ids)).collect()]  # a few rows of each id


def features_rows(context: RunContext, ids: Collection[str]) -> dict[str, Row]:
    """Rows of `features` by id, without the signature, and with the hash that breaks ties of the order.

    Raises:
        DataError: `features` has not run.
    """
    path = context.config.table(schemas.FEATURES_TABLE)
    if not delta.exists(context.spark, path):
        raise DataError(f"{path}: table not found; create it with `betr-spark run`")
    rows = delta.read(context.spark, path).drop(BANDS, SIGNATURE).withColumn(ORDER_HASH, F.xxhash64(DOC_ID))
    return {row[DOC_ID]: row for row in rows_of(rows, ids)}


def ranks_before(logit: Column, row: Row, value: float) -> Column:
    """Whether a row of a table is before a document in the ranking order: a higher logit, or an equal one and a lower hash.

    The order is that of `ordering`, in SQL alone.

    Args:
        logit: of the rows.
        row: of the document, as `features_rows` gives it.
        value: its logit.
    """
    wide, own, hash64 = logit.cast("double"), F.lit(float(value)), F.xxhash64(DOC_ID)
    own_hash, equal = F.lit(row[ORDER_HASH]).cast("bigint"), wide == own
    in_order: Column = (hash64 < own_hash) | ((hash64 == own_hash) & (F.col(DOC_ID) < row[DOC_ID]))
    is_before: Column = (wide > own) | (equal & in_order)
    return is_before


def texts_of(context: RunContext, documents: Mapping[str, Row]) -> tuple[dict[str, str], list[str]]:
    """Texts by id, and what is wrong with the others; reads only the files that have the documents (of a Delta input, all).

    Args:
        context: of the command.
        documents: rows of `features` by id.
    """
    if not documents:
        return {}, []
    source = context.config.input
    files = None if source.format == "delta" else sorted({row[INPUT_FILE] for row in documents.values()})
    try:
        rows = context.scored_input().documents(only_files=files, leave_utf8=True)
        rows = rows.where(F.col(REASON).isNull() & F.col(DOC_ID).isin(*documents)).select(DOC_ID, TEXT)
        found = with_content_hash(rows).collect()  # the documents that were asked for
    except BetrSparkError as error:
        return {}, [f"texts cannot be read, so nothing is said about n-grams: {error.args[0]}"]
    texts = {row[DOC_ID]: row[TEXT] for row in found if row[CONTENT_HASH] == documents[row[DOC_ID]][CONTENT_HASH]}
    return texts, [
        f"input.path: {source.path}: the text of document {quoted(doc_id)} is not the one that was scored"
        for doc_id in documents
        if doc_id not in texts
    ]


def first_of(rows: Iterable[Row], **values: Any) -> Row | None:
    """The first row with these values."""
    return next((row for row in rows if all(row[name] == value for name, value in values.items())), None)
