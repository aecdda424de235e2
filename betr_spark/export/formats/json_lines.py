"""JSON Lines, compressed with Zstandard."""

from collections.abc import Iterator

import pyarrow as pa

from betr_spark.export.formats.base import Format, Payload, Piece, ShardWriter

_LEVEL = 3


class JsonLines(Format):
    """One JSON object in a line, one Zstandard frame in a file."""

    name = "jsonl.zst"
    suffixes = (".jsonl.zst",)
    payload = Payload.LINE
    modules = ("zstandard",)

    def writer(self) -> ShardWriter:
        """Start a frame."""
        return _JsonLinesWriter()


class _JsonLinesWriter(ShardWriter):
    def __init__(self) -> None:
        import zstandard  # noqa: PLC0415 - optional

        # Without a checksum, which would be the last bytes.
        compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=False)
        self._frame = compressor.compressobj()
        self._end_block, self._end_frame = zstandard.COMPRESSOBJ_FLUSH_BLOCK, zstandard.COMPRESSOBJ_FLUSH_FINISH

    def add(self, batch: pa.RecordBatch) -> Iterator[Piece]:
        lines = batch.column(0).to_pylist()
        yield Piece(".jsonl.zst", self._frame.compress("".join(f"{line}\n" for line in lines).encode()))

    def finish(self) -> Iterator[Piece]:
        """End the frame with an empty block, so that its last bytes are zeros."""
        yield Piece(".jsonl.zst", self._frame.flush(self._end_block) + self._frame.flush(self._end_frame))
