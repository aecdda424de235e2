"""Documents as the stage `features` takes them from local Parquet files, for benchmarks of the pass: without their texts."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from betr_spark.config import InputConfig
from betr_spark.corpus.columns import read_schema
from betr_spark.corpus.documents import Shape, documents_of
from betr_spark.corpus.listing import with_input_file
from betr_spark.corpus.parquet_texts import TEXT_ROW
from betr_spark.corpus.snapshot import InputSnapshot
from betr_spark.schemas import DOC_ID, INPUT_FILE, REASON, SOURCE, TEXT

Batches = Iterator[pa.RecordBatch]


def documents_by_row(spark: SparkSession, folder: Path) -> tuple[DataFrame, Callable[[Batches], Batches]]:
    """Return a frame of the documents (id, text) of a folder, and the function of a worker that adds their texts."""
    source = InputConfig(path=str(folder), id="id", text=TEXT)
    snapshot = InputSnapshot.resolve(spark, source)
    texts = snapshot.text_column()
    assert texts is not None
    columns = {path: column for path, column in snapshot.columns.items() if path != snapshot.used.text.path}
    rows = with_input_file(spark.read.schema(read_schema(columns)).parquet(str(folder)), row=TEXT_ROW)
    documents = documents_of(rows, source, snapshot.used, snapshot.columns, Shape(leave_utf8=True, by_row=True))
    return documents.select(DOC_ID, SOURCE, TEXT_ROW, REASON, INPUT_FILE), texts.read
