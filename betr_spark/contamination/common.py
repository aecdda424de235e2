"""N-grams of test items that very many documents have: they do not count."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from betr_spark.schemas import ACTION, BENCHMARK, COUNT, DOC_ID, FIRST, IGNORED, ITEM, NGRAMS

_NGRAM, _IS_COMMON = "ngram", "is_common"
_KEY = (BENCHMARK, ITEM)


def with_action(rows: DataFrame, action: str, *, common: int | None) -> DataFrame:
    """Add `action`: `ignored` if every n-gram that the document has of the item is in more than `common` documents.

    Documents are counted for each item and n-gram, among those that have a row.

    Args:
        rows: doc_id, benchmark, item, ngrams, and more columns; one row for each document and item; read several times.
        action: the action of the rows that are not ignored.
        common: the largest number of documents in which an n-gram counts; None for any number.

    Returns:
        `rows` with `action`. Two or three aggregations if an item has more than `common` rows, otherwise one.
    """
    if common is None:
        return rows.withColumn(ACTION, F.lit(action))
    of_items = rows.groupBy(*_KEY).count().where(F.col(COUNT) > common).select(*_KEY)
    if of_items.isEmpty():
        return rows.withColumn(ACTION, F.lit(action))
    each = rows.join(F.broadcast(of_items), on=list(_KEY), how="left_semi").select(
        DOC_ID, *_KEY, F.explode(_first_words()).alias(_NGRAM)
    )
    counts = each.groupBy(*_KEY, _NGRAM).count().select(*_KEY, _NGRAM, (F.col(COUNT) > common).alias(_IS_COMMON))
    ignored = each.join(counts, on=[*_KEY, _NGRAM]).groupBy(DOC_ID, *_KEY).agg(F.every(_IS_COMMON).alias(_IS_COMMON))
    marked = rows.join(ignored, on=[DOC_ID, *_KEY], how="left")
    return marked.withColumn(ACTION, F.when(F.col(_IS_COMMON), IGNORED).otherwise(action)).select(*rows.columns, ACTION)


def _first_words() -> Column:
    """The first word, in the item, of each n-gram of a row."""
    runs = F.transform(NGRAMS, lambda run: F.sequence(run[FIRST], run[FIRST] + run[COUNT] - 1))
    return F.flatten(runs)
