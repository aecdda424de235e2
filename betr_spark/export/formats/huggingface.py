"""The folder that `datasets.load_from_disk` opens: Arrow files, `dataset_info.json` and `state.json`."""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import pyarrow as pa

from betr_spark.export.formats.base import Format, Piece, ShardWriter, Sink
from betr_spark.export.formats.row_groups import RowGroups

_GROUP_ROWS, _GROUP_BYTES = 1_000, 4 * 2**20


class HuggingFace(Format):
    """One Arrow stream a shard. It is mapped into memory to be read, so it is not compressed."""

    name = "hf"
    suffixes = (".arrow",)
    modules = ("datasets",)

    def writer(self) -> ShardWriter:
        """Start a stream."""
        return _ArrowStreamWriter()

    def problems(self, schema: pa.Schema) -> Iterator[str]:
        """Columns of types that datasets does not have, such as maps."""
        for field in schema:
            try:
                _features(pa.schema([field]))
            except ValueError:
                yield f"column {field.name}: {field.type}: not a type of Hugging Face datasets; choose another --format"

    def more_files(self, schema: pa.Schema, names: Sequence[str], digest: str) -> Mapping[str, bytes]:
        """The two files that `save_to_disk` writes beside the data."""
        import datasets  # noqa: PLC0415 - optional

        info = dataclasses.asdict(datasets.DatasetInfo(features=_features(schema)))
        state: dict[str, Any] = {
            "_data_files": [{"filename": name} for name in names], "_fingerprint": digest[:16], "_format_columns": None,
            "_format_kwargs": {}, "_format_type": None, "_output_all_columns": False, "_split": None,
        }  # fmt: skip
        return {
            "dataset_info.json": json.dumps({name: info[name] for name in sorted(info)}, indent=2).encode(),
            "state.json": json.dumps(state, indent=2, sort_keys=True).encode(),
        }


class _ArrowStreamWriter(ShardWriter):
    def __init__(self) -> None:
        self._groups = RowGroups(rows=_GROUP_ROWS, n_bytes=_GROUP_BYTES)
        self._sink, self._writer = Sink(), cast(Any, None)  # the first batch tells the columns

    def add(self, batch: pa.RecordBatch) -> Iterator[Piece]:
        if self._writer is None:
            from datasets.arrow_writer import ArrowWriter  # noqa: PLC0415 - optional

            self._writer = ArrowWriter(features=_features(batch.schema), stream=self._sink)
        for group in self._groups.add(batch):
            yield self._write(group)

    def finish(self) -> Iterator[Piece]:
        for group in self._groups.rest():
            yield self._write(group)
        self._writer.finalize(close_stream=False)
        yield Piece(".arrow", self._sink.take())

    def _write(self, group: pa.Table) -> Piece:
        self._writer.write_table(group, writer_batch_size=_GROUP_ROWS)
        return Piece(".arrow", self._sink.take())


def _features(schema: pa.Schema) -> Any:
    from datasets import Features  # noqa: PLC0415 - optional

    return Features.from_arrow_schema(schema.remove_metadata())
