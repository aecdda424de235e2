"""A version of `_inputs`: the files that `features` scored, and what its commit says of them."""

import dataclasses
from functools import cached_property
from typing import Self

from pyspark.sql import DataFrame, SparkSession

from betr_spark.corpus.listing import IDENTITY, LAYOUT
from betr_spark.storage import delta

LAYOUTS, FORMAT, DIGEST, FIRST_FILES = "layouts", "format", "digest", "first_files"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ScoredFiles:
    """Files with the layouts of their columns.

    Attributes:
        spark: the session.
        path: of the table.
        version: of the table.
        layouts: as JSON, by number.
        digest: of the inventory; None if the table lacks some of the files.
        first_files: a file of each layout, if that is known.
    """

    spark: SparkSession
    path: str
    version: int
    layouts: list[str]
    digest: str | None
    first_files: dict[int, str] | None

    @classmethod
    def of(cls, spark: SparkSession, path: str, file_format: str, version: int | None = None) -> Self | None:
        """Find a version, by default the newest; None if it does not exist or lists files of another format."""
        for commit in delta.commits(spark, path):
            if version in (None, commit.version):
                about = delta.as_object(commit.user_metadata)
                if about.get(FORMAT) != file_format:
                    return None
                return cls(
                    spark=spark, path=path, version=commit.version, layouts=list(about[LAYOUTS]),
                    digest=about.get(DIGEST),
                    first_files={int(number): file for number, file in about.get(FIRST_FILES, {}).items()} or None,
                )  # fmt: skip
        return None

    @cached_property
    def inventory(self) -> DataFrame:
        """The rows: file, n_bytes, modified, layout (a number). Opening the table takes a second, so it is done when needed."""
        return delta.read(self.spark, self.path, version=self.version).select(*IDENTITY, LAYOUT)
