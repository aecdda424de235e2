"""The formats of an export by name. Nothing here imports Spark: the writers run in its Python workers."""

from collections.abc import Callable

from betr_spark.export.formats.base import Format, Payload, Piece, ShardWriter
from betr_spark.export.formats.huggingface import HuggingFace
from betr_spark.export.formats.json_lines import JsonLines
from betr_spark.export.formats.megatron import Megatron
from betr_spark.export.formats.parquet import Parquet

__all__ = ["FORMATS", "Format", "Megatron", "Payload", "Piece", "ShardWriter"]

FORMATS: dict[str, Callable[[], Format]] = {
    "jsonl.zst": JsonLines,
    "parquet": Parquet,
    "megatron": Megatron,
    "hf": HuggingFace,
}
