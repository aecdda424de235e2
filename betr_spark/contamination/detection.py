"""Documents on Spark that contain test items: the index is sent to the executors, whose workers share it."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from betr_spark import schemas
from betr_spark.config import Config
from betr_spark.contamination.in_pass import ItemFinder
from betr_spark.contamination.index import Index, build_index
from betr_spark.contamination.matches import find_matches
from betr_spark.contamination.rows import contamination_of
from betr_spark.contamination.shared_memory import map_index, write_index
from betr_spark.contamination.test_files import read_items
from betr_spark.kernels.arrow_buffers import string_buffers
from betr_spark.schemas import ACTION, CONTAMINATION, DOC_ID, IGNORED, TEXT
from betr_spark.storage import delta, shipping


def ship_index(spark: SparkSession, index: Index) -> Callable[[], Index]:
    """Send an index to every executor once; the function returned gives it in a worker."""
    description = write_index(index, shipping.shipping_folder(spark))
    fetched = shipping.ship(spark, description.name)
    return lambda: map_index(description, fetched())


def ship_finder(spark: SparkSession, config: Config) -> Callable[[], ItemFinder] | None:
    """Send the configured items to every executor once; the function returned gives a worker's finder. None without items."""
    settings = config.decontaminate
    if settings is None:
        return None
    index = ship_index(spark, configured_index(spark, config))
    return lambda: ItemFinder(index(), settings.min_coverage)


def configured_index(spark: SparkSession, config: Config) -> Index:
    """Index the test items of the configuration, which has `decontaminate`."""
    assert config.decontaminate is not None
    n_min, n_max = config.decontaminate.ngram
    return build_index(read_items(spark, config), n_min=n_min, n_max=n_max)


def contaminated(documents: DataFrame, index: Callable[[], Index], *, min_coverage: float) -> DataFrame:
    """Find test items in documents.

    Args:
        documents: doc_id and text, which is not null.
        index: as `ship_index` returns it.
        min_coverage: share of an item's words that a document must have.

    Returns:
        Rows of `contamination` without `action`, one for each document and item.
    """
    rows = partial(_rows, index=index, min_coverage=min_coverage)
    return documents.select(DOC_ID, TEXT).mapInArrow(rows, CONTAMINATION)


def _rows(
    batches: Iterator[pa.RecordBatch], *, index: Callable[[], Index], min_coverage: float
) -> Iterator[pa.RecordBatch]:
    mapped = index()
    for batch in batches:
        matches = find_matches(*string_buffers(batch.column(TEXT)), mapped.ngrams)
        yield contamination_of(
            batch.column(DOC_ID), batch.column(TEXT), matches, mapped, min_coverage=min_coverage
        ).rows


def contaminated_texts(texts: Sequence[str], index: Index, *, min_coverage: float) -> list[dict[str, Any]]:
    """Find test items in a few texts on the driver: rows of `contamination`, whose doc_id is the position of the text."""
    column = pa.array(texts, pa.large_string())
    matches = find_matches(*string_buffers(column), index.ngrams)
    ids = pa.array([str(number) for number in range(len(texts))])
    rows: list[dict[str, Any]] = contamination_of(
        ids, column, matches, index, min_coverage=min_coverage
    ).rows.to_pylist()
    return rows


def without_test_items(documents: DataFrame, config: Config) -> DataFrame:
    """Leave out documents that have a test item, if `decontaminate.action` is `drop`; the texts are looked at here.

    Args:
        documents: doc_id and text, which is not null, and other columns.
        config: of the run.

    Raises:
        ConfigError, DataError: a test file or its template is wrong.
    """
    settings, spark = config.decontaminate, documents.sparkSession
    if settings is None or not config.drops_contaminated():
        return documents
    index = ship_index(spark, configured_index(spark, config))
    found = contaminated(documents, index, min_coverage=settings.min_coverage)
    return documents.join(found.select(DOC_ID).distinct(), on=DOC_ID, how="left_anti")


def without_contaminated(documents: DataFrame, config: Config) -> DataFrame:
    """Leave out documents that have a test item, if `decontaminate.action` is `drop`. `documents` has doc_id.

    Raises:
        DataError: `contamination` does not exist.
    """
    if not config.drops_contaminated():
        return documents
    found = contamination_rows(documents.sparkSession, config)
    return documents.join(found.select(DOC_ID).distinct(), on=DOC_ID, how="left_anti")


def contamination_rows(spark: SparkSession, config: Config) -> DataFrame:
    """Read the rows of `contamination` that count: those whose action is not `ignored`."""
    return delta.read(spark, config.table(schemas.CONTAMINATION_TABLE)).where(F.col(ACTION) != IGNORED)
