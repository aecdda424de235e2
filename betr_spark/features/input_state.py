"""Which state of the input each batch scored: for `features` to say, and for later stages to read the same text."""

import json

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from betr_spark.config import Config
from betr_spark.corpus.files import InputFiles
from betr_spark.corpus.listing import FILE, IDENTITY, LAYOUT
from betr_spark.corpus.scored_files import DIGEST, FIRST_FILES
from betr_spark.corpus.scored_state import INPUTS_TABLE, ScoredState
from betr_spark.corpus.snapshot import InputSnapshot
from betr_spark.errors import DataError
from betr_spark.features.checkpoint import CHECKPOINTS, Checkpoint
from betr_spark.features.file_log import (
    check_all_read,
    check_batch_read,
    files_of_batch,
    names_in_log,
    names_of_batch,
    plain_name,
)
from betr_spark.schemas import INPUT_FILE
from betr_spark.storage import delta, hadoop_files

_BEFORE_FIRST_FILE = 0  # an index below it: nothing of the version was read


class InputState:
    """The state of the input that the batches of a query have scored so far.

    A stream lists the input again when it starts, so it may read files that came after the snapshot. They are added to
    `_inputs` before the batch that read them is committed.
    """

    def __init__(self, snapshot: InputSnapshot, config: Config, checkpoint: Checkpoint) -> None:
        self._snapshot, self._config, self._checkpoint = snapshot, config, checkpoint
        self._inputs_version = checkpoint.inputs_version
        content = snapshot.content
        self._names = (
            content.listing.names() if isinstance(content, InputFiles) else None
        )  # of `_inputs`, if they are few

    def after(self, read: DataFrame, batch: int) -> ScoredState:
        """The state after a batch.

        Args:
            read: input_file, and others; rows of `features` from the batch.
            batch: its number.

        Raises:
            DataError: a file of the batch was deleted before it was read.
        """
        if self._config.input.format == "delta":
            return self._table_state(batch)
        path, spark = self._config.table(INPUTS_TABLE), self._snapshot.spark
        if self._names is not None:
            few = names_of_batch(spark, self._config, self._checkpoint.name, batch)
            if few <= self._names:
                with_rows = read.select(INPUT_FILE).distinct().collect()  # at most those of `_names`
                if few <= {plain_name(row[INPUT_FILE]) for row in with_rows}:
                    return ScoredState(self._inputs_version)
        in_batch = files_of_batch(spark, self._config, self._checkpoint.name, batch)
        check_batch_read(in_batch, read.select(F.col(INPUT_FILE).alias(FILE)).distinct(), self._config)
        listed = delta.read(spark, path, version=self._inputs_version)
        late = in_batch.join(listed, on=FILE, how="left_anti").distinct()
        if late.take(1):
            self._add(late)
        return ScoredState(self._inputs_version)

    def again(self, batch: int) -> DataFrame:
        """Read the documents of a batch's Parquet files once more, with their texts."""
        files = files_of_batch(self._snapshot.spark, self._config, self._checkpoint.name, batch)
        return self._snapshot.again(files)

    def at_end(self, last: ScoredState) -> ScoredState:
        """The state after the last batch: files without rows have been read too.

        Raises:
            DataError: a file was deleted before a batch could read it.
        """
        if self._config.input.format == "delta":
            return last
        if self._names is not None and self._names <= names_in_log(
            self._snapshot.spark, self._config, self._checkpoint.name
        ):
            return ScoredState(self._inputs_version)
        listed = delta.read(self._snapshot.spark, self._config.table(INPUTS_TABLE), version=self._inputs_version)
        check_all_read(self._config, self._checkpoint.name, listed)
        return ScoredState(self._inputs_version)

    def _add(self, late: DataFrame) -> None:
        """Add files to `_inputs`; one that is gone already gets a size that no file has."""
        path, spark = self._config.table(INPUTS_TABLE), self._snapshot.spark
        newest = delta.newest_commit(spark, path)
        about = delta.as_object(newest.user_metadata if newest else None)
        fresh = InputFiles.current(spark, self._config.input, scored=path)
        rows = late.join(fresh.inventory, on=FILE, how="left")
        gone = {"n_bytes": F.lit(-1), "modified": F.lit(0).cast("timestamp"), LAYOUT: F.lit(0)}
        columns = [F.coalesce(F.col(name), gone[name]).alias(name) for name in (*IDENTITY[1:], LAYOUT)]
        about = {name: value for name, value in about.items() if name not in (DIGEST, FIRST_FILES)}
        metadata = delta.to_json({**about, **fresh.to_metadata(complete=False)})
        delta.append(rows.select(FILE, *columns), path, user_metadata=metadata)
        self._inputs_version = delta.newest_version(spark, path)

    def _table_state(self, batch: int) -> ScoredState:
        """The version of a Delta source up to which a batch reads, from the offset in the checkpoint."""
        path = self._config.table(f"{CHECKPOINTS}/{self._checkpoint.name}/offsets/{batch}")
        lines = hadoop_files.read_bytes(self._snapshot.spark, path).decode().splitlines()
        for line in reversed(lines):
            offset = json.loads(line) if line.startswith("{") else {}
            if "reservoirVersion" in offset:
                whole = offset["index"] >= _BEFORE_FIRST_FILE
                return ScoredState(offset["reservoirVersion"] - (0 if whole else 1), offset["reservoirId"])
        raise DataError(f"{path}: no offset of a Delta table; delete {CHECKPOINTS} in the output to read all again")
