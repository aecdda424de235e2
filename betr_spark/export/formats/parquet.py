"""Parquet files, compressed with Zstandard."""

from collections.abc import Iterator
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from betr_spark.export.formats.base import Format, Piece, ShardWriter, Sink
from betr_spark.export.formats.row_groups import RowGroups

_GROUP_ROWS, _GROUP_BYTES = 50_000, 32 * 2**20


class Parquet(Format):
    """One Parquet file a shard, in row groups of about 32 MiB of text."""

    name = "parquet"
    suffixes = (".parquet",)
    separator = "1"  # a Parquet file ends with PAR1

    def writer(self) -> ShardWriter:
        """Start a file."""
        return _ParquetWriter()


class _ParquetWriter(ShardWriter):
    def __init__(self) -> None:
        self._groups = RowGroups(rows=_GROUP_ROWS, n_bytes=_GROUP_BYTES)
        self._sink, self._writer = Sink(), cast(Any, None)  # the first batch tells the columns

    def add(self, batch: pa.RecordBatch) -> Iterator[Piece]:
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._sink, batch.schema.remove_metadata(), compression="zstd")
        for group in self._groups.add(batch):
            yield self._write(group)

    def finish(self) -> Iterator[Piece]:
        for group in self._groups.rest():
            yield self._write(group)
        self._writer.close()
        yield Piece(".parquet", self._sink.take())

    def _write(self, group: pa.Table) -> Piece:
        self._writer.write_table(group.replace_schema_metadata(None), row_group_size=_GROUP_ROWS)
        return Piece(".parquet", self._sink.take())
