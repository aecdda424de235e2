"""Groups of rows that do not depend on the batches in which the rows arrive."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from betr_spark.schemas import TEXT


class RowGroups:
    """Collects rows, and gives a group when it has `rows` rows, or as soon as its texts have `n_bytes` bytes.

    Held in memory: one group, and the batch that completes it.
    """

    def __init__(self, *, rows: int, n_bytes: int) -> None:
        self._max_rows, self._max_bytes = rows, n_bytes
        self._parts: list[pa.RecordBatch] = []
        self._rows = self._bytes = 0

    def add(self, batch: pa.RecordBatch) -> Iterator[pa.Table]:
        """Take rows, and yield the groups that they complete."""
        start = 0
        for row, size in enumerate(pc.binary_length(batch.column(TEXT)).to_pylist()):
            self._rows, self._bytes = self._rows + 1, self._bytes + (size or 0)
            if self._rows == self._max_rows or self._bytes >= self._max_bytes:
                self._parts.append(batch.slice(start, row + 1 - start))
                yield from self.rest()
                start = row + 1
        if start < batch.num_rows:
            self._parts.append(batch.slice(start))

    def rest(self) -> Iterator[pa.Table]:
        """Yield the rows that are left as a group, if there are any."""
        if self._parts:
            group = pa.Table.from_batches(self._parts).combine_chunks()
            self._parts, self._rows, self._bytes = [], 0, 0
            yield group
