"""The input as one run reads it: resolved once, the same files or table version for every stage."""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cached_property, reduce
from typing import Self

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from betr_spark.config import Config, InputConfig
from betr_spark.corpus.columns import Located, Origin, Path, UsedColumns
from betr_spark.corpus.documents import Shape, documents_of
from betr_spark.corpus.files import InputFiles
from betr_spark.corpus.parquet_texts import TEXT_ROW, TextColumn
from betr_spark.corpus.scored_state import INPUTS_TABLE
from betr_spark.corpus.table import InputTable
from betr_spark.schemas import DOC_ID
from betr_spark.storage import hadoop_files


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class InputSnapshot:
    """One state of the input, from which every stage of a run reads.

    Attributes:
        spark: the session.
        source: its configuration.
        used: the columns that the configuration names.
        content: the exact files, or the exact version of the Delta table.
        columns: where the values of the used columns come from, and their types, widened over all files.
    """

    spark: SparkSession
    source: InputConfig
    used: UsedColumns
    content: InputFiles | InputTable
    columns: Mapping[Path, Located]

    @classmethod
    def resolve(
        cls, spark: SparkSession, source: InputConfig, *, numbers: Mapping[str, str] | None = None,
        scored: str | None = None,
    ) -> Self:  # fmt: skip
        """List the input once, and check its files and columns.

        Args:
            spark: the session.
            source: where the documents are.
            numbers: columns of expression scorers, by the scorer's name.
            scored: path of the table `_inputs`; files that it holds unchanged are not opened again.

        Raises:
            DataError: the input does not exist, is empty, or has files that cannot be read; one line for each problem.
            SchemaError: a column does not exist or has the wrong type; one line for each problem.
        """
        used = UsedColumns.of(source, numbers or {})
        content = (
            InputTable.current(spark, source.path)
            if source.format == "delta"
            else InputFiles.current(spark, source, scored=scored)
        )
        return cls(spark=spark, source=source, used=used, content=content, columns=content.located(used.all()))

    @classmethod
    def current(cls, spark: SparkSession, config: Config) -> Self:
        """Resolve the input of a configuration as it is now."""
        scored = config.table(INPUTS_TABLE)
        return cls.resolve(spark, config.input, numbers=config.expressions(), scored=scored)

    @classmethod
    def scored(cls, spark: SparkSession, config: Config) -> Self:
        """Return the snapshot that `features` scored, whatever was added to the input since.

        Raises:
            DataError: `features` has not run, or a file or version that it scored is not there any more.
        """
        used = UsedColumns.of(config.input, config.expressions())
        content = (
            InputTable.scored(spark, config) if config.input.format == "delta" else InputFiles.scored(spark, config)
        )
        return cls(spark=spark, source=config.input, used=used, content=content, columns=content.located(used.all()))

    @cached_property
    def version(self) -> str:
        """What stage keys hold: id and version of the Delta table, or a digest of the files' names, sizes and times."""
        return self.content.version()

    def documents(
        self, *, leave_utf8: bool = False, only_files: Sequence[str] | None = None, carried: bool = False,
        numbers: bool = False,
    ) -> DataFrame:  # fmt: skip
        """Read the documents of this snapshot; only the columns that are used are read.

        `reason` is null on a row that can be used; otherwise it says why not (null_id, null_text, text_not_a_string,
        invalid_json, invalid_utf8, text_too_long, with `numbers` also invalid_tokens), `row` holds the columns as JSON, cut at
        10 kB, and the text is null.

        Args:
            leave_utf8: leave it to the pass over the text, which sees every byte, to find texts that are not UTF-8; then
                `input_file` is in every row.
            only_files: values of `input_file`: no other file is read. Ignored for Delta.
            carried: read the carried columns too.
            numbers: read the columns of expression scorers too, as `logit_NAME`, double, and `input.tokens.column` as
                `n_lm_tokens`, int.

        Returns:
            doc_id, source, text, carried columns, logits, n_lm_tokens, reason, detail, row, input_file.
        """
        shape = Shape(leave_utf8, carried, numbers)
        used = [*self.used.of_the_pass(), *(self.used.carried.values() if carried else ())]
        parts = self.content.rows({column.path: self.columns[column.path] for column in used}, only_files=only_files)
        frames = [
            documents_of(rows, self.source, self.used, {**self.columns, **columns}, shape) for rows, columns in parts
        ]
        return reduce(DataFrame.unionByName, frames)

    def ids(self) -> DataFrame:
        """Read doc_id of the rows that have one; reads no text if there is a column of ids."""
        return self.documents().select(DOC_ID).where(F.col(DOC_ID) != "")

    def stream(self, *, by_row: bool = False) -> DataFrame:
        """Follow the input as a stream: new files, or rows appended to the Delta table, only.

        Args:
            by_row: the number of each row in its file in place of the text, for `text_column`.

        Returns:
            The shape of `documents(leave_utf8=True, numbers=True)`; with `by_row` see `Shape`.
        """
        used = [column for column in self.used.of_the_pass() if not (by_row and column is self.used.text)]
        columns = {column.path: self.columns[column.path] for column in used}
        options = {"row": TEXT_ROW} if by_row else {}
        rows = self.content.stream(columns, max_bytes=self.source.max_batch_bytes, **options)
        shape = Shape(leave_utf8=True, numbers=True, by_row=by_row)
        return documents_of(rows, self.source, self.used, self.columns, shape)

    def again(self, files: DataFrame) -> DataFrame:
        """Read documents of files that the stream has read, in the shape that it gives without `by_row`.

        Args:
            files: file; Parquet.
        """
        assert isinstance(self.content, InputFiles)
        rows = self.content.again({column.path: self.columns[column.path] for column in self.used.of_the_pass()}, files)
        return documents_of(rows, self.source, self.used, self.columns, Shape(leave_utf8=True, numbers=True))

    def text_column(self) -> TextColumn | None:
        """What reads the texts in Python workers, of `stream(by_row=True)`; None if Spark has to.

        That is the case without a column of ids, for other formats, other stores, and a text within a struct.
        """
        place = self.columns[self.used.text.path]
        is_local = hadoop_files.qualified(self.spark, self.source.path).startswith("file:")
        is_top = place.origin is Origin.ROWS and len(place.path) == 1 and "." not in place.path[0]
        if self.source.format != "parquet" or self.source.id is None or not (is_local and is_top):
            return None
        return TextColumn(place.path[0], self.source.max_text_bytes)
