"""What `features` says about the input that it scored, in the commits of its table."""

from typing import NamedTuple

from pyspark.sql import SparkSession

from betr_spark import schemas
from betr_spark.config import Config
from betr_spark.errors import DataError
from betr_spark.storage import delta

INPUTS_TABLE = "_inputs"
INPUT_VERSION, INPUT_TABLE = "input_version", "input_table"


class ScoredState(NamedTuple):
    """The state of the input that a commit of `features` scored.

    Attributes:
        version: of the table `_inputs`, which lists the files; for a Delta source, of the source.
        table: id of a Delta source, else empty.
    """

    version: int
    table: str = ""

    def to_metadata(self) -> dict[str, str | int]:
        """Fields of the commit's userMetadata."""
        return {INPUT_VERSION: self.version, **({INPUT_TABLE: self.table} if self.table else {})}


def scored_state(spark: SparkSession, config: Config) -> ScoredState:
    """Read the newest state from the commits of `features`.

    Raises:
        DataError: `features` has not run.
    """
    path = config.table(schemas.FEATURES_TABLE)
    for commit in delta.commits(spark, path):
        about = delta.as_object(commit.user_metadata)
        if INPUT_VERSION in about:
            return ScoredState(int(about[INPUT_VERSION]), str(about.get(INPUT_TABLE, "")))
    raise DataError(f"{path}: does not say which input was scored; run `betr-spark features`")
