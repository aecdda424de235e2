"""Texts of Parquet files, read by Arrow in a Python worker: Spark would convert each value to a row and back to Arrow.

Spark reads the other columns, and gives the file and the number of each row.
"""

from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from betr_spark.schemas import DETAIL, INPUT_FILE, REASON, ROW, TEXT
from betr_spark.spark.causes import causes

TEXT_ROW = "betr_spark_row_number"  # the number of a row in its file, next to columns of the input, of any name
_PIECE_BYTES, _MAX_ROWS = 1 << 23, 1024  # of texts that are in memory together, if they are of average length
_MAX_PIECE_BYTES = 1 << 25  # if a piece has more, the next ones have fewer rows
_BUFFER_BYTES = 1 << 20


class TextsNotReadError(Exception):
    """Arrow cannot read the texts of a file; Spark may."""


def why_texts_not_read(error: BaseException | None) -> str | None:
    """What `TextsNotReadError` says, if it is what stopped a query."""
    name = f"{TextsNotReadError.__module__}.{TextsNotReadError.__qualname__}: "
    messages = [] if error is None else [cause.message for cause in causes(error)]
    return next((message.partition(name)[2].splitlines()[0] for message in messages if name in message), None)


class TextColumn(NamedTuple):
    """What to read.

    Attributes:
        name: of a column on the top level of each file.
        max_bytes: longer texts are left out.
    """

    name: str
    max_bytes: int

    def read(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Replace the numbers of rows by the texts; a batch is cut where its texts are long.

        Args:
            batches: input_file (an encoded URI of a local file), TEXT_ROW (int64, ascending in a file), reason, and others.

        Yields:
            text (string), reason, detail, row, and the others. The text is null in a row that has a reason; null texts and
            texts of more than `max_bytes` get one. Detail and row are null.

        Raises:
            TextsNotReadError: a file is gone, Arrow cannot read it, or its column is not a column of strings.
        """
        reader = _Reader(self.name)
        for batch in batches:
            files = batch.column(INPUT_FILE).dictionary_encode()
            bounds = np.flatnonzero(np.diff(files.indices.to_numpy(), prepend=-1, append=-1))
            for start, end in zip(bounds[:-1], bounds[1:], strict=True):
                rows = batch.column(TEXT_ROW).slice(start, end - start).to_numpy()
                at = int(start)
                for texts in reader.texts(files.dictionary[files.indices[start].as_py()].as_py(), rows):
                    yield self._with_texts(batch.slice(at, len(texts)), texts)
                    at += len(texts)

    def _with_texts(self, batch: pa.RecordBatch, texts: pa.Array) -> pa.RecordBatch:
        columns = {name: batch.column(name) for name in batch.schema.names if name != TEXT_ROW}
        too_long = pc.fill_null(pc.greater(pc.binary_length(texts), self.max_bytes), False)
        if texts.null_count or columns[REASON].null_count < len(batch) or pc.any(too_long).as_py():
            reason = pc.if_else(pc.is_null(texts), "null_text", pc.if_else(too_long, "text_too_long", None))
            columns[REASON] = pc.coalesce(columns[REASON], reason)
            texts = pc.if_else(pc.is_null(columns[REASON]), texts, None)
        columns[TEXT], columns[DETAIL], columns[ROW] = texts, *[pa.nulls(len(batch), pa.string())] * 2
        return pa.RecordBatch.from_arrays([*columns.values()], [*columns])


class _Reader:
    """Decodes a file in pieces of rows, forwards; rows that nobody asks for are decoded too if they are in between.

    The rows of a piece follow from the size of the row group. That size is too small where a dictionary has the texts, and says
    nothing of where the long texts are.
    """

    def __init__(self, column: str) -> None:
        self._column, self._uri = column, ""
        self._start = self._end = 0  # rows of the file in `_piece`

    def texts(self, uri: str, rows: NDArray[np.int64]) -> Iterator[pa.Array]:
        """Yield the texts of rows of a file, in pieces and in this order."""
        try:
            if uri != self._uri:
                self._open(uri)
            at = 0
            while at < len(rows):
                if not self._start <= rows[at] < self._end:
                    self._go_to(int(rows[at]))
                n = int(np.searchsorted(rows[at:], self._end))
                first, last = int(rows[at]) - self._start, int(rows[at + n - 1]) - self._start
                is_run = last - first == n - 1
                yield (
                    self._piece.slice(first, n)
                    if is_run
                    else self._piece.take(pa.array(rows[at : at + n] - self._start))
                )
                at += n
        except (pa.ArrowException, OSError, LookupError, ValueError) as error:
            raise TextsNotReadError(f"{unquote(uri)}: {error}") from error

    def _open(self, uri: str) -> None:
        self._file = pq.ParquetFile(unquote(urlsplit(uri).path), buffer_size=_BUFFER_BYTES, pre_buffer=False)
        self._uri, self._start, self._end, self._group, self._max_rows = uri, 0, 0, -1, _MAX_ROWS
        about = self._file.metadata
        self._group_starts = np.cumsum([0, *(about.row_group(i).num_rows for i in range(about.num_row_groups))])

    def _go_to(self, row: int) -> None:
        """Decode until a row is in the piece."""
        group = int(np.searchsorted(self._group_starts, row, side="right")) - 1
        if group != self._group or row < self._start:
            n_bytes, n = (
                self._file.metadata.row_group(group).total_byte_size,
                self._file.metadata.row_group(group).num_rows,
            )
            self._max_rows = min(max(1, _PIECE_BYTES * n // max(1, n_bytes)), self._max_rows)
            self._pieces = self._file.iter_batches(
                self._max_rows, row_groups=[group], columns=[self._column], use_threads=False
            )
            self._group, self._end = group, int(self._group_starts[group])
        while row >= self._end:
            piece = next(self._pieces).column(self._column)
            self._piece = _as_strings(piece)
            self._start, self._end = self._end, self._end + len(piece)
        if self._piece.nbytes > _MAX_PIECE_BYTES and self._max_rows > 1:
            self._max_rows = max(1, self._max_rows * _PIECE_BYTES // self._piece.nbytes)
            self._group = -1  # decodes the group again from its start, for the next piece


def _as_strings(values: pa.Array) -> pa.Array:
    """Bytes of a column that has no type of strings are taken as they are, as Spark does."""
    kind = values.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return values
    if pa.types.is_binary(kind):
        return pa.Array.from_buffers(pa.string(), len(values), values.buffers(), values.null_count, values.offset)
    raise ValueError(f"a column of {kind}")
