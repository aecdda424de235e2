"""Columns from `key=value` folders: the values as they are written, always strings."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from betr_spark.corpus.listing import FILE, ROW_FILE

_DEFAULT_PARTITION = "__HIVE_DEFAULT_PARTITION__"
_MAX_KEYS = 1_000


def folder_keys(files: DataFrame) -> list[str]:
    """Keys of all folders on the paths of the files."""
    keys = F.regexp_extract_all(_decoded(F.col(FILE)), F.lit("/([^/=]+)=[^/]*(?=/)"), F.lit(1))
    rows = files.select(F.explode(keys).alias("key")).distinct().limit(_MAX_KEYS).collect()
    return sorted(row["key"] for row in rows)


def folder_value(key: str) -> Column:
    """The value of the innermost folder with a key, on the path of the row's file; null for Hive's name of null."""
    escaped = "".join(rf"\{c}" if c in r"\.[]{}()*+?^$|" else c for c in key)
    folders = F.regexp_extract_all(_decoded(F.col(ROW_FILE)), F.lit(rf"/{escaped}=([^/]*)(?=/)"), F.lit(1))
    name = F.try_element_at(folders, F.lit(-1))
    return F.nullif(F.coalesce(_decoded(name), name), F.lit(_DEFAULT_PARTITION))


def _decoded(encoded: Column) -> Column:
    """Undo the encoding of a URI, or of the writer of a folder; null if it is none."""
    return F.try_url_decode(F.replace(encoded, F.lit("+"), F.lit("%2B")))
