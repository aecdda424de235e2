"""The content hash of `features`, computed for any frame of documents."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import types as T

from betr_spark.kernels.arrow_buffers import binary_column, string_buffers
from betr_spark.kernels.murmur3 import content_hashes
from betr_spark.schemas import CONTENT_HASH, TEXT


def with_content_hash(documents: DataFrame) -> DataFrame:
    """Add `content_hash`, binary(16): MurmurHash3 of the text's UTF-8 bytes, equal to the column of `features`.

    Args:
        documents: text and any other columns. The hash of a null text is null.
    """
    schema = T.StructType([*documents.schema.fields, T.StructField(CONTENT_HASH, T.BinaryType())])
    return documents.mapInArrow(_hashed, schema)


def _hashed(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        text = batch.column(TEXT)
        hashes = content_hashes(*string_buffers(pc.fill_null(text, "") if text.null_count else text))
        yield batch.append_column(CONTENT_HASH, binary_column(hashes, pc.is_valid(text).to_numpy(zero_copy_only=False)))
