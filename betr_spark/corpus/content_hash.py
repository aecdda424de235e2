"""The content hash of texts in a DataFrame, equal to `features.content_hash`."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame

from betr_spark.kernels.arrow_buffers import binary_column, string_buffers
from betr_spark.kernels.murmur3 import content_hashes
from betr_spark.schemas import CONTENT_HASH, TEXT


def with_content_hash(documents: DataFrame) -> DataFrame:
    """Add `content_hash` (binary, 16 bytes; null for a null text).

    Args:
        documents: text, and other columns.
    """
    columns = [f"`{field.name.replace('`', '``')}` {field.dataType.simpleString()}" for field in documents.schema]
    return documents.mapInArrow(_add_hash, ", ".join([*columns, f"{CONTENT_HASH} binary"]))


def _add_hash(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        text = batch.column(TEXT)
        hashes = content_hashes(*string_buffers(pc.fill_null(text, "")))
        valid = text.is_valid().to_numpy(zero_copy_only=False)
        yield batch.append_column(CONTENT_HASH, binary_column(hashes, valid))
