"""What files look like inside: columns and types, codecs, and files that cannot be read.

Each file is opened when it is new: `_inputs` keeps the layout of every file that `features` scored.
"""

import dataclasses
import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Self
from urllib.parse import unquote

from py4j.protocol import Py4JJavaError
from pyspark.sql import types as T

from betr_spark.errors import DataError
from betr_spark.spark.error_messages import spark_error_line

_THREADS = 16
_NAMED = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """The columns of a Parquet file, or of a Delta table. A JSON file has no columns here.

    Attributes:
        fields: columns that Spark can read, with the types that Spark gives them.
        null_columns: columns of Arrow's null type: they have no type, and every value is null.
        unreadable: columns and fields of structs, by dotted name, with the reason why Spark cannot read them.
        codecs: columns whose compression no class on this cluster can read, with the codec.
    """

    fields: T.StructType = dataclasses.field(default_factory=T.StructType)
    null_columns: frozenset[str] = frozenset()
    unreadable: dict[str, str] = dataclasses.field(default_factory=dict)
    codecs: dict[str, str] = dataclasses.field(default_factory=dict)

    def to_json(self) -> str:
        """Encode; equal layouts give equal strings."""
        values = {"fields": self.fields.jsonValue(), "null_columns": sorted(self.null_columns)}
        return json.dumps({**values, "unreadable": self.unreadable, "codecs": self.codecs}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Decode what `to_json` gives."""
        values = json.loads(text)
        return cls(
            fields=T.StructType.fromJson(values["fields"]), null_columns=frozenset(values["null_columns"]),
            unreadable=values["unreadable"], codecs=values["codecs"],
        )  # fmt: skip


def layouts_of(files: Iterable[str], look: Callable[[str], Layout]) -> dict[str, str]:
    """Look into files, several at a time.

    Args:
        files: their URIs.
        look: opens a file; raises DataError, or an error of the JVM, if it cannot be read.

    Returns:
        The layout as JSON, by URI.

    Raises:
        DataError: files cannot be read; names the first ones, each with the reason, and counts the others.
    """
    names = sorted(files)
    with ThreadPoolExecutor(_THREADS) as pool:
        results = dict(zip(names, pool.map(lambda file: _layout_or_problem(file, look), names), strict=True))
    problems = [f"input.path: {result}" for result in results.values() if isinstance(result, DataError)]
    if len(problems) > _NAMED:
        problems[_NAMED:] = [f"input.path: {len(problems) - _NAMED} more files cannot be read"]
    if problems:
        raise DataError(*problems)
    return {file: result for file, result in results.items() if isinstance(result, str)}


def _layout_or_problem(file: str, look: Callable[[str], Layout]) -> str | DataError:
    try:
        return look(file).to_json()
    except DataError as error:
        return error
    except Py4JJavaError as error:
        cause = " ".join(str(error.java_exception.getMessage()).replace(file, "").split())
        return DataError(spark_error_line(error) or f"{unquote(file)}: cannot be read ({cause[:200]})")
